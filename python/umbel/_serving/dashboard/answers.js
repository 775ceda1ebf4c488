// The three answers for somebody who is paged: who is slow, what is lost, is it us or Python? Plain rules over what history.js says.
// The first rule that fits decides. A verdict has no figures, so that it is read aloud only when it changes; they are in the detail.

import { most, quantile, sum } from "./history.js";
import { bytes, count, name, percent, plural, span } from "./text.js";

/** Milliseconds in which Python took nothing that waits, or gave no sign of life when it was asked for one. */
const BLOCKED = 500;

/** The same of a shard: it is never blocked, and may be busy for a while. */
const STUCK = 1000;

/** Milliseconds after which a reader is late. The server thinks so, too. */
const LATE = 1000;

/** Slow readers of which a snapshot tells at most. */
const LISTED = 20;

/** Milliseconds from publish to write, for half of all deliveries, and for all but one of a hundred. */
const ALL_LATE = 250;
const SOME_LATE = 500;

/** Milliseconds by which one of a hundred ticks begins too late. */
const TICKS_LATE = 50;

/** Parts of a thread's time, and of a limit. */
const BUSY = 0.85;
const FULL = 0.9;

/** Events that wait for Python all the time. */
const QUEUE = 20;

/** Seconds for which a verdict stays when things are better again. */
const CALM = 5;

const RANKS = ["good", "warn", "bad"];
export const worst = (all) => RANKS[Math.max(0, ...all.map(({ level }) => RANKS.indexOf(level)))];

const good = (verdict, ...detail) => answer("good", verdict, detail);
const warn = (verdict, ...detail) => answer("warn", verdict, detail);
const bad = (verdict, ...detail) => answer("bad", verdict, detail);
const answer = (level, verdict, detail) => ({ level, verdict, detail: detail.filter(Boolean).join(" ") });

/** What the rules say of a view: one answer for each question. */
export const judge = (view) => ({ slow: slow(view), lost: lost(view), fault: fault(view) });

// ------------------------------------------------------------------------------------------------------------- who is slow?

function slow({ now, lateness }) {
  const [half, nearly] = [quantile(lateness, 0.5), quantile(lateness, 0.99)];
  if (half >= ALL_LATE) {
    return bad("All readers wait.", `Half of what was written in the last seconds was published more than ${span(half)} before.`);
  }
  const late = (now.slow ?? []).filter((it) => waits(it) >= LATE);
  if (late.length) {
    const many = Math.max(late.length, now.blocked);
    const far = late.reduce((one, other) => (waits(other) > waits(one) ? other : one));
    const who = far.subject ? `${name(far.subject)} (client ${name(far.client)})` : `client ${name(far.client)}`;
    const where = far.channel ? ` in ${name(far.channel)}` : "";
    const say = now.blocked > 0.05 * now.connections && now.blocked > 10 ? bad : warn;
    return say("Some readers are slow.", `${count(many)}${many === LISTED ? " or more" : ""} of ${plural(now.connections, "connection")}. Farthest behind: ${who}${where}, by ${plural(far.lag, "publication")} and ${span(waits(far))}.`);
  }
  if (nearly >= SOME_LATE) {
    return warn("Some deliveries are late.", `One of a hundred was written more than ${span(nearly)} after its publish.`);
  }
  return good("Nobody.", nearly === null ? "Nothing was delivered in the last seconds." : `99 % of what is delivered is written within ${span(nearly)} of its publish.`);
}

/** Milliseconds for which the oldest publication waits for a reader, as far as anybody knows. */
const waits = ({ age, stalled }) => Math.max(age ?? 0, stalled ?? 0);

// ------------------------------------------------------------------------------------------------------------- what is lost?

/** Reasons of gaps: what has happened, and what helps. */
export const GAPS = {
  overrun: "readers were behind by more than a second and the history of the channel",
  burst: "more was published at once than burst_bytes",
  memory: "all channels together reached max_log_bytes",
  epoch: "clients came back after the server or the channel had begun anew",
};

/** Refusals that the clients have not caused, with the setting or function to look at. */
const TURNED_AWAY = {
  full: "max_connections", no_descriptor: "too few file descriptors", address: "max_connections_per_address",
  identity: "max_connections_per_identity", memory: "max_held_bytes", undecided: "authenticate is too slow", failed: "authenticate fails",
  internal: "a bug of Umbel",
};

/** Ends of connections that the server has chosen, because of what waited for the client or of its unfinished messages, with the setting. */
const TOO_SLOW = {
  not_reading: "write_timeout", too_far_behind: "the channel's history", unread_too_long: "max_held_bytes", held_too_long: "max_held_bytes",
  answers_not_read: "answers that wait",
};

function lost({ now, lately, kept, watched }) {
  const minutes = `In the last ${span(1000 * Math.max(1, Math.round(lately.seconds)))}`;
  if (lately.panics) return bad("Connections, by a bug of Umbel.", `${minutes}: ${count(lately.panics)}. Look for "panicked" in the log.`);
  if (sum(lately.gaps)) {
    return bad("Publications.", `${minutes}: ${count(lately.lost)} in ${plural(sum(lately.gaps), "gap")}, once for each client: ${reasons(lately.gaps, GAPS)}. Clients are told.`);
  }
  const away = reasons(lately.refused, TURNED_AWAY);
  if (away) return bad("New clients: they are turned away.", `${minutes}: ${away}.`);
  const closed = reasons(lately.closed, TOO_SLOW);
  if (closed) return warn("Slow connections.", `${minutes} they were closed: ${closed}. Their clients may come back.`);
  if (lately.trimmed) {
    return warn("Histories, for want of memory.", `${minutes} ${plural(lately.trimmed, "publication")} dropped: max_log_bytes is reached. Clients that come back miss them.`);
  }
  if (lately.logLinesDropped) return warn("Lines of the log.", `${minutes}: ${count(lately.logLinesDropped)}. Nobody reads stderr, or Python is blocked.`);
  const before = sum(kept.gaps) ? `Before, in the last ${span(1000 * kept.seconds)}: ${count(kept.lost)} in ${plural(sum(kept.gaps), "gap")}.` : "";
  const all = [sum(now.gaps) ? `${plural(now.lost, "publication")} in ${plural(sum(now.gaps), "gap")}` : "", reasons(now.refused, TURNED_AWAY), reasons(now.closed, TOO_SLOW)].filter(Boolean);
  const ever = all.length ? `Since the start ${span(1000 * now.uptimeSeconds)} ago: ${all.join("; ")}.` : "Nor since the start.";
  return good("Nothing.", watched < 1 ? "" : `${minutes} no gap, and no client turned away by a limit.`, before || ever);
}

/** Those of these reasons that were counted, most of them first. */
const reasons = (counters, meanings) => Object.entries(counters ?? {})
  .filter(([reason, value]) => reason in meanings && value > 0)
  .sort(([, one], [, other]) => other - one)
  .map(([reason, value]) => `${count(value)} × ${reason} (${meanings[reason]})`)
  .join("; ");

// ------------------------------------------------------------------------------------------------------- is it us or Python?

function fault(view) {
  const { now, python, waiting, lag } = view;
  const { queueAge = 0, silent = 0, queueEvents = 0 } = now.python ?? {};
  if (queueAge >= BLOCKED || silent >= BLOCKED) {
    const queued = queueEvents ? `${plural(queueEvents, "event")} wait${queueEvents === 1 ? "s" : ""}.` : "Nothing waits for it yet.";
    return bad("Python: it is blocked.", `Its event loop has done nothing for ${span(Math.max(queueAge, silent))}. ${queued} Deliveries and open channels go on. py-spy dump --pid ${now.pid} shows the function.`);
  }
  // While the server stops, a shard without clients has ended.
  const stuck = view.shards.findIndex(({ silent, connections }) => silent >= STUCK && (connections > 0 || !now.draining));
  if (stuck >= 0) {
    return bad("Umbel: a thread does not answer.", `Shard ${stuck} has not answered for ${span(view.shards[stuck].silent)}: its clients get nothing. The log may say why.`);
  }
  const late = quantile(lag, 0.99);
  const busiest = most(view.shards.map(({ busy }) => busy));
  if (late >= TICKS_LATE || busiest >= BUSY) {
    const ticks = `One of a hundred ticks begins ${span(late ?? 0)} late.`;
    if (busiest === null || busiest >= BUSY) {
      const shard = view.shards.findIndex(({ busy }) => busy === busiest);
      const which = busiest === null ? "" : `Shard ${shard} is busy ${percent(busiest)} of the time.`;
      return (late >= TICKS_LATE ? bad : warn)("Umbel: it is at its limit.", which, ticks, "Publish less, make the tick longer, or add cores or a server.");
    }
    return bad("Umbel: it does not get the processor.", ticks, `The busiest shard needs only ${percent(busiest)}: other programs use the cores, or a limit throttles this one.`);
  }
  if (python >= BUSY || waiting >= QUEUE) {
    const slowest = slowestOf(now.python.slowest);
    return warn("Python: it does not keep up.", python === null ? "" : `Events and functions take ${percent(python)} of its event loop.`, waiting ? `${plural(waiting, "event")} or more wait all the time.` : "", slowest);
  }
  const near = limits(now).filter(({ part }) => part >= FULL);
  if (near.length) {
    return warn("Neither, but a limit is near.", `${near.map(({ what, used, of, setting, write }) => `${what}: ${write(used)} of ${write(of)} (${setting})`).join("; ")}.`);
  }
  const ticks = late === null ? "" : `99 % of ticks begin within ${span(late)}.`;
  return good("Neither.", ticks, queueEvents ? `${plural(queueEvents, "event")} on the way to Python.` : "Nothing waits for Python.", busiest === null ? "" : `The busiest shard needs ${percent(busiest)} of a core.`);
}

function slowestOf(functions) {
  const [first] = [...(functions ?? [])].sort((one, other) => other.seconds - one.seconds);
  return first ? `Most of it in ${name(first.name)}: ${span((1000 * first.seconds) / Math.max(1, first.calls))} a call, at most ${span(first.max)}.` : "";
}

/** What is bounded, and how much of it is used. */
export function limits(now) {
  const all = [
    ["Connections", now.connections, now.mostConnections, "max_connections", count],
    ["Sessions away", now.sessionsAway, now.maxAway, "max_away", count],
    ["Bytes of all logs", now.logBytes, now.maxLogBytes, "max_log_bytes", bytes],
    ["Bytes held for clients", now.heldBytes, now.maxHeldBytes, "max_held_bytes", bytes],
    ["File descriptors", now.process?.openFiles, now.process?.maxFiles, "ulimit -n", count],
  ];
  return all.filter(([, used, of]) => used !== undefined && of > 0).map(([what, used, of, setting, write]) => ({ what, used, of, setting, write, part: used / of }));
}

// ---------------------------------------------------------------------------------------------------------------- and stays

/** The answer to show, after the one shown before: what is worse at once, what is better when it has been so for a while. Times are seconds. */
export function settle(shown, found, at) {
  if (shown && RANKS.indexOf(found.level) < RANKS.indexOf(shown.level) && at - shown.seen < CALM) {
    return { ...shown, detail: shown.detail.startsWith(OVER) ? shown.detail : `${OVER} ${shown.detail}` };
  }
  return { ...found, seen: at, since: shown?.verdict === found.verdict ? shown.since : at };
}

const OVER = "Until a moment ago:";
