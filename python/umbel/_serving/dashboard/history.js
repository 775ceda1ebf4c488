// What the snapshots of the last minutes say together: rates, quantiles, and what has changed. No clock, no page: time comes with the
// snapshots.

/** Seconds of which everything is kept. A snapshot comes each second. */
export const SPAN = 300;

/** Seconds over which "now" is judged: long enough for a quantile, short enough for a person who waits. */
const RECENT = 10;

/** Seconds of "in the last minute". */
const LATELY = 60;

/** What the plots show. `null` where nothing is known. */
const COLUMNS = [
  "connections", "away", "blocked", "publications", "received", "delivered", "frames", "payload", "sent", "ratio",
  "late50", "late99", "lag99", "duration99", "queue", "python", "processor", "busiest", "memory", "logs", "lost", "gaps", "refused",
];

/** Counters that are looked at over a minute and over all that is kept. */
const COUNTERS = ["gaps", "lost", "trimmed", "recovered", "unrecovered", "refused", "closed", "logLinesDropped", "panics"];

export class History {
  constructor() {
    this.at = [];
    this.columns = Object.fromEntries(COLUMNS.map((name) => [name, []]));
    /** For each second, how many deliveries were in each bucket of lateness. */
    this.heat = [];
    this.bounds = [];
    this.kept = [];
    this.recent = [];
    this.last = null;
  }

  /** Takes the next snapshot of one server. */
  add(now) {
    const before = this.last;
    const seconds = before ? uptime(now) - uptime(before) : 0;
    if (before && seconds <= 0) return;
    this.last = now;
    const rate = (name) => (before ? over(now[name] - before[name], seconds) : null);
    const part = (used) => (before ? over(used(now) - used(before), seconds) : null);
    const change = { seconds };
    for (const name of ["lateness", "tickLag", "tickDuration"]) change[name] = difference(now[name], before?.[name]);
    change.shards = (now.shards ?? []).map((shard, index) => {
      const was = before?.shards?.[index];
      const of = (name) => (was ? over(shard[name] - was[name], seconds) : null);
      // Milliseconds, the mean.
      const lag = was ? over(1000 * (shard.tickLagSeconds - was.tickLagSeconds), shard.ticks - was.ticks) : null;
      return { busy: of("busy"), delivered: of("delivered"), frames: of("frames"), bytesSent: of("bytesSent"), lag };
    });
    change.python = part((it) => it.python?.busySeconds);
    change.processor = part((it) => it.process?.cpuSeconds);
    this.recent.push(change);
    if (this.recent.length > RECENT) this.recent.shift();

    const sent = before ? now.bytesSent - before.bytesSent : 0;
    const gaps = sum(now.gaps);
    const row = {
      connections: now.connections, away: now.sessionsAway, blocked: now.blocked,
      publications: rate("publications"), received: rate("received"), delivered: rate("delivered"), frames: rate("frames"),
      payload: rate("payloadSent"), sent: rate("bytesSent"),
      // Of nearly nothing it says nothing.
      ratio: sent > 1000 ? (now.payloadSent - before.payloadSent) / sent : null,
      late50: quantile(change.lateness, 0.5), late99: quantile(change.lateness, 0.99),
      lag99: quantile(change.tickLag, 0.99), duration99: quantile(change.tickDuration, 0.99),
      queue: now.python?.queueEvents, python: change.python, processor: change.processor,
      busiest: most(change.shards.map(({ busy }) => busy)),
      memory: now.process?.residentBytes, logs: now.logBytes,
      lost: rate("lost"), gaps: before ? over(gaps - sum(before.gaps), seconds) : null,
      refused: before ? over(sum(now.refused) - sum(before.refused), seconds) : null,
    };
    this.bounds = now.lateness?.bounds ?? [];
    this.put(time(now), row, change.lateness?.counts ?? null);
    this.kept.push({ at: uptime(now), ...Object.fromEntries(COUNTERS.map((name) => [name, now[name]])) });
    if (this.kept.length > SPAN + 1) this.kept.shift();
  }

  /** Nothing is known from here to the next snapshot. */
  hole() {
    if (this.at.length) this.put(this.at.at(-1) + 0.5, {}, null);
  }

  put(at, row, heat) {
    this.at.push(Math.max(at, (this.at.at(-1) ?? 0) + 0.001));
    for (const name of COLUMNS) this.columns[name].push(row[name] ?? null);
    this.heat.push(heat);
    while (this.at.length > SPAN + 1 || this.at[0] < at - SPAN) {
      for (const column of [this.at, this.heat, ...Object.values(this.columns)]) column.shift();
    }
  }

  /** What is judged: the newest snapshot, what it was like in the last seconds, and what has changed. */
  view() {
    const now = this.last;
    const spread = (name) => this.recent.map((change) => change[name]).reduce(together, null);
    const mean = (pick) => {
      const known = this.recent.filter((change) => pick(change) !== null && pick(change) !== undefined);
      return over(known.reduce((all, change) => all + pick(change) * change.seconds, 0), known.reduce((all, { seconds }) => all + seconds, 0));
    };
    return {
      now,
      watched: uptime(now) - this.kept[0].at,
      lateness: spread("lateness"), lag: spread("tickLag"),
      python: mean(({ python }) => python),
      processor: mean(({ processor }) => processor),
      shards: (now.shards ?? []).map((shard, index) => ({
        ...shard,
        busy: mean(({ shards }) => shards[index]?.busy),
        lag: mean(({ shards }) => shards[index]?.lag),
        rates: this.recent.at(-1).shards[index],
      })),
      /** The fewest events that waited for Python in the last seconds: a queue that is emptied again is no queue. */
      waiting: least(this.columns.queue.slice(-5)),
      lately: this.since(LATELY),
      kept: this.since(SPAN),
    };
  }

  /** By how much counters have changed in these seconds, or since the first snapshot. */
  since(seconds) {
    const from = this.kept.find(({ at }) => at >= uptime(this.last) - seconds - 0.5);
    const changed = { seconds: uptime(this.last) - from.at };
    for (const name of COUNTERS) {
      const [now, before] = [this.last[name], from[name]];
      if (typeof now === "object" && now) {
        changed[name] = Object.fromEntries(Object.entries(now).map(([key, value]) => [key, value - (before?.[key] ?? 0)]));
      } else changed[name] = (now ?? 0) - (before ?? 0);
    }
    return changed;
  }
}

/** Seconds, by a clock that nobody sets. */
export const uptime = (snapshot) => snapshot.uptimeSeconds;

/** Unix seconds, by the same clock. */
export const time = (snapshot) => snapshot.started / 1000 + snapshot.uptimeSeconds;

/** Whether two snapshots are of the same life of a server. */
export const isSame = (one, other) => one.pid === other.pid && one.started === other.started;

export const sum = (counters) => Object.values(counters ?? {}).reduce((all, value) => all + value, 0);

/** About where a quantile lies, as if all in a bucket were spread evenly; `null` when nothing was recorded. */
export function quantile(histogram, part) {
  const total = histogram ? histogram.counts.reduce((all, value) => all + value, 0) : 0;
  if (!total) return null;
  const { bounds, counts } = histogram;
  let seen = 0;
  const index = counts.findIndex((value) => (seen += value) >= part * total && value > 0);
  // Nobody knows how far the last bucket reaches.
  if (index >= bounds.length) return bounds.at(-1);
  const below = index ? bounds[index - 1] : 0;
  return bounds[index] - ((bounds[index] - below) * (seen - part * total)) / counts[index];
}

const over = (change, seconds) => (seconds > 0 && Number.isFinite(change) ? Math.max(0, change / seconds) : null);

const known = (values) => values.filter((value) => value !== null && value !== undefined);
export const most = (values) => (known(values).length ? Math.max(...known(values)) : null);
export const least = (values) => (known(values).length ? Math.min(...known(values)) : null);

function difference(now, before) {
  if (!now || !before) return null;
  return { bounds: now.bounds, counts: now.counts.map((value, index) => Math.max(0, value - (before.counts[index] ?? 0))) };
}

function together(one, other) {
  if (!one || !other) return one ?? other ?? null;
  return { bounds: one.bounds, counts: one.counts.map((value, index) => value + (other.counts[index] ?? 0)) };
}
