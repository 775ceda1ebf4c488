/**
 * The client of Umbel for browsers, workers and Node.js: it comes back by itself, and says what it missed.
 *
 *     import { connect } from "/umbel/client.js";
 *     const umbel = connect();
 *     for await (const update of umbel.subscribe("task:42")) show(update.data);
 *
 * This file is served as it is. What users call is described in umbel.d.ts, what is inside in machine.d.ts. It is written in the
 * JavaScript of 2019, so that older browsers get a sentence and no syntax error.
 *
 * @module umbel
 */
/** @import * as Face from "./umbel.d.ts" */
/** @import * as Inside from "./machine.d.ts" */
/** @import { Channel, Place, Reader, Route, Socket } from "./machine.d.ts" */

// ================================================================================================================= machine
// What a client does, without sockets, clocks and chance. Events go in, each with the time in milliseconds. `actions` says what
// has to be done, in order, and `deadline` when `tick` has to be called. The Python client has a machine that does the same; both
// are tested with clients/vectors.

/** @type {Inside.Settings} */
const DEFAULTS = {
  askToken: false,
  token: null,
  window: 1000,
  base: 1000,
  factor: 2,
  cap: 30_000,
  useful: 10_000,
  failing: 5,
  attempts: 5,
  attemptsIn: 10_000,
  attemptTimeout: 10_000,
  answerTimeout: 10_000,
  probeTimeout: 5_000,
  late: 1_000,
  queue: 1_000,
  queueSize: 1 << 20,
  queueAge: 60_000,
};

/** @type {() => Inside.Line} */
const createLine = () => {
  let numbers = 0;
  /** @type {Inside.Line} */
  const line = {
    actions: [],
    attempt: 0,
    connected: false,
    number: () => (numbers += 1),
    act(...action) { line.actions.push(action); },
    say(text) { line.act("send", line.attempt, text); },
    send(message) { line.say(JSON.stringify(message)); },
  };
  return line;
};

/** @type {Inside.CreateRequests} */
const createRequests = (line, options, attach) => {
  const { act, say, send } = line;
  /** @type {Map<number, Inside.Request>} */
  const queue = new Map();
  /** @type {typeof queue} */
  let sent = new Map();
  let size = 0;
  let lostAt = Infinity;

  /** @type {(key: number, request: Inside.Request, ok: boolean, value: unknown) => void} */
  const settle = (key, { given }, ok, value) => { if (!given) act("settled", key, ok, value); };

  /** @type {(key: number, request: Inside.Request, code: string, message?: string, details?: unknown) => void} */
  const fail = (key, request, code, message = code, details = null) => settle(key, request, false, { code, message, details });

  const take = (/** @type {number} */ key) => {
    const request = /** @type {Inside.Request} */ (queue.get(key));
    queue.delete(key);
    size -= request.text.length;
    return request;
  };

  const drop = (/** @type {number} */ key, /** @type {string} */ code) => fail(key, take(key), code);

  /** @type {Inside.Requests} */
  const requests = {
    window: 64,
    add(now, kind, message, volatile) {
      const key = line.number();
      const text = JSON.stringify({ ...message, id: key });
      queue.set(key, { kind, text, expires: now + options.queueAge, given: false });
      size += text.length;
      requests.flush();
      if (queue.has(key)) {
        if (volatile) drop(key, "expired");
        else if (queue.size > options.queue || size > options.queueSize) drop(key, "queue_full");
      }
      return key;
    },
    cancel(key) {
      const request = sent.get(key);
      if (queue.has(key)) drop(key, "cancelled");
      else if (request && !request.given) {
        fail(key, request, "cancelled");
        if (request.kind === "run" && line.connected) send({ type: "ai_cancel", data: { request: key } });
        // Until its answer comes, the server counts it, so it is repeated, too. A run that has begun in spite of that is stopped
        // when the answer names it.
        request.given = true;
      }
    },
    flush() {
      for (const [key, { text }] of queue) {
        if (!line.connected || sent.size >= requests.window) return;
        sent.set(key, take(key));
        say(text);
      }
    },
    answered(message) {
      const { id: key, type, channel, offset, epoch } = message;
      const request = sent.get(key);
      if (!request) return false;
      const { kind, given } = request;
      if (type === "error") fail(key, request, message.code, message.message, message.details);
      else if (kind === "publish") {
        if (typeof offset !== "number") throw new Error("a publication has an offset");
        settle(key, request, true, { channel, offset });
      } else if (kind === "change") settle(key, request, true, { ...positionOf(message), resolved: message.resolved });
      else if (type !== "subscription_established") settle(key, request, true, message.data);
      else if (kind === "run") {
        const subscription = attach(message, given);
        settle(key, request, true, { subscription, channel, epoch });
      } else settle(key, request, true, { channel, epoch });
      sent.delete(key);
      requests.flush();
      return true;
    },
    connected(resumed) {
      lostAt = Infinity;
      if (!resumed) requests.lose();
      for (const { text } of sent.values()) say(text);
    },
    disconnected(at) {
      if (sent.size) lostAt = Math.min(lostAt, at);
    },
    lose() {
      const those = sent;
      sent = new Map();
      lostAt = Infinity;
      for (const [key, request] of those) fail(key, request, "outcome_unknown");
    },
    dropAll(code) {
      requests.lose();
      for (const key of queue.keys()) drop(key, code);
    },
    expire(now) {
      if (now >= lostAt) requests.lose();
      for (const [key, { expires }] of queue) {
        if (now < expires) return;
        drop(key, "expired");
      }
    },
    deadline() {
      const [first] = queue.values();
      return first ? Math.min(lostAt, first.expires) : lostAt;
    },
  };
  return requests;
};

/**
 * A channel has a position: its next update from the server continues that. Each of its subscriptions has a position of its own,
 * and gets what comes after that. A subscription whose position is before that of the channel, or that has none yet, needs the
 * channel to be subscribed anew, with `restart`, at its position.
 *
 * @type {Inside.CreateChannels}
 */
const createChannels = (line) => {
  const { act, number, send } = line;
  /** The private channel on the wire. Here it is `@`, whatever the client's id is. */
  let mine = "@";
  /** @type {Map<string, Channel>} */
  const channels = new Map();
  /** Of each subscription. @type {Map<number, Channel>} */
  const of = new Map();
  /** What the server may not know yet: the number of the message that says it, 0 when there was none. @type {Map<string, number>} */
  let leaving = new Map();

  const find = (/** @type {string} */ name) => channels.get(name === mine ? "@" : name);

  const channelOf = (/** @type {string} */ wire) => {
    let channel = find(wire);
    if (!channel) {
      const name = wire === mine ? "@" : wire;
      channel = { name, subscriptions: [], epoch: "", offset: 0, mended: false, ...UNASKED };
      channels.set(name, channel);
    }
    return channel;
  };

  /** @type {(channel: Channel, position: Place, begun: boolean) => number} */
  const add = (channel, { epoch, offset }, begun) => {
    const id = number();
    channel.subscriptions.push({ id, epoch, offset, begun, reason: "" });
    of.set(id, channel);
    ask(channel);
    return id;
  };

  /** Asks for channels: from a position, or as a newcomer. @type {(those: Channel[], named?: Place | null) => void} */
  const request = (those, named = null) => {
    const id = number();
    const names = those.map(({ name }) => name);
    for (const channel of those) Object.assign(channel, { asked: id, named });
    send({ type: "subscribe_updates", id, ...(named ? { channel: names[0], ...named } : { channels: names }), restart: true });
  };

  /** Asks for a channel anew, if a subscription needs it. Newcomers wait in `later`. @type {(channel: Channel, later?: Channel[]) => void} */
  const ask = (channel, later) => {
    if (!line.connected || channel.asked !== null) return;
    const { live, epoch, offset } = channel;
    // An offset below 0 is that of the channel.
    const needy = channel.subscriptions.filter((it) => !(live && (it.offset < 0 ? Object.assign(it, { epoch, offset, begun: true }) : it.begun && it.epoch === epoch && it.offset >= offset)));
    if (channel.name === "@") {
      // Nobody can subscribe to it: it is there from the first direct message on.
      if (live) for (const it of needy) place(channel, it, offset, false, it.epoch === epoch ? "overrun" : "epoch", false);
    } else if (needy.some((it) => !it.epoch)) {
      if (later) later.push(channel);
      else request([channel]);
    } else if (needy.length) request([channel], least(needy));
  };

  /**
   * Gives a subscription its position after an answer: its own when that is kept, or else the channel's.
   *
   * @type {(channel: Channel, it: Reader, top: number, kept: boolean, reason: string, away: boolean, anew?: number) => void}
   */
  const place = (channel, it, top, kept, reason, away, anew) => {
    const { epoch } = channel;
    const { offset } = kept ? it : channel;
    const newcomer = !it.begun && !it.epoch && !it.reason;
    const told = { ...(newcomer ? {} : { recovered: kept }), ...(channel.state ? { state: true } : {}) };
    if (away || !it.begun) act("begun", it.id, { position: { epoch, offset }, top, ...told });
    it.begun = true;
    if (kept || newcomer) Object.assign(it, { epoch, offset });
    else lose(channel, it, reason, offset, anew === undefined && (reason === "trimmed" || reason === "overrun"), anew);
  };

  /** @type {(channel: Channel, it: Reader, reason: string, to: number, known?: boolean, top?: number) => void} */
  const lose = ({ epoch }, it, reason, to, known = true, top) => {
    act("gap", it.id, { reason, epoch, from: known ? it.offset : null, to, top });
    Object.assign(it, { epoch, offset: to });
  };

  /** What the server says of a channel does not continue its position: begins there anew, once on each connection. */
  const mend = (/** @type {Channel} */ channel, /** @type {string} */ what, /** @type {number} */ before) => {
    if (channel.asked !== null) return;
    const defect = `the server has a defect: in ${channel.name}, ${what} came after ${before}`;
    if (channel.mended || channel.name === "@") throw new Error(defect);
    act("warn", defect);
    channel.mended = true;
    request([channel], least([channel]));
  };

  /** @type {(channel: Channel, reason: object, stays?: (it: Reader) => boolean) => void} */
  const end = (channel, reason, stays = () => false) => {
    const those = channel.subscriptions;
    channel.subscriptions = those.filter(stays);
    for (const it of those) {
      if (stays(it)) continue;
      of.delete(it.id);
      act("ended", it.id, reason);
    }
    leaveIfEmpty(channel);
  };

  const leaveIfEmpty = (/** @type {Channel} */ { name, subscriptions, live, asked }) => {
    if (subscriptions.length || name === "@") return;
    channels.delete(name);
    if (!line.connected) leaving.set(name, 0);
    else if (live || asked !== null) sayLeave(name);
  };

  const sayLeave = (/** @type {string} */ name) => {
    const id = number();
    leaving.set(name, id);
    send({ type: "unsubscribe_updates", id, channel: name });
  };

  const left = (/** @type {string} */ name, /** @type {number} */ answer) => {
    if (leaving.get(name) === answer) leaving.delete(name);
  };

  /** @type {Inside.Channels} */
  const all = {
    again: false,
    subscribe: (name, position) => add(channelOf(name.startsWith("@") ? mine : name), position, false),
    unsubscribe(id) {
      const channel = of.get(id);
      if (!channel) return;
      of.delete(id);
      channel.subscriptions = channel.subscriptions.filter((it) => it.id !== id);
      leaveIfEmpty(channel);
    },
    attach(message, stop) {
      const channel = channelOf(message.channel);
      const { epoch, offset } = positionOf(message);
      if (!channel.live) Object.assign(channel, { live: true, epoch, offset });
      if (!stop) return add(channel, { epoch, offset: 0 }, true);
      send({ type: "ai_cancel", data: { runId: runIdOf(channel.name) } });
      leaveIfEmpty(channel);
      return 0;
    },
    batch(updates) {
      /** @type {Map<number, any[]>} */
      const ready = new Map();
      try {
        for (const update of updates) {
          const channel = find(update.channel);
          if (!channel || !channel.live) continue;
          const { epoch, offset: before } = channel;
          const { offset, from = offset - 1 } = update;
          if (typeof offset !== "number") throw new Error("an update has an offset");
          if (from !== before || offset <= before) {
            mend(channel, `an update to ${offset}`, before);
            continue;
          }
          channel.offset = offset;
          for (const it of channel.subscriptions) {
            if (before > it.offset || it.offset >= offset || it.epoch !== epoch || !it.begun) continue;
            it.offset = offset;
            const those = ready.get(it.id);
            if (those) those.push(update);
            else ready.set(it.id, [update]);
          }
        }
      } finally {
        for (const [id, those] of ready) act("updates", id, those);
      }
    },
    gap({ channel: name, epoch, from, to, reason, top }) {
      const channel = find(name);
      if (!channel || !channel.live) return;
      const { epoch: former, offset: before } = channel;
      const position = positionOf({ epoch, offset: to });
      if (from !== before) return mend(channel, `a gap from ${from}`, before);
      Object.assign(channel, position);
      for (const it of channel.subscriptions) {
        const known = it.epoch === former;
        // With a top it is a state, all of which follows: wherever they were.
        if (!it.begun || (top === undefined && (!known || it.offset < before))) continue;
        if (reason === "turn") lose(channel, it, reason, it.offset);
        else if (top !== undefined || former !== epoch || it.offset < to) lose(channel, it, reason, to, known, top);
      }
    },
    established(message) {
      const { channel: name, id: answer = 0, top, reason = "epoch", state } = message;
      // The answer to a wish of the past.
      if (!find(name) && (answer || leaving.has(name))) return;
      const channel = channelOf(name);
      const { named, live, asked } = channel;
      if (answer !== (asked || 0) || (asked === null && live)) return;
      Object.assign(channel, UNASKED, positionOf(message), { live: true, state });
      const { recovered = !named } = message;
      for (const it of channel.subscriptions) {
        // All of a state follows, for all of them: nobody says what was removed.
        if (state && !recovered) place(channel, it, top, false, it.epoch ? reason : it.reason || reason, !live, top);
        // An answer speaks of the log that was named, from the position that was named up to the top.
        else if (named) {
          if (it.epoch !== named.epoch || it.offset < named.offset || it.offset > Math.max(named.offset, top)) continue;
          place(channel, it, top, recovered || (reason === "trimmed" && it.offset >= channel.offset), reason, !live);
        } else if (!it.epoch) place(channel, it, top, false, it.reason, !live);
      }
      ask(channel);
    },
    ended({ channel: name, id, reason }) {
      const channel = find(name);
      if (id !== undefined) left(name, id);
      else if (channel) {
        // A newcomer may have asked for the channel, and waits for the answer to that.
        const asked = channel.asked || null;
        Object.assign(channel, { live: false, epoch: "", asked });
        end(channel, { reason }, (it) => !it.begun && asked !== null);
      }
    },
    error({ channel: name, id: answer = 0, code, message }) {
      const channel = find(name);
      left(name, answer);
      for (const it of channel ? [channel] : answer ? [...channels.values()] : []) {
        if (it.asked !== answer) continue;
        it.asked = it.named = null;
        end(it, { reason: message, code }, ({ begun }) => begun && (code === "timeout" || code === "internal"));
        all.again = all.again || it.subscriptions.length > 0;
      }
    },
    resume() {
      /** @type {Record<string, Place>} */
      const positions = {};
      for (const channel of channels.values()) {
        const own = channel.subscriptions.filter((it) => it.epoch);
        const named = least(own.length ? own : [channel]);
        if (!named.epoch) continue;
        positions[channel.name === "@" ? mine : channel.name] = named;
        Object.assign(channel, { asked: 0, named });
      }
      return positions;
    },
    connected(clientId, resuming, same) {
      const own = channels.get("@");
      if (own && mine !== `@${clientId}`) forget(own, "session_lost");
      mine = `@${clientId}`;
      for (const channel of channels.values()) {
        if (!same) forget(channel, "subject");
        if (channel.subscriptions.length || (resuming && same)) continue;
        // The server had subscribed the client. It does so again if it wants to.
        channels.delete(channel.name);
        if (channel.name !== "@") leaving.set(channel.name, 0);
      }
      const those = leaving;
      leaving = new Map();
      if (resuming) for (const name of those.keys()) if (!channels.has(name)) sayLeave(name);
      all.askAll();
    },
    disconnected() {
      all.again = false;
      for (const channel of channels.values()) Object.assign(channel, UNASKED, { mended: false });
    },
    endAll(reason) {
      for (const channel of channels.values()) end(channel, reason);
      mine = "@";
      for (const those of [channels, of, leaving]) those.clear();
      all.again = false;
    },
    askAll() {
      all.again = false;
      /** @type {Channel[]} */
      const later = [];
      for (const channel of channels.values()) ask(channel, later);
      while (later.length) request(later.splice(0, MOST_AT_ONCE));
    },
  };
  return all;
};

/** The position in a message, or in what an application saved. */
const positionOf = (/** @type {any} */ { epoch, offset }) => {
  if (typeof epoch !== "string" || typeof offset !== "number") throw new Error("a position is an epoch and an offset");
  return { epoch, offset };
};

/** The first position in the log of the first of those. @type {(those: Place[]) => Place} */
const least = (those) => {
  const [{ epoch }] = those;
  return { epoch, offset: Math.min(...those.filter((it) => it.epoch === epoch).map(({ offset }) => offset)) };
};

/** Forgets the positions in a channel. */
const forget = (/** @type {Channel} */ channel, /** @type {string} */ reason) => {
  Object.assign(channel, UNASKED, { epoch: "" });
  for (const it of channel.subscriptions) Object.assign(it, { epoch: "", reason: it.reason || (it.epoch && reason) });
};

const UNASKED = { live: false, asked: null, named: null };

const runIdOf = (/** @type {string} */ channel) => channel.slice("run:".length);

/** One client: states, attempts, liveness, the token, and whose session it is. @type {typeof Face.createMachine} */
export const createMachine = (given, random) => {
  /** @type {Inside.Settings} */
  const options = { ...DEFAULTS, ...given };
  const line = createLine();
  const { act, send } = line;
  const channels = createChannels(line);
  const requests = createRequests(line, options, channels.attach);
  let state = "idle";
  let { window } = options;
  /** Of the newest attempts. @type {number[]} */
  let starts = [];
  let failures = 0;
  /** The reason of the last close. @type {{ code?: number, reason?: string }} */
  let last = {};
  // While it waits, the time of the next attempt. Otherwise, when an answer is `demanded`, or when one will be if nothing comes.
  let due = Infinity;
  let demanded = false;
  let againAt = Infinity;
  let tries = 0;
  let connectedAt = 0;
  let heartbeat = 0;
  /** @type {string | null} */
  let token = null;
  let asking = false;
  /** @type {string | null} */
  let refused = null;
  let refusals = 0;
  /** Undefined: nobody yet. @type {unknown} */
  let subject;
  /** @type {{ token: string, ttl: number } | null} */
  let session = null;
  let resumes = 0;
  let resuming = false;

  const asks = (/** @type {number} */ ticket) => asking && !line.connected && ticket === line.attempt;

  const isCurrent = (/** @type {number} */ attempt) => attempt === line.attempt && (state === "connecting" || line.connected);

  const setState = (/** @type {string} */ next, /** @type {object} */ detail) => act("state", (state = next), detail);

  const earliest = () => (starts.length < options.attempts ? 0 : starts[0] + options.attemptsIn);

  const wait = (/** @type {number} */ at) => {
    due = Math.max(at, earliest());
    setState("waiting", { ...last, at: due, failing: failures >= options.failing });
  };

  /** Begins an attempt, or waits until there may be one. */
  const begin = (/** @type {number} */ now) => {
    if (now < earliest()) return wait(now);
    starts = [...starts, now].slice(-options.attempts);
    line.attempt += 1;
    due = now + options.attemptTimeout;
    setState("connecting", {});
    asking = options.askToken;
    if (!asking) token = options.token;
    act(asking ? "askToken" : "open", line.attempt);
  };

  const jitter = (/** @type {number} */ turn) => random() * Math.min(options.cap, options.base * options.factor ** Math.min(turn, 30));

  const demand = (/** @type {number} */ by) => {
    demanded = true;
    due = by;
    send({ type: "heartbeat" });
  };

  const heard = (/** @type {number} */ now) => {
    demanded = false;
    due = heartbeat ? now + heartbeat : Infinity;
  };

  const away = (/** @type {number} */ now) => {
    line.connected = asking = resuming = demanded = false;
    due = againAt = Infinity;
    channels.disconnected();
    requests.disconnected(now + (session ? session.ttl * 1000 : 0));
  };

  const close = (/** @type {number} */ code, /** @type {string} */ reason) => {
    away(0);
    session = null;
    subject = undefined;
    requests.dropAll("closed");
    setState("closed", (last = { code, reason }));
    channels.endAll({ reason, code: "closed" });
  };

  /** The socket is gone. @type {(now: number, code: number, reason: string) => void} */
  const lost = (now, code, reason) => {
    if (line.connected && now - connectedAt >= options.useful) failures = 0;
    away(now);
    last = { code, reason };
    // A token that is always the same one will be refused again.
    if (FOR_GOOD.includes(code) || (code >= 4500 && code <= 4999) || (code === 4401 && !options.askToken)) return close(code, reason);
    let delay = failures ? jitter(failures - 1) : random() * window;
    if (code === 4401) {
      refused = token;
      refusals += 1;
      if (refusals === 2) act("warn", "the server has refused two tokens in a row");
      if (refusals > 1) delay = (options.cap * (1 + random())) / 2;
    }
    failures += 1;
    wait(now + delay);
  };

  /** The server has let the client in. Who the client is now is decided before anything is sent. */
  const established = (/** @type {number} */ now, /** @type {any} */ message) => {
    const { clientId, resumed = false } = message;
    const same = subject === undefined || message.subject === subject;
    if (!resumed) {
      session = message.session || null;
      resumes = 0;
    }
    subject = message.subject;
    heartbeat = message.heartbeat * 1000;
    window = message.reconnectWindow;
    connectedAt = now;
    refusals = tries = 0;
    heard(now);
    line.connected = true;
    requests.window = message.maxUnanswered || 64;
    setState("connected", { clientId, subject, resumed });
    if (!same) requests.dropAll("cancelled");
    requests.connected(resumed);
    channels.connected(clientId, resuming, same);
    resuming = false;
    requests.flush();
  };

  /** @type {(now: number, message: any) => void} */
  const dispatch = (now, message) => {
    const { type } = message;
    if (type === "connection_established") {
      if (!line.connected) established(now, message);
    } else if (!line.connected) {
      if (type !== "error") throw new Error(`the first message is ${type}`);
    } else if (type === "reconnect") window = message.within;
    else if (type === "gap") channels.gap(message);
    else if (requests.answered(message)) return;
    else if (type === "subscription_established") channels.established(message);
    else if (type === "subscription_ended") channels.ended(message);
    else if (type === "error") {
      channels.error(message);
      if (channels.again && againAt === Infinity) againAt = now + jitter(tries++);
      if (message.id === undefined && message.channel === undefined) act("warn", `${message.code}: ${message.message}`);
    }
  };

  /** @type {(now: number, kind: string, message: object, volatile?: boolean) => number} */
  const add = (now, kind, message, volatile) => {
    const key = requests.add(now, kind, message, volatile);
    if (state === "closed") requests.dropAll("closed");
    return key;
  };

  /** @type {Face.Machine} */
  const machine = {
    actions: line.actions,
    share: 0,
    get deadline() {
      return Math.min(due, againAt, requests.deadline());
    },

    // ---- what the application wants

    connect(now) {
      if (state !== "idle" && state !== "closed") return;
      failures = refusals = 0;
      begin(now);
    },
    close() {
      if (isCurrent(line.attempt)) act("drop", line.attempt, 1000);
      if (state !== "closed") close(1000, CLOSED.reason);
    },
    subscribe(_, channel, position) {
      const id = channels.subscribe(channel, position || { epoch: "", offset: 0 });
      if (state === "closed") channels.endAll(CLOSED);
      return id;
    },
    unsubscribe(_, id) { channels.unsubscribe(id); },
    request: (now, type, data, volatile) => add(now, "request", { type, data }, volatile),
    publish: (now, channel, data, key, volatile) =>
      add(now, "publish", { type: "publish", channel, data, ...(key == null ? {} : { key }) }, volatile),
    present: (now, channel, change, volatile) =>
      add(now, "request", { type: "presence_update", channel, ...change }, volatile),
    change: (now, message) => add(now, "change", message),
    run: (now, type, data) => add(now, "run", { type, data }),
    cancel(_, key) { requests.cancel(key); },

    // ---- what happens

    token(now, ticket, value = null) {
      if (!asks(ticket)) return;
      asking = false;
      if (value !== null && value === refused) {
        act("warn", "the token function returned the token that was refused");
        lost(now, 1006, "the token was refused before");
      } else {
        token = value;
        act("open", ticket);
      }
    },
    tokenFailed(now, ticket, error) {
      if (!asks(ticket)) return;
      const reason = `the token function failed: ${error}`;
      act("warn", reason);
      lost(now, 1006, reason);
    },
    opened(_, attempt, protocol) {
      if (!isCurrent(attempt) || line.connected) return;
      const who = token === null ? {} : { token };
      if (!PROTOCOLS.includes(protocol)) {
        act("drop", attempt, 4400);
        close(1002, "the server speaks another protocol");
      } else if (protocol !== PROTOCOLS[0]) {
        if (token !== null) act("warn", "the server is too old to be told a token");
      } else if (!session) send({ type: "authenticate", ...who });
      else {
        resumes += 1;
        resuming = true;
        send({ type: "resume", session: session.token, attempt: resumes, positions: channels.resume(), ...who });
      }
    },
    received(now, attempt, text) {
      if (!isCurrent(attempt)) return;
      if (line.connected) heard(now);
      try {
        const message = JSON.parse(text);
        if (typeof message.type !== "string") throw new Error("a message has a type");
        if (message.type === "batched_updates" && line.connected) {
          machine.share = text.length / message.updates.length;
          channels.batch(message.updates);
        } else dispatch(now, message);
      } catch (error) {
        const reason = "the server breaks the protocol";
        act("warn", `${reason}: ${/** @type {Error} */ (error).message}`);
        act("drop", attempt, 4400);
        lost(now, 4400, reason);
      }
    },
    closed(now, attempt, code, reason) {
      if (isCurrent(attempt)) lost(now, code, reason);
    },
    failed(now, attempt, reason, fatal) {
      if (!isCurrent(attempt) || line.connected) return;
      if (fatal) close(1002, reason);
      else lost(now, 1006, reason);
    },
    probe(now) {
      const by = now + options.probeTimeout;
      if (state === "waiting") begin(now);
      else if (line.connected) {
        if (!demanded || now >= due || due > by) demand(by);
      } else if (due <= now) due = by;
    },
    tick(now) {
      if (now >= due) {
        if (state === "waiting") begin(now);
        else if (line.connected && !demanded) demand(now + options.answerTimeout);
        else if (now - due > options.late) machine.probe(now);
        else {
          act("drop", line.attempt, 4408);
          lost(now, 4408, "no answer from the server");
        }
      }
      if (now >= againAt) {
        againAt = Infinity;
        channels.askAll();
      }
      requests.expire(now);
    },
  };
  return machine;
};

const CLOSED = { reason: "closed by the application", code: "closed" };

/** Close codes below 4000 after which a client does not come back. */
const FOR_GOOD = [1000, 1002, 1003, 1007, 1009];

/** Channels that one message may name. */
const MOST_AT_ONCE = 128;

const PROTOCOLS = ["umbel.v1.first", "umbel.v1"];

// =================================================================================================================== client

/** Calls a function. What one of the application throws disturbs nobody else. @type {(handler: Function | undefined, ...values: unknown[]) => void} */
const call = (handler, ...values) => {
  try {
    if (handler) handler(...values);
  } catch (error) {
    (world.reportError || console.error)(error);
  }
};

/** @type {any} */
const world = typeof self === "object" ? self : globalThis;

export class UmbelError extends Error {
  /** @param {{ code: string, message?: string, details?: unknown }} answer */
  constructor({ code, message, details }) {
    super(message || code);
    this.name = "UmbelError";
    this.code = code;
    this.details = details;
  }
}

/** @type {typeof Face.createClient} */
export const createClient = (url, options = {}) => {
  let machine = createMachine({}, Math.random);
  /** @type {Face.Connection} */
  let connection = Object.freeze({ state: "idle" });
  let performing = false;
  /** @type {Socket | null} */
  let socket = null;
  /** Where sessions on streams begin. Empty: there are none. */
  let fallback = "";
  /** @type {Route} */
  let route;
  /** What carries this attempt. @type {"websocket" | "stream"} */
  let transport = "websocket";
  // When the server let the client in on it, and whether it said more then.
  let since = 0;
  let more = false;
  // The next attempt is carried by something else, so it has nothing to wait for.
  let hurry = false;
  /** The newest attempt. */
  let newest = 0;
  /** What waits for an answer or for updates, by its number. @type {Map<number, any>} */
  const waiting = new Map();
  /** @type {Set<[string, Function]>} */
  const handlers = new Set();
  /** Ends the listeners. @type {AbortController | undefined} */
  let listening;
  /** Ends the call of the token function that is under way. @type {AbortController | undefined} */
  let asking;
  let over = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  // The moment for which the timer is set, on the monotonic clock, and what the wall clock is ahead of that.
  let due = 0;
  let ahead = 0;
  // How often in a row a probe was sent because time had jumped.
  let doubts = 0;
  // What has arrived was read: a timer that is due may come before that, and then a healthy server seems to be silent.
  let looked = false;
  /** Warnings of this time without a connection: each attempt may have the same. @type {Set<string>} */
  const said = new Set();
  // The page is in the back/forward cache: nothing is opened.
  let frozen = false;

  // ---- what happens goes into the machine, and what it says is done

  /** @type {(input: keyof Face.Machine, ...values: unknown[]) => number} */
  const enter = (input, ...values) => /** @type {any} */ (machine)[input](performance.now(), ...values);

  /** Handlers of the application ask for more meanwhile: that comes after what is in the list. */
  const perform = () => {
    if (performing) return;
    performing = true;
    for (const [name, ...values] of machine.actions) {
      if (acts[name]) call(acts[name], ...values);
      else {
        const [number, ...told] = values;
        const those = waiting.get(number);
        if (name === "ended" || name === "settled") waiting.delete(number);
        if (those) call(those[name], ...told);
      }
    }
    machine.actions.length = 0;
    performing = false;
    arm();
  };

  /** @type {(input: keyof Face.Machine, ...values: unknown[]) => void} */
  const feed = (...input) => {
    enter(...input);
    perform();
  };

  const probe = () => { if (!frozen) feed("probe"); };

  const warn = (/** @type {string} */ text) => {
    if (said.has(text)) return;
    if (said.size > MOST_SAID) said.clear();
    said.add(text);
    if (!tell("warning", text)) console.warn(`umbel: ${text}`);
  };

  /** @type {(event: string, value: unknown) => boolean} */
  const tell = (event, value) => {
    let heard = false;
    for (const [name, handler] of handlers) {
      if (name !== event) continue;
      heard = true;
      call(handler, value);
    }
    return heard;
  };

  /** A socket is not waited for: its `close` may take a minute. */
  const drop = (/** @type {number} */ code) => {
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
    judge(code, socket.mute);
    socket = null;
  };

  /** What has become of a transport decides what carries the next attempt. @type {(code: number, mute?: boolean) => void} */
  const judge = (code, mute = false) => {
    if (!fallback) return;
    const cut = CUT.includes(code);
    if (transport === "stream") {
      hurry = mute;
      route.stream = route.stream || mute || !cut;
    } else if (since) {
      route.cuts = code === CUT[0] && !more && performance.now() - since < SOON ? route.cuts + 1 : 0;
      if (route.cuts >= CUTS) route.stream = true;
    } else if (cut && !route.proven) route.stream = hurry = true;
  };

  /** @type {(attempt: number, present: Socket) => void} */
  const attach = (attempt, present) => {
    let opened = false;
    socket = present;
    present.onopen = () => {
      opened = true;
      feed("opened", attempt, present.protocol);
    };
    present.onmessage = ({ data }) => {
      doubts = 0;
      more = since > 0;
      feed("received", attempt, data);
    };
    present.onclose = ({ code, reason }) => {
      socket = null;
      judge(code);
      feed("closed", attempt, code, opened ? reason : "the connection could not be opened");
    };
    // The `close` that follows says all that there is.
    present.onerror = () => {};
  };

  /** @type {Record<string, (...values: any[]) => unknown>} */
  const acts = {
    open(attempt) {
      newest = attempt;
      since = 0;
      more = hurry = false;
      if (fallback && route.stream) {
        transport = "stream";
        // After it, it is a WebSocket's turn, unless this gets through.
        route.stream = route.proven === transport;
        return import("./stream.js").then(
          ({ createStream }) => { if (attempt === newest && connection.state === "connecting") attach(attempt, createStream(fallback)); },
          (error) => feed("failed", attempt, String(error), false),
        );
      }
      transport = "websocket";
      let present;
      try {
        present = new (options.WebSocket || world.WebSocket)(url, PROTOCOLS);
      } catch (error) {
        // This address, in this page, can't be opened: an insecure one from a secure page, for example.
        return feed("failed", attempt, String(error), true);
      }
      attach(attempt, present);
    },
    send(_, text) { if (socket) socket.send(text); },
    drop(_, code) { drop(code); },
    async askToken(ticket) {
      newest = ticket;
      // Of two calls, the former is superseded: it took too long.
      if (asking) asking.abort();
      asking = new AbortController();
      /** @type {keyof Face.Machine} */
      let input = "token";
      let value;
      try {
        value = await /** @type {Function} */ (options.token)(asking.signal);
      } catch (error) {
        input = "tokenFailed";
        value = String(error);
      }
      feed(input, ticket, value);
    },
    state(state, detail) {
      const at = detail.at && { at: Math.round(detail.at + Date.now() - performance.now()) };
      connection = Object.freeze({ state, ...detail, ...at, ...(state === "connected" ? { transport } : {}) });
      if (state === "connected") {
        said.clear();
        since = performance.now();
        route.proven = transport;
        route.stream = transport === "stream";
      }
      if (detail.failing) warn(`no connection to ${url} (${detail.reason || detail.code}): is there a server at this path? Attempts go on`);
      tell("connection", connection);
      if (state !== "waiting" || !hurry) return;
      // Once: there may have been too many attempts.
      hurry = false;
      probe();
    },
    warn,
  };

  // ---- time

  const sleep = (/** @type {number} */ now, /** @type {number} */ ms) => {
    due = now + ms;
    timer = setTimeout(wake, ms);
  };

  const arm = () => {
    const still = frozen || connection.state === "closed";
    const now = performance.now();
    const ms = Math.max(0, Math.min(machine.deadline - now, WATCH));
    if (timer !== undefined && due <= now + ms && !still) return;
    clearTimeout(timer);
    timer = undefined;
    if (!still) sleep(now, ms);
  };

  const wake = () => {
    timer = undefined;
    const now = performance.now();
    const late = now - due;
    const before = ahead;
    ahead = Date.now() - now;
    if ((late > WATCH || Math.abs(ahead - before) > WATCH) && doubts < 2) {
      // The computer or the page was asleep.
      doubts += 1;
      probe();
      arm();
    } else if (!looked) {
      looked = true;
      sleep(now, late > LATE ? LATE : 0);
    } else {
      looked = false;
      feed("tick");
    }
  };

  // ---- what happens to a page

  /** @type {(event: any) => void} */
  const happened = ({ type, persisted }) => {
    if (type === "pagehide") {
      if (!persisted) return client.close();
      // A page with an open socket is not kept, or its socket is cut without a word.
      frozen = true;
      drop(PUT_AWAY);
      return feed("closed", newest, PUT_AWAY, "the page was left");
    }
    if (type === "pageshow") {
      if (!persisted) return;
      frozen = false;
    }
    if (type === "offline" && connection.state !== "connected") return;
    if (type === "visibilitychange" && world.document.visibilityState !== "visible") return;
    probe();
  };

  const listen = () => {
    const { signal } = (listening = new AbortController());
    const { document: page, navigator: { connection: network } = /** @type {any} */ ({}) } = world;
    for (const [target, names] of [[world, "online offline pageshow pagehide"], [page, "visibilitychange resume"], [network, "change"]]) {
      if (target && target.addEventListener) for (const name of names.split(" ")) target.addEventListener(name, happened, { signal });
    }
  };

  /** What subscriptions and runs may do. @type {Inside.Port} */
  const port = {
    subscribe(channel, position, those) {
      if (typeof channel !== "string") throw new TypeError("a channel is a string");
      const id = enter("subscribe", channel, position && positionOf(position));
      port.adopt(id, those);
      perform();
      return id;
    },
    adopt(id, those) { waiting.set(id, those); },
    unsubscribe(id) {
      waiting.delete(id);
      feed("unsubscribe", id);
    },
    ask(input, settled) {
      client.open();
      const key = enter(.../** @type {[any]} */ (input));
      port.adopt(key, { settled });
      perform();
      return key;
    },
    cancel(key) { feed("cancel", key); },
    stop: (runId) => client.request("ai_cancel", { runId }),
    share: () => machine.share,
    missed(gap) { tell("gap", gap); },
    call,
    error: (answer) => new UmbelError(answer),
    // What the application has closed is no failure.
    failure: ({ code, reason }) => (code && !over ? new UmbelError({ code, message: reason }) : null),
  };

  /** @type {(options: Face.RequestOptions, ...input: [keyof Face.Machine, ...unknown[]]) => Promise<any>} */
  const ask = ({ signal }, ...input) => new Promise((resolve, reject) => {
    if (signal && signal.aborted) return reject(new UmbelError({ code: "cancelled" }));
    const cancel = () => port.cancel(key);
    const key = port.ask(input, (ok, value) => {
      if (signal) signal.removeEventListener("abort", cancel);
      if (ok) resolve(value);
      else reject(new UmbelError(value));
    });
    if (signal) signal.addEventListener("abort", cancel);
  });

  /** @type {Face.Client} */
  const client = {
    get connection() {
      return connection;
    },
    on(event, handler) {
      /** @type {[string, Function]} */
      const entry = [event, handler];
      handlers.add(entry);
      return () => { handlers.delete(entry); };
    },
    open() {
      if (connection.state !== "idle") return;
      url = address(url);
      // Options that are set before this count, too.
      const { token = null, random = Math.random, WebSocket: own, fallback: other, ...numbers } = options;
      if (!(own || world.WebSocket) || !world.AbortController) throw new TypeError(TOO_OLD);
      for (const [name, value] of Object.entries(numbers)) {
        if (value === undefined) delete /** @type {any} */ (numbers)[name];
        // What is misspelt may be a secret, so it is not shown.
        else if (!(typeof /** @type {any} */ (DEFAULTS)[name] === "number" && typeof value === "number" && value >= 0)) {
          throw new TypeError(`${name} is no option of this client, or no number`);
        }
      }
      fallback = world.fetch && (other || other === undefined) ? besides(url, other) : "";
      const { host } = new URL(url);
      route = routes.get(host) || { stream: false, proven: "", cuts: 0 };
      routes.set(host, route);
      machine = createMachine({ ...numbers, token, askToken: typeof token === "function" }, random);
      listen();
      ahead = Date.now() - performance.now();
      feed("connect");
    },
    retry: probe,
    close() {
      over = true;
      for (const those of [listening, asking]) if (those) those.abort();
      feed("close");
    },
    subscribe(channel, given = {}) {
      client.open();
      return createSubscription(port, channel, typeof given === "function" ? { onUpdate: given } : given);
    },
    latest: (channel, given = {}) => createLatest(client, channel, given),
    async state(channel, given = {}) {
      client.open();
      const { createState } = await import("./state.js");
      return createState(port, channel, given);
    },
    async presence(channel, given = {}) {
      client.open();
      const { createPresence } = await import("./presence.js");
      return createPresence(port, client, channel, given);
    },
    request: (type, data, given = {}) => ask(given, "request", type, data, given.volatile),
    publish: (channel, data, given = {}) => ask(given, "publish", channel, data, given.key, given.volatile),
    present: (channel, change, given = {}) => ask(given, "present", channel, change, given.volatile),
    run: (type, data) => createRun(port, null, ["run", type, data]),
    attach(start) {
      client.open();
      return createRun(port, start);
    },
  };
  return client;
};

// ================================================================================================================== readers

/** What loops read. They wait when there is nothing, until it has ended. @type {() => Inside.Tape} */
const createTape = () => {
  /** @type {((_?: unknown) => void)[]} */
  const loops = [];
  /** @type {Inside.Tape} */
  const tape = {
    over: false,
    failure: null,
    ring() { for (const resume of loops.splice(0)) resume(); },
    end(failure = null) {
      tape.over = true;
      tape.failure = tape.failure || failure;
      tape.ring();
    },
    async *read(take, leave) {
      try {
        for (;;) {
          const item = take();
          if (item) yield item;
          else if (tape.failure) throw tape.failure;
          else if (tape.over) return;
          else await new Promise((resolve) => { loops.push(resolve); });
        }
      } finally {
        if (leave) leave();
      }
    },
  };
  return tape;
};

/** @type {Inside.CreateSubscription} */
const createSubscription = (port, channel, { position: start, onUpdate, onUpdates, onGap, onBegun, onEnded }) => {
  const calls = Boolean(onUpdate || onUpdates);
  const tape = createTape();
  let id = 0;
  // The buffer was full, and the channel was left until it is read.
  let left = false;
  // Of the newest item in the buffer.
  let epoch = "";
  let size = 0;
  // A list: what was read last, and what comes after it.
  /** @type {Inside.Item} */
  let head = {};
  let tail = head;

  /** @type {(offset: number, from?: string) => void} */
  const move = (offset, from = epoch) => { subscription.position = { epoch: from, offset }; };

  /** @type {(item: Face.Update | Face.Missed, to: number, bytes?: number) => void} */
  const push = (item, to, bytes = ITEM) => {
    if (tape.over || left) return;
    tail = tail.next = { item, epoch, to, bytes };
    size += bytes;
    tape.ring();
    if (size <= BUFFER) return;
    left = true;
    port.unsubscribe(id);
  };

  /** @returns {Face.Update | Face.Missed | undefined} */
  const take = () => {
    const { next } = head;
    if (!next) {
      if (!left || tape.over) return undefined;
      begin(subscription.position);
      return take();
    }
    head = next;
    size -= /** @type {number} */ (next.bytes);
    move(/** @type {number} */ (next.to), next.epoch);
    return next.item;
  };

  const events = {
    begun(/** @type {Face.Begun} */ begun) {
      ({ epoch } = begun.position);
      if (calls || !head.next) move(begun.position.offset);
      call(onBegun, begun);
    },
    updates(/** @type {Face.Update[]} */ updates) {
      if (!calls) return updates.forEach((update) => push(update, update.offset, port.share() + ITEM));
      if (onUpdates) {
        move(updates[updates.length - 1].offset);
        call(onUpdates, updates);
      }
      if (onUpdate) for (const update of updates) {
        if (tape.over) return;
        move(update.offset);
        call(onUpdate, update);
      }
    },
    gap(/** @type {object} */ missed) {
      const gap = /** @type {Face.Gap} */ ({ ...missed, channel });
      ({ epoch } = gap);
      port.missed(gap);
      if (calls) move(gap.to);
      else push({ channel, gap }, gap.to);
      call(onGap, gap);
    },
    ended(/** @type {Inside.End} */ end) {
      const error = port.failure(end);
      if (error && calls && !onEnded) console.warn(`umbel: ${channel}: ${end.reason}`);
      tape.end(error);
      call(onEnded, error, end.reason);
    },
  };

  const begin = (/** @type {Face.Position | null | undefined} */ position) => {
    left = false;
    id = port.subscribe(channel, position, events);
  };

  /** @type {Face.Subscription} */
  const subscription = {
    channel,
    position: null,
    close() {
      port.unsubscribe(id);
      head = tail;
      tape.end();
    },
    [Symbol.asyncIterator]: () => tape.read(take, subscription.close),
  };
  begin(start);
  return subscription;
};

/** @type {Inside.CreateLatest} */
const createLatest = (client, channel, { key, onChange, onGap, ...options }) => {
  const latest = new Map();
  const subscription = client.subscribe(channel, {
    ...options,
    onUpdates(updates) {
      for (const { data, key: own, removed } of updates) {
        if (removed) latest.delete(own);
        else call(() => latest.set(key ? key(data) : own, data));
      }
      call(onChange, latest);
    },
    onGap(gap) {
      // Another log, or a state that comes anew: what it does not repeat may be no longer so.
      if (gap.top !== undefined || !KEPT.includes(gap.reason)) {
        latest.clear();
        call(onChange, latest);
      }
      call(onGap, gap);
    },
  });
  Object.defineProperty(latest, "position", { get: () => subscription.position });
  return /** @type {any} */ (Object.assign(latest, { close: subscription.close }));
};

/** @type {Inside.CreateRun} */
const createRun = (port, start, input) => {
  const tape = createTape();
  let id = 0;
  let key = 0;

  /** @type {(status: Face.Run["status"], failure?: unknown) => void} */
  const end = (status, failure) => {
    if (tape.over) return;
    run.status = status;
    tape.end(failure);
  };

  const events = {
    begun() { if (run.status === "waiting") run.status = "running"; },
    updates(/** @type {Face.Update[]} */ updates) {
      if (!tape.over) run.status = "running";
      for (const { data } of updates) {
        const { type, chunk, status, incident } = data || {};
        if (type === "ai_response_chunk") run.text += chunk;
        if (type === "ai_response_end") {
          run.incident = incident;
          end(status);
        }
      }
      tape.ring();
    },
    gap(/** @type {{ reason: string }} */ { reason }) {
      if (reason === "turn") return;
      port.unsubscribe(id);
      end("lost");
    },
    ended() { end("lost"); },
  };

  /** @type {Face.Run} */
  const run = {
    status: "waiting",
    text: "",
    start,
    incident: undefined,
    cancel() {
      if (tape.over) return;
      if (run.start) port.stop(runIdOf(run.start.channel)).catch(() => {});
      else port.cancel(key);
    },
    close() {
      port.unsubscribe(id);
      end(run.status);
    },
    [Symbol.asyncIterator]() {
      let read = 0;
      return tape.read(() => {
        const piece = run.text.slice(read);
        read += piece.length;
        return piece;
      });
    },
  };

  if (start) id = port.subscribe(start.channel, { epoch: start.epoch, offset: 0 }, events);
  else {
    key = port.ask(input, (ok, value) => {
      if (ok) {
        run.start = { channel: value.channel, epoch: value.epoch };
        id = value.subscription;
        if (tape.over) port.unsubscribe(id);
        else port.adopt(id, events);
      } else if (value.code === "cancelled") end("cancelled");
      else end("error", new UmbelError(value));
    });
  }
  return run;
};

// ================================================================================================================== connect

/** @type {typeof Face.connect} */
export const connect = (url, options) => {
  const client = createClient(url, options);
  client.open();
  return client;
};

/** @param {string | URL | undefined} url */
const address = (url = "/ws") => {
  const own = import.meta.url;
  const base = /\/umbel\/client[^/]*\.js/.test(own) ? own : world.location && world.location.href;
  if (!base && url === "/ws") throw new TypeError("name the server: connect(\"wss://example.org/ws\")");
  const absolute = new URL(url, base);
  absolute.protocol = absolute.protocol.replace("http", "ws");
  return absolute.href;
};

/** Where the server of a WebSocket has sessions on streams. @type {(url: string, other?: string | URL) => string} */
const besides = (url, other) => {
  const place = new URL(other || url, url);
  place.protocol = place.protocol.replace("ws", "http");
  if (!other) place.pathname = place.pathname.replace(/(.*)\/ws$|.*/, "$1/api/v1/session");
  return place.href;
};

/** What gets through to a host, as far as this page knows. @type {Map<string, Route>} */
const routes = new Map();

const TOO_OLD = "there is no WebSocket here, or the browser is too old: use a newer one, Node.js 22, or the option WebSocket";

/** Warnings that are remembered. */
const MOST_SAID = 20;

/** Milliseconds between two looks at the clocks. */
const WATCH = 2000;

/** Milliseconds after which a timer is late, and for which then what has arrived is read. */
const LATE = 50;

/** The close code of a page that enters the back/forward cache: its session waits. */
const PUT_AWAY = 4400;

/** Close codes of a connection of which nothing more is known: nobody has said an end, or nothing has come. */
const CUT = [1006, 4408];

/** So many WebSockets in a row that are cut so many milliseconds after the server let the client in don't get through. */
const CUTS = 3;
const SOON = 10_000;

/** Bytes that wait for the reader of an iterator. */
const BUFFER = 4 << 20;

/** Bytes that an item takes besides its text. */
const ITEM = 200;

/** Reasons of gaps after which the newest values are still the newest that are known. */
const KEPT = ["turn", "trimmed", "overrun", "burst", "memory"];
