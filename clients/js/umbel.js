/**
 * The client of Umbel for browsers, workers and Node.js: it comes back by itself, and says what it missed.
 *
 *     import { connect } from "/umbel/client.js";
 *     const umbel = connect();
 *     for await (const update of umbel.subscribe("task:42")) show(update.data);
 *
 * This file is served as it is. It has the machine first, then the client around it, then what reads from it.
 *
 * @module umbel
 */

/**
 * @typedef {{ epoch: string, offset: number }} Position how far a channel was read
 * @typedef {{ channel: string, offset: number, from?: number, data: any, sender?: { clientId: string, subject: string | null },
 *   gap?: undefined }} Update a publication; with `from`, the newest of those in `(from, offset]`
 * @typedef {{ channel: string, epoch: string, from: number | null, to: number, reason: string }} Gap what will not come: after
 *   `from`, if that is known, up to `to`
 * @typedef {{ channel: string, gap: Gap, data?: undefined }} Missed a gap, in its place in a stream
 * @typedef {{ position: Position, top: number, recovered?: boolean }} Begun where a subscription is, and the newest offset
 * @typedef {{ state: "idle" | "connecting" | "connected" | "waiting" | "closed", code?: number, reason?: string, failing?: boolean,
 *   at?: number, clientId?: string, subject?: string | null, resumed?: boolean }} Connection what is known of the connection; while
 *   it waits, `at` is the time of the next attempt as `Date.now()` counts, and after `failing` of them in a row it is `failing`
 * @typedef {Partial<Omit<typeof DEFAULTS, "askToken" | "token">> & { token?: string | null | ((signal: AbortSignal) => string | null | Promise<string | null>),
 *   WebSocket?: any, random?: () => number }} Options `token` says who the client is: a function, because tokens expire
 * @typedef {{ position?: Position | null, onUpdate?: (update: Update) => void, onUpdates?: (updates: Update[]) => void,
 *   onGap?: (gap: Gap) => void, onBegun?: (begun: Begun) => void, onEnded?: (error: UmbelError | null, reason: string) => void
 *   }} SubscribeOptions `position` is one that was saved with the state
 * @typedef {{ volatile?: boolean, signal?: AbortSignal }} RequestOptions `volatile`: is not done if it can't be sent now
 * @typedef {SubscribeOptions & { key: (data: any) => any, onChange?: (latest: Latest<any, any>) => void }} LatestOptions
 * @typedef {{ channel: string, epoch: string }} RunStart
 * @typedef {{ connection: Connection, gap: Gap, warning: string }} Events
 * @typedef {{ kind: string, text: string, expires: number }} Request
 * @typedef {{ id: number, epoch: string, offset: number, begun: boolean, reason: string }} Reader a subscription: without an `epoch`
 *   it has no position; `begun`, when the application was told where it begins; the `reason` why it has lost its position
 * @typedef {{ name: string, subscriptions: Reader[], epoch: string, offset: number, live: boolean, asked: number | null,
 *   named: Position | null, mended: boolean }} Channel `live`: updates continue the position; `asked`: the number of the message
 *   that asked for it and has no answer, 0 for the first of a connection; `named`: the position that was asked for
 * @typedef {{ begun: (begun: Begun) => void, updates: (updates: Update[]) => void, gap: (gap: Gap) => void,
 *   ended: (end: { code?: string, reason: string }) => void }} Handlers
 * @typedef {(ok: boolean, value: any) => void} Settle
 */

// ================================================================================================================= machine
// What a client does, without sockets, clocks and chance. Events go in, each with the time in milliseconds. `actions` says what
// has to be done, in order, and `deadline` when `tick` has to be called. The Python client has the same machine, function by
// function; both are tested with clients/vectors.

const DEFAULTS = {
  askToken: false, // a token is asked for before each attempt
  token: /** @type {string | null} */ (null), // or it is always this one
  window: 1000, // the first retry is within so many ms, until a server says otherwise
  base: 1000, // later ones are at a random moment within base * factor ** n, at most cap
  factor: 2,
  cap: 30_000,
  useful: 10_000, // ms that a connection has to last so that the next retry is a first one
  failing: 5, // failures in a row that are reported as failing
  attempts: 5, // at most so many attempts
  attemptsIn: 10_000, // in any time of so many ms
  attemptTimeout: 10_000, // ms from asking for the token until the client is let in
  answerTimeout: 10_000, // ms in which a silent server has to answer
  probeTimeout: 5_000, // ms in which it has to answer a probe
  late: 1_000, // a tick that is so late says nothing about the server: it gets a probe
  queue: 1_000, // requests that wait to be sent
  queueSize: 1 << 20, // characters
  queueAge: 60_000, // ms
};

/** The connection of the present attempt, as the parts of the machine see it. */
class Line {
  /** What has to be done. @type {any[][]} */
  actions = [];
  /** The number of the newest attempt to connect. */
  attempt = 0;
  /** Whether the server has let the client in, on that attempt's socket. */
  connected = false;
  #numbers = 0;

  /** A number that was not used before: for messages, and for what the application asks for. */
  number() {
    this.#numbers += 1;
    return this.#numbers;
  }

  /** @param {any[]} action */
  act(...action) {
    this.actions.push(action);
  }

  /** @param {object} message */
  send(message) {
    this.sendText(JSON.stringify(message));
  }

  /** @param {string} text */
  sendText(text) {
    this.act("send", this.attempt, text);
  }
}

/**
 * Sends requests in the order in which they were made, and settles each once. At most `window` are unanswered: `sent`. The others
 * wait in `queue`. A request that the application has cancelled after it was sent is `forgotten`, a run then is `stopping`.
 */
class Requests {
  window = 64;
  /** @type {Map<number, Request>} */
  #sent = new Map();
  /** @type {Map<number, Request>} */
  #queue = new Map();
  #size = 0;
  /** @type {number | null} */
  #lostAt = null;
  #line;
  #options;
  #attach;

  /**
   * @param {Line} line
   * @param {typeof DEFAULTS} options
   * @param {(message: any, stop: boolean) => number} attach
   */
  constructor(line, options, attach) {
    this.#line = line;
    this.#options = options;
    this.#attach = attach;
  }

  /**
   * @param {number} now
   * @param {string} kind
   * @param {object} message
   * @param {boolean | undefined} volatile
   */
  add(now, kind, message, volatile) {
    const key = this.#line.number();
    const text = JSON.stringify({ ...message, id: key });
    const { queue, queueSize, queueAge } = this.#options;
    this.#queue.set(key, { kind, text, expires: now + queueAge });
    this.#size += text.length;
    this.flush();
    if (this.#queue.has(key)) {
      if (volatile) this.#drop(key, "expired");
      else if (this.#queue.size > queue || this.#size > queueSize) this.#drop(key, "queue_full");
    }
    return key;
  }

  /** @param {number} key */
  cancel(key) {
    const request = this.#sent.get(key);
    if (this.#queue.has(key)) this.#drop(key, "cancelled");
    else if (request) {
      this.#fail(key, request, "cancelled");
      if (request.kind === "run" && this.#line.connected) {
        this.#line.send({ type: "ai_cancel", data: { request: key } });
      }
      // Until its answer comes, the server counts it, so it is repeated, too. A run that has begun in spite of that is stopped
      // when the answer names it.
      request.kind = request.kind === "run" || request.kind === "stopping" ? "stopping" : "forgotten";
    }
  }

  flush() {
    for (const [key, request] of this.#queue) {
      if (!this.#line.connected || this.#sent.size >= this.window) return;
      this.#sent.set(key, this.#take(key));
      this.#line.sendText(request.text);
    }
  }

  /**
   * Settles the request that a message answers. Returns whether there is one.
   *
   * @param {any} message
   */
  answered(message) {
    const key = message.id;
    const request = this.#sent.get(key);
    if (!request) return false;
    const { kind } = request;
    const { type, channel, offset } = message;
    if (type === "error") this.#fail(key, request, message.code, message.message, message.details);
    else if (kind === "publish") {
      if (typeof offset !== "number") throw new Error("a publication has an offset");
      this.#line.act("settled", key, true, { channel, offset });
    } else if (type === "subscription_established") {
      const subscription = this.#attach(message, kind === "stopping");
      if (kind === "run") this.#line.act("settled", key, true, { subscription, channel, epoch: message.epoch });
    } else if (kind !== "forgotten") this.#line.act("settled", key, true, message.data);
    this.#sent.delete(key);
    this.flush();
    return true;
  }

  /**
   * Repeats what was sent in this session, or settles what was sent in another one.
   *
   * @param {boolean} resumed
   */
  connected(resumed) {
    this.#lostAt = null;
    if (!resumed) this.lose();
    for (const { text } of this.#sent.values()) this.#line.sendText(text);
  }

  /**
   * A connection has ended.
   *
   * @param {number} lostAt when its session ends, too
   */
  disconnected(lostAt) {
    if (this.#sent.size) this.#lostAt ??= lostAt;
  }

  /** Settles what was sent: nobody will know whether it was done. */
  lose() {
    const sent = this.#sent;
    this.#sent = new Map();
    this.#lostAt = null;
    for (const [key, request] of sent) this.#fail(key, request, "outcome_unknown");
  }

  /**
   * Settles everything.
   *
   * @param {string} code
   */
  dropAll(code) {
    this.lose();
    for (const key of this.#queue.keys()) this.#drop(key, code);
  }

  /**
   * Settles what is too old.
   *
   * @param {number} now
   */
  expire(now) {
    if (this.#lostAt !== null && now >= this.#lostAt) this.lose();
    for (const [key, { expires }] of this.#queue) {
      if (now < expires) return;
      this.#drop(key, "expired");
    }
  }

  deadlines() {
    const [first] = this.#queue.values();
    return [this.#lostAt, first ? first.expires : null];
  }

  #take(/** @type {number} */ key) {
    const request = /** @type {Request} */ (this.#queue.get(key));
    this.#queue.delete(key);
    this.#size -= request.text.length;
    return request;
  }

  #drop(/** @type {number} */ key, /** @type {string} */ code) {
    this.#fail(key, this.#take(key), code);
  }

  #fail(/** @type {number} */ key, /** @type {Request} */ { kind }, /** @type {string} */ code, message = code, /** @type {unknown} */ details = null) {
    if (kind !== "forgotten" && kind !== "stopping") this.#line.act("settled", key, false, { code, message, details });
  }
}

/**
 * The channels of a client, by their names on the wire. The private channel is `@` and the client's id.
 *
 * A channel has a position: its next update from the server continues that. Each of its subscriptions has a position of its own,
 * and gets what comes after that. A subscription whose position is before that of the channel, or that has none yet, needs the
 * channel to be subscribed anew, with `restart`, at its position.
 */
class Channels {
  /** The server failed to say whether some channels can be had: they have to be asked for later. */
  again = false;
  #line;
  #private = "@";
  /** @type {Map<string, Channel>} */
  #channels = new Map();
  /** Of each subscription. @type {Map<number, Channel>} */
  #of = new Map();
  /** What the server may not know yet: the number of the message that says it, 0 when there was none. @type {Map<string, number>} */
  #leaving = new Map();

  /** @param {Line} line */
  constructor(line) {
    this.#line = line;
  }

  /**
   * @param {string} name
   * @param {Position} position
   */
  subscribe(name, { epoch, offset }) {
    return this.#add(this.#channel(name === "@" ? this.#private : name), epoch, offset);
  }

  /** @param {number} id */
  unsubscribe(id) {
    const channel = this.#of.get(id);
    if (!channel) return;
    this.#of.delete(id);
    channel.subscriptions = channel.subscriptions.filter((it) => it.id !== id);
    this.#leaveIfEmpty(channel);
  }

  /**
   * Begins the subscription to a run, with the answer to its request. A run is read from its start.
   *
   * @param {any} message
   * @param {boolean} stop
   */
  attach(message, stop) {
    const channel = this.#channel(message.channel);
    const position = positionOf(message, "offset");
    if (!channel.live) Object.assign(channel, { live: true, ...position });
    if (!stop) return this.#add(channel, position.epoch, 0, true);
    this.#line.send({ type: "ai_cancel", data: { runId: channel.name.slice("run:".length) } });
    this.#leaveIfEmpty(channel);
    return 0;
  }

  /**
   * Hands out updates. The positions move first.
   *
   * @param {any[]} updates
   */
  batch(updates) {
    /** @type {Map<number, any[]>} */
    const ready = new Map();
    try {
      for (const update of updates) {
        const channel = this.#channels.get(update.channel);
        if (!channel?.live) continue;
        const before = channel.offset;
        const { offset, from = offset - 1 } = update;
        if (typeof offset !== "number") throw new Error("an update has an offset");
        if (from !== before || offset <= before) {
          this.#mend(channel, `an update to ${offset} came after ${before}`);
          continue;
        }
        channel.offset = offset;
        for (const it of channel.subscriptions) {
          if (before > it.offset || it.offset >= offset || it.epoch !== channel.epoch || !it.begun) continue;
          it.offset = offset;
          const those = ready.get(it.id);
          if (those) those.push(update);
          else ready.set(it.id, [update]);
        }
      }
    } finally {
      for (const [id, those] of ready) this.#line.act("updates", id, those);
    }
  }

  /** @param {any} message */
  gap(message) {
    const channel = this.#channels.get(message.channel);
    if (!channel?.live) return;
    const { epoch, offset: before } = channel;
    const { reason } = message;
    const { epoch: after, offset: to } = positionOf(message, "to");
    if (message.from !== before) {
      this.#mend(channel, `a gap from ${message.from} came after ${before}`);
      return;
    }
    channel.epoch = after;
    channel.offset = to;
    for (const it of channel.subscriptions) {
      if (it.epoch !== epoch || it.offset < before || !it.begun) continue;
      if (reason === "turn") this.#lost(channel, it, reason, it.offset);
      else if (epoch !== after || it.offset < to) this.#lost(channel, it, reason, to);
    }
  }

  /** @param {any} message */
  established(message) {
    const { channel: name, id: answer = 0, top, reason = "epoch" } = message;
    // The answer to a wish of the past.
    if (!this.#channels.has(name) && (answer || this.#leaving.has(name))) return;
    const channel = this.#channel(name);
    if (answer !== (channel.asked ?? 0) || (channel.asked === null && channel.live)) return;
    const { named, live } = channel;
    Object.assign(channel, { asked: null, named: null, live: true, ...positionOf(message, "offset") });
    const recovered = message.recovered ?? !named;
    for (const it of channel.subscriptions) {
      // An answer speaks of the log that was named, from the position that was named up to the top.
      const spoken = named && it.epoch === named.epoch && it.offset >= named.offset;
      if (spoken && it.offset <= Math.max(named.offset, top)) {
        const kept = recovered || (reason === "trimmed" && it.offset >= channel.offset);
        this.#place(channel, it, top, kept, reason, !live);
      } else if (!named && !it.epoch) this.#place(channel, it, top, false, it.reason, !live);
    }
    this.#ask(channel);
  }

  /** @param {any} message */
  ended({ channel: name, id, reason }) {
    const channel = this.#channels.get(name);
    if (id !== undefined) this.#left(name, id);
    else if (channel) {
      channel.live = false;
      channel.epoch = "";
      // A newcomer may have asked for the channel, and waits for the answer to that.
      channel.asked ||= null;
      const waits = channel.asked !== null;
      this.#end(channel, { reason }, (it) => it.begun || !waits);
    }
  }

  /**
   * A channel can't be had, or the server failed to say whether it can.
   *
   * @param {any} message
   */
  error(message) {
    const { channel: name, id: answer = 0 } = message;
    const channel = this.#channels.get(name);
    if (name !== undefined) this.#left(name, answer);
    const concerned = channel ? [channel] : answer ? [...this.#channels.values()] : [];
    for (const it of concerned) if (it.asked === answer) this.#refused(it, message);
  }

  /** The positions for the first message of a connection, which asks for these channels. */
  resume() {
    /** @type {Record<string, Position>} */
    const positions = {};
    for (const channel of this.#channels.values()) {
      const own = channel.subscriptions.filter((it) => it.epoch);
      const epoch = own[0]?.epoch ?? channel.epoch;
      if (!epoch) continue;
      const offsets = own.filter((it) => it.epoch === epoch).map((it) => it.offset);
      const offset = offsets.length ? Math.min(...offsets) : channel.offset;
      channel.asked = 0;
      channel.named = positions[channel.name] = { epoch, offset };
    }
    return positions;
  }

  /**
   * Asks for what the first message has not asked for. The positions of another subject are not kept.
   *
   * @param {string} clientId
   * @param {boolean} resuming
   * @param {boolean} same
   */
  connected(clientId, resuming, same) {
    const before = this.#private;
    this.#private = `@${clientId}`;
    const own = this.#channels.get(before);
    if (before !== this.#private && own) {
      this.#channels.delete(before);
      own.name = this.#private;
      this.#channels.set(own.name, own);
      forget(own, "session_lost");
    }
    for (const channel of this.#channels.values()) {
      if (!same) forget(channel, "subject");
      if (channel.subscriptions.length || (resuming && same)) continue;
      // The server had subscribed the client. It does so again if it wants to.
      this.#channels.delete(channel.name);
      if (channel.name !== this.#private) this.#leaving.set(channel.name, 0);
    }
    const leaving = this.#leaving;
    this.#leaving = new Map();
    for (const name of leaving.keys()) if (resuming && !this.#channels.has(name)) this.#sayLeave(name);
    this.askAll();
  }

  disconnected() {
    this.again = false;
    for (const channel of this.#channels.values()) {
      Object.assign(channel, { live: false, mended: false, asked: null, named: null });
    }
  }

  /** @param {object} reason */
  endAll(reason) {
    for (const channel of this.#channels.values()) this.#end(channel, reason, () => true);
    this.#private = "@";
    for (const those of [this.#channels, this.#of, this.#leaving]) those.clear();
    this.again = false;
  }

  /** Asks for all channels that need it. Many newcomers are one message. */
  askAll() {
    this.again = false;
    /** @type {Channel[]} */
    const newcomers = [];
    for (const channel of this.#channels.values()) this.#ask(channel, newcomers);
    while (newcomers.length) this.#askNew(newcomers.splice(0, MOST_AT_ONCE));
  }

  #channel(/** @type {string} */ name) {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = { name, subscriptions: [], epoch: "", offset: 0, live: false, asked: null, named: null, mended: false };
      this.#channels.set(name, channel);
    }
    return channel;
  }

  #add(/** @type {Channel} */ channel, /** @type {string} */ epoch, /** @type {number} */ offset, begun = false) {
    const it = { id: this.#line.number(), epoch, offset, begun, reason: "" };
    channel.subscriptions.push(it);
    this.#of.set(it.id, channel);
    this.#ask(channel);
    return it.id;
  }

  /** Asks for a channel anew, if a subscription needs it; later on for those that are put into `newcomers`. */
  #ask(/** @type {Channel} */ channel, /** @type {Channel[] | null} */ newcomers = null) {
    if (!this.#line.connected || channel.asked !== null) return;
    const needy = channel.subscriptions.filter(
      (it) => !(it.begun && channel.live && it.epoch === channel.epoch && it.offset >= channel.offset),
    );
    if (channel.name.startsWith("@") && channel.name === this.#private) {
      // Nobody can subscribe to it: it is there from the first direct message on.
      if (!channel.live) return;
      for (const it of needy) {
        this.#place(channel, it, channel.offset, false, it.epoch === channel.epoch ? "overrun" : "epoch", false);
      }
    } else if (needy.some((it) => !it.epoch)) {
      if (newcomers) newcomers.push(channel);
      else this.#askNew([channel]);
    } else if (needy.length) {
      const [{ epoch }] = needy;
      const offsets = needy.filter((it) => it.epoch === epoch).map((it) => it.offset);
      this.#askFrom(channel, { epoch, offset: Math.min(...offsets) });
    }
  }

  #askNew(/** @type {Channel[]} */ channels) {
    const id = this.#line.number();
    for (const channel of channels) channel.asked = id;
    this.#line.send({ type: "subscribe_updates", id, channels: channels.map(({ name }) => name), restart: true });
  }

  #askFrom(/** @type {Channel} */ channel, /** @type {Position} */ position) {
    channel.asked = this.#line.number();
    channel.named = position;
    this.#line.send({ type: "subscribe_updates", id: channel.asked, channel: channel.name, restart: true, ...position });
  }

  /** Gives a subscription its position after an answer: its own when that is kept, or else the channel's. */
  #place(
    /** @type {Channel} */ channel, /** @type {Reader} */ it, /** @type {number} */ top, /** @type {boolean} */ kept,
    /** @type {string} */ reason, /** @type {boolean} */ away,
  ) {
    const newcomer = !it.begun && !it.epoch && !it.reason;
    const offset = kept ? it.offset : channel.offset;
    const position = { epoch: channel.epoch, offset };
    if (away || !it.begun) this.#line.act("begun", it.id, { position, top, ...(newcomer ? {} : { recovered: kept }) });
    it.begun = true;
    if (kept || newcomer) Object.assign(it, position);
    else this.#lost(channel, it, reason, offset, reason === "trimmed" || reason === "overrun");
  }

  #lost(/** @type {Channel} */ channel, /** @type {Reader} */ it, /** @type {string} */ reason, /** @type {number} */ to, known = true) {
    const from = known ? it.offset : null;
    it.epoch = channel.epoch;
    it.offset = to;
    this.#line.act("gap", it.id, { reason, epoch: it.epoch, from, to });
  }

  /** What the server says of a channel does not continue its position: begins there anew, once on each connection. */
  #mend(/** @type {Channel} */ channel, /** @type {string} */ what) {
    if (channel.asked !== null) return;
    const defect = `the server has a defect: in ${channel.name}, ${what}`;
    if (channel.mended || channel.name === this.#private) throw new Error(defect);
    this.#line.act("warn", defect);
    channel.mended = true;
    this.#askFrom(channel, { epoch: channel.epoch, offset: channel.offset });
  }

  #refused(/** @type {Channel} */ channel, /** @type {any} */ { code, message }) {
    channel.asked = channel.named = null;
    const later = code === "timeout" || code === "internal";
    this.#end(channel, { reason: message, code }, (it) => !(it.begun && later));
    this.again ||= channel.subscriptions.length > 0;
  }

  #end(/** @type {Channel} */ channel, /** @type {object} */ reason, /** @type {(it: Reader) => boolean} */ ends) {
    const those = channel.subscriptions.filter(ends);
    channel.subscriptions = channel.subscriptions.filter((it) => !ends(it));
    for (const { id } of those) {
      this.#of.delete(id);
      this.#line.act("ended", id, reason);
    }
    this.#leaveIfEmpty(channel);
  }

  #leaveIfEmpty(/** @type {Channel} */ channel) {
    const { name } = channel;
    if (channel.subscriptions.length || name === this.#private) return;
    this.#channels.delete(name);
    if (!this.#line.connected) this.#leaving.set(name, 0);
    else if (channel.live || channel.asked !== null) this.#sayLeave(name);
  }

  #sayLeave(/** @type {string} */ name) {
    const id = this.#line.number();
    this.#leaving.set(name, id);
    this.#line.send({ type: "unsubscribe_updates", id, channel: name });
  }

  #left(/** @type {string} */ name, /** @type {number} */ answer) {
    if (this.#leaving.get(name) === answer) this.#leaving.delete(name);
  }
}

/** The position in a message. */
function positionOf(/** @type {any} */ message, /** @type {string} */ field) {
  const { epoch, [field]: offset } = message;
  if (typeof epoch !== "string" || typeof offset !== "number") throw new Error("a position is an epoch and an offset");
  return { epoch, offset };
}

/** Forgets the positions in a channel. */
function forget(/** @type {Channel} */ channel, /** @type {string} */ reason) {
  Object.assign(channel, { epoch: "", live: false, asked: null, named: null });
  for (const it of channel.subscriptions) Object.assign(it, { epoch: "", reason: it.reason || (it.epoch && reason) });
}

/** One client: states, attempts, liveness, the token, and whose session it is. */
export class Machine {
  /** `idle`, `connecting`, `connected`, `waiting` or `closed`. */
  state = "idle";
  /** Bytes of each update of the newest message, about. */
  share = 0;
  #options;
  #random;
  #line = new Line();
  #channels = new Channels(this.#line);
  #requests;
  #window;
  /** Of the newest attempts. @type {number[]} */
  #starts = [];
  #failures = 0;
  /** The reason of the last close. @type {{ code?: number, reason?: string }} */
  #last = {};
  /** @type {number | null} */
  #retryAt = null;
  /** @type {number | null} */
  #answerBy = null;
  /** @type {number | null} */
  #againAt = null;
  #tries = 0;
  #heardAt = 0;
  #connectedAt = 0;
  #heartbeat = 0;
  /** @type {string | null} */
  #token = null;
  #asking = false;
  /** @type {string | null} */
  #refused = null;
  #refusals = 0;
  /** Undefined: nobody yet. @type {unknown} */
  #subject;
  /** @type {{ token: string, ttl: number } | null} */
  #session = null;
  #resumes = 0;
  #resuming = false;

  /**
   * @param {Partial<typeof DEFAULTS>} options
   * @param {() => number} random
   */
  constructor(options, random) {
    this.#options = { ...DEFAULTS, ...options };
    this.#random = random;
    this.#window = this.#options.window;
    this.#requests = new Requests(this.#line, this.#options, (message, stop) => this.#channels.attach(message, stop));
    this.actions = this.#line.actions;
  }

  // ---- what the application wants

  /** @param {number} now */
  connect(now) {
    if (this.state !== "idle" && this.state !== "closed") return;
    this.#failures = this.#refusals = 0;
    this.#begin(now);
  }

  /** @param {number} _now */
  close(_now) {
    if (this.state === "connecting" || this.state === "connected") this.#line.act("drop", this.#line.attempt, 1000);
    if (this.state !== "closed") this.#close(1000, CLOSED.reason);
  }

  /**
   * @param {number} _now
   * @param {string} channel
   * @param {Position | null} [position]
   */
  subscribe(_now, channel, position) {
    const id = this.#channels.subscribe(channel, position ?? { epoch: "", offset: 0 });
    if (this.state === "closed") this.#channels.endAll(CLOSED);
    return id;
  }

  /**
   * @param {number} _now
   * @param {number} id
   */
  unsubscribe(_now, id) {
    this.#channels.unsubscribe(id);
  }

  /**
   * @param {number} now
   * @param {string} type
   * @param {unknown} data
   * @param {boolean} [volatile]
   */
  request(now, type, data, volatile) {
    return this.#add(now, "request", { type, data }, volatile);
  }

  /**
   * @param {number} now
   * @param {string} channel
   * @param {unknown} data
   * @param {string | null} [key]
   * @param {boolean} [volatile]
   */
  publish(now, channel, data, key, volatile) {
    return this.#add(now, "publish", { type: "publish", channel, data, ...(key == null ? {} : { key }) }, volatile);
  }

  /**
   * @param {number} now
   * @param {string} type
   * @param {unknown} data
   */
  run(now, type, data) {
    return this.#add(now, "run", { type, data }, false);
  }

  /**
   * @param {number} _now
   * @param {number} key
   */
  cancel(_now, key) {
    this.#requests.cancel(key);
  }

  // ---- what happens

  /**
   * @param {number} now
   * @param {number} ticket
   * @param {string | null | undefined} value
   */
  token(now, ticket, value = null) {
    if (!this.#asks(ticket)) return;
    this.#asking = false;
    if (value !== null && value === this.#refused) {
      this.#line.act("warn", "the token function returned the token that was refused");
      this.#lost(now, 1006, "the token was refused before");
    } else {
      this.#token = value;
      this.#line.act("open", ticket);
    }
  }

  /**
   * @param {number} now
   * @param {number} ticket
   * @param {string} error
   */
  tokenFailed(now, ticket, error) {
    if (!this.#asks(ticket)) return;
    this.#line.act("warn", `the token function failed: ${error}`);
    this.#lost(now, 1006, `the token function failed: ${error}`);
  }

  /**
   * @param {number} _now
   * @param {number} attempt
   * @param {string} protocol
   */
  opened(_now, attempt, protocol) {
    if (this.state !== "connecting" || attempt !== this.#line.attempt) return;
    const token = this.#token === null ? {} : { token: this.#token };
    if (!PROTOCOLS.includes(protocol)) {
      this.#line.act("drop", attempt, 4400);
      this.#close(1002, "the server speaks another protocol");
    } else if (protocol !== PROTOCOLS[0]) {
      if (this.#token !== null) this.#line.act("warn", "the server is too old to be told a token");
    } else if (!this.#session) this.#line.send({ type: "authenticate", ...token });
    else {
      this.#resumes += 1;
      this.#resuming = true;
      const positions = this.#channels.resume();
      this.#line.send({ type: "resume", session: this.#session.token, attempt: this.#resumes, positions, ...token });
    }
  }

  /**
   * @param {number} now
   * @param {number} attempt
   * @param {string} text
   */
  received(now, attempt, text) {
    if ((this.state !== "connecting" && this.state !== "connected") || attempt !== this.#line.attempt) return;
    this.#heardAt = now;
    if (this.#line.connected) this.#answerBy = null;
    try {
      const message = JSON.parse(text);
      if (typeof message.type !== "string") throw new Error("a message has a type");
      if (message.type === "batched_updates" && this.#line.connected) {
        this.share = text.length / message.updates.length;
        this.#channels.batch(message.updates);
      } else this.#dispatch(now, message);
    } catch (error) {
      this.#line.act("warn", `the server breaks the protocol: ${/** @type {Error} */ (error).message}`);
      this.#line.act("drop", attempt, 4400);
      this.#lost(now, 4400, "the server breaks the protocol");
    }
  }

  /**
   * @param {number} now
   * @param {number} attempt
   * @param {number} code
   * @param {string} reason
   */
  closed(now, attempt, code, reason) {
    if ((this.state === "connecting" || this.state === "connected") && attempt === this.#line.attempt) {
      this.#lost(now, code, reason);
    }
  }

  /**
   * @param {number} now
   * @param {number} attempt
   * @param {string} reason
   * @param {boolean} fatal
   */
  failed(now, attempt, reason, fatal) {
    if (this.state !== "connecting" || attempt !== this.#line.attempt) return;
    if (fatal) this.#close(1002, reason);
    else this.#lost(now, 1006, reason);
  }

  /**
   * Something may have happened to the connection: the server has to show that it is there.
   *
   * @param {number} now
   * @param {string} _reason
   */
  probe(now, _reason) {
    const by = now + this.#options.probeTimeout;
    const answerBy = this.#answerBy;
    if (this.state === "waiting") this.#begin(now);
    else if (this.state === "connected" && !(answerBy !== null && now < answerBy && answerBy <= by)) {
      this.#answerBy = by;
      this.#line.send({ type: "heartbeat" });
    } else if (this.state === "connecting" && answerBy !== null && answerBy <= now) this.#answerBy = by;
  }

  /** @param {number} now */
  tick(now) {
    const pingAt = this.#pingAt();
    if (this.#retryAt !== null && now >= this.#retryAt) this.#begin(now);
    else if (this.#answerBy !== null && now >= this.#answerBy) {
      if (now - this.#answerBy > this.#options.late) this.probe(now, "late");
      else {
        this.#line.act("drop", this.#line.attempt, 4408);
        this.#lost(now, 4408, "no answer from the server");
      }
    } else if (pingAt !== null && now >= pingAt) {
      this.#answerBy = now + this.#options.answerTimeout;
      this.#line.send({ type: "heartbeat" });
    }
    if (this.#againAt !== null && now >= this.#againAt) {
      this.#againAt = null;
      this.#channels.askAll();
    }
    this.#requests.expire(now);
  }

  /** When `tick` is due, if it is. @returns {number | null} */
  get deadline() {
    const times = [this.#retryAt, this.#answerBy, this.#pingAt(), this.#againAt, ...this.#requests.deadlines()];
    const least = Math.min(...times.map((time) => time ?? Infinity));
    return least === Infinity ? null : least;
  }

  // ---- inside

  #add(/** @type {number} */ now, /** @type {string} */ kind, /** @type {object} */ message, /** @type {boolean | undefined} */ volatile) {
    const key = this.#requests.add(now, kind, message, volatile);
    if (this.state === "closed") this.#requests.dropAll("closed");
    return key;
  }

  #asks(/** @type {number} */ ticket) {
    return this.state === "connecting" && this.#asking && ticket === this.#line.attempt;
  }

  #pingAt() {
    if (!this.#line.connected || !this.#heartbeat || this.#answerBy !== null) return null;
    return this.#heardAt + this.#heartbeat;
  }

  /** Begins an attempt, or waits until there may be one. */
  #begin(/** @type {number} */ now) {
    if (now < this.#earliest()) return this.#wait(now);
    const { attempts, attemptTimeout, askToken, token } = this.#options;
    this.#starts = [...this.#starts, now].slice(-attempts);
    this.#line.attempt += 1;
    this.#retryAt = null;
    this.#answerBy = now + attemptTimeout;
    this.#setState("connecting", {});
    this.#asking = askToken;
    if (askToken) return this.#line.act("askToken", this.#line.attempt);
    this.#token = token;
    return this.#line.act("open", this.#line.attempt);
  }

  #earliest() {
    return this.#starts.length < this.#options.attempts ? 0 : this.#starts[0] + this.#options.attemptsIn;
  }

  #wait(/** @type {number} */ at) {
    this.#retryAt = Math.max(at, this.#earliest());
    this.#setState("waiting", { ...this.#last, at: this.#retryAt, failing: this.#failures >= this.#options.failing });
  }

  #setState(/** @type {string} */ state, /** @type {object} */ detail) {
    this.state = state;
    this.#line.act("state", state, detail);
  }

  #dispatch(/** @type {number} */ now, /** @type {any} */ message) {
    const { type } = message;
    if (type === "connection_established") {
      if (!this.#line.connected) this.#established(now, message);
    } else if (!this.#line.connected) {
      if (type !== "error") throw new Error(`the first message is ${type}`);
    } else if (type === "reconnect") this.#window = message.within;
    else if (type === "gap") this.#channels.gap(message);
    else if (this.#requests.answered(message)) return;
    else if (type === "subscription_established") this.#channels.established(message);
    else if (type === "subscription_ended") this.#channels.ended(message);
    else if (type === "error") this.#error(now, message);
  }

  /** The server has let the client in. Who the client is now is decided before anything is sent. */
  #established(/** @type {number} */ now, /** @type {any} */ message) {
    const { clientId, subject, resumed = false, session = null } = message;
    const same = this.#subject === undefined || subject === this.#subject;
    if (!resumed) {
      this.#session = session;
      this.#resumes = 0;
    }
    this.#subject = subject;
    this.#heartbeat = message.heartbeat * 1000;
    this.#window = message.reconnectWindow;
    this.#connectedAt = now;
    this.#answerBy = null;
    this.#refusals = this.#tries = 0;
    this.#line.connected = true;
    this.#requests.window = message.maxUnanswered ?? 64;
    this.#setState("connected", { clientId, subject, resumed });
    if (!same) this.#requests.dropAll("cancelled");
    this.#requests.connected(resumed);
    this.#channels.connected(clientId, this.#resuming, same);
    this.#resuming = false;
    this.#requests.flush();
  }

  #error(/** @type {number} */ now, /** @type {any} */ message) {
    this.#channels.error(message);
    if (this.#channels.again && this.#againAt === null) {
      this.#againAt = now + this.#jitter(this.#tries);
      this.#tries += 1;
    }
    if (message.id === undefined && message.channel === undefined) this.#line.act("warn", `${message.code}: ${message.message}`);
  }

  #jitter(/** @type {number} */ tries) {
    const { base, factor, cap } = this.#options;
    return this.#random() * Math.min(cap, base * factor ** Math.min(tries, 30));
  }

  /** The socket is gone. */
  #lost(/** @type {number} */ now, /** @type {number} */ code, /** @type {string} */ reason) {
    if (this.#line.connected && now - this.#connectedAt >= this.#options.useful) this.#failures = 0;
    this.#away(now);
    this.#last = { code, reason };
    const refused = code === 4401;
    // A token that is always the same one will be refused again.
    if (FOR_GOOD.includes(code) || (code >= 4500 && code <= 4999) || (refused && !this.#options.askToken)) {
      return this.#close(code, reason);
    }
    let delay = this.#failures ? this.#jitter(this.#failures - 1) : this.#random() * this.#window;
    if (refused) delay = this.#tokenRefused(delay);
    this.#failures += 1;
    return this.#wait(now + delay);
  }

  #tokenRefused(/** @type {number} */ delay) {
    this.#refused = this.#token;
    this.#refusals += 1;
    if (this.#refusals === 2) this.#line.act("warn", "the server has refused two tokens in a row");
    return this.#refusals < 2 ? delay : (this.#options.cap * (1 + this.#random())) / 2;
  }

  #away(/** @type {number} */ now) {
    this.#line.connected = this.#asking = this.#resuming = false;
    this.#answerBy = this.#retryAt = this.#againAt = null;
    this.#channels.disconnected();
    this.#requests.disconnected(now + (this.#session ? this.#session.ttl * 1000 : 0));
  }

  #close(/** @type {number} */ code, /** @type {string} */ reason) {
    this.#away(0);
    this.#session = null;
    this.#subject = undefined;
    this.#requests.dropAll("closed");
    this.#last = { code, reason };
    this.#setState("closed", this.#last);
    this.#channels.endAll({ reason, code: "closed" });
  }
}

const CLOSED = { reason: "closed by the application", code: "closed" };

/** Close codes below 4000 after which a client does not come back. */
const FOR_GOOD = [1000, 1002, 1003, 1007, 1009];

/** Channels that one message may name. */
const MOST_AT_ONCE = 128;

const PROTOCOLS = ["umbel.v1.first", "umbel.v1"];

// =================================================================================================================== client

/** Calls a function. What one of the application throws disturbs nobody else. */
function call(/** @type {Function | undefined} */ handler, /** @type {unknown[]} */ ...values) {
  try {
    handler?.(...values);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}

/** Why something that was asked for was not done. `code` is one of the protocol, or of the client: see docs/client-js.md. */
export class UmbelError extends Error {
  /** @param {{ code: string, message?: string, details?: unknown }} answer */
  constructor({ code, message, details }) {
    super(message || code);
    this.name = "UmbelError";
    this.code = code;
    this.details = details;
  }
}

/**
 * A connection to an Umbel server that comes back by itself. `connect` makes one and opens it.
 *
 * @example
 * const umbel = connect();
 * for await (const update of umbel.subscribe("task:42")) console.log(update.data);
 */
export class Client {
  /** @type {Connection} */
  #connection = Object.freeze({ state: "idle" });
  #machine;
  #options;
  #url;
  /** Actions are performed one after the other, also those for which handlers of the application ask meanwhile. */
  #performing = false;
  /** How often in a row a probe was sent because time had jumped. */
  #doubts = 0;
  /** What has arrived was read: a timer that is due may come before that, and then a healthy server seems to be silent. */
  #waited = false;
  /** @type {{ attempt: number, socket: WebSocket } | null} */
  #line = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** The moment for which the timer was set, on the monotonic clock, and what the wall clock is ahead of that. */
  #due = 0;
  #ahead = 0;
  /** The page is in the back/forward cache: nothing is opened. */
  #frozen = false;
  /** The newest attempt. */
  #attempt = 0;
  /** Ends the call of the token function that is under way. */
  #asking = new AbortController();
  #listening = new AbortController();
  /** @type {Map<number, Handlers>} */
  #subscriptions = new Map();
  /** @type {Map<number, Settle>} */
  #waiting = new Map();
  /** @type {Map<string, Set<Function>>} */
  #handlers = new Map();

  /**
   * @param {string | URL} [url]
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    this.#url = url;
    this.#options = options;
    // Options that are set before `open` count, too.
    this.#machine = new Machine({}, Math.random);
  }

  /** What is known of the connection; another object after each change. */
  get connection() {
    return this.#connection;
  }

  /**
   * Calls a function at each `"connection"` (its new state), `"gap"` of any subscription, or `"warning"` (a text; the console
   * shows it when nobody listens).
   *
   * @template {keyof Events} E
   * @param {E} event
   * @param {(value: Events[E]) => void} handler
   * @returns {() => void} what ends that
   */
  on(event, handler) {
    const handlers = this.#handlers.get(event) ?? new Set();
    this.#handlers.set(event, handlers.add(handler));
    return () => { handlers.delete(handler); };
  }

  /** Connects. `connect` does so, and all that needs a connection. */
  open() {
    if (this.#connection.state !== "idle") return;
    this.#url = address(this.#url);
    if (!this.#socketClass) throw new TypeError(NO_WEBSOCKET);
    const { token, random = Math.random, WebSocket: _, ...numbers } = this.#options;
    const asks = typeof token === "function";
    /** @type {Record<string, any>} */
    const options = asks ? { askToken: true } : { token: token ?? null };
    for (const [name, value] of Object.entries(numbers)) {
      if (value === undefined) continue;
      const known = Object.keys(DEFAULTS).includes(name);
      if (!(typeof value === "number" && value >= 0 && known)) {
        // What is misspelt may be a secret.
        throw new TypeError(`${name}${known ? `: ${value}` : ""} is no option of this client`);
      }
      options[name] = value;
    }
    this.#machine = new Machine(options, random);
    this.#listen();
    this.#ahead = Date.now() - performance.now();
    this.#do((now) => this.#machine.connect(now));
  }

  /** Connects at once if it waits, and demands an answer if it is connected: for a button, or a hint that the network is back. */
  retry() {
    this.#probe("retry");
  }

  /** Ends the session. All that waits is settled, and no socket, timer or listener is left. */
  close() {
    this.#listening.abort();
    this.#asking.abort();
    this.#do((now) => this.#machine.close(now));
  }

  /**
   * Follows a channel, for as long as it may. Without `onUpdate` and `onUpdates` it is read with `for await`.
   *
   * @param {string} channel
   * @param {SubscribeOptions | ((update: Update) => void)} [options] a function is the same as `onUpdate`
   */
  subscribe(channel, options = {}) {
    this.open();
    return new Subscription(this.#port, channel, typeof options === "function" ? { onUpdate: options } : options);
  }

  /**
   * Follows a channel of mode `latest`: the newest value of each key.
   *
   * @template K, V
   * @param {string} channel
   * @param {LatestOptions} options
   * @returns {Latest<K, V>}
   */
  latest(channel, options) {
    return new Latest(this, channel, options);
  }

  /**
   * Sends a message to the application.
   *
   * @param {string} type
   * @param {unknown} [data]
   * @param {RequestOptions} [options]
   * @returns {Promise<any>} the result. It is rejected with an `UmbelError` when there is none; `outcome_unknown` says that nobody
   *   knows whether the message was handled
   */
  request(type, data, options = {}) {
    return this.#ask(options, (now) => this.#machine.request(now, type, data, options.volatile));
  }

  /**
   * Publishes to a channel.
   *
   * @param {string} channel
   * @param {unknown} data
   * @param {RequestOptions & { key?: string }} [options]
   * @returns {Promise<{ channel: string, offset: number }>} where it is in the channel
   */
  publish(channel, data, options = {}) {
    return this.#ask(options, (now) => this.#machine.publish(now, channel, data, options.key, options.volatile));
  }

  /**
   * Starts a run: an answer that arrives in pieces.
   *
   * @param {string} type
   * @param {unknown} [data]
   */
  run(type, data) {
    this.open();
    return new Run(this.#port, (now) => this.#machine.run(now, type, data));
  }

  /**
   * Reads a run again from its start, after a reload of the page for example.
   *
   * @param {RunStart} start what `run.start` was
   */
  attach(start) {
    this.open();
    return new Run(this.#port, start);
  }

  // ---- inputs: what happens goes into the machine, and what it says is done

  /**
   * @template T
   * @param {(now: number) => T} input
   * @returns {T}
   */
  #do(input) {
    const result = input(performance.now());
    if (!this.#performing) {
      this.#performing = true;
      const { actions } = this.#machine;
      // Handlers of the application ask for more meanwhile: that comes after what is in the list.
      for (let next = 0; next < actions.length; next += 1) {
        const [name, ...values] = actions[next];
        call(this.#acts[name], ...values);
      }
      actions.length = 0;
      this.#performing = false;
      this.#arm();
    }
    return result;
  }

  /**
   * @param {RequestOptions} options
   * @param {(now: number) => number} input
   * @returns {Promise<any>}
   */
  #ask({ signal }, input) {
    this.open();
    return new Promise((resolve, reject) => {
      const key = this.#port.ask(input, (ok, value) => (ok ? resolve(value) : reject(new UmbelError(value))));
      const cancel = () => this.#port.cancel(key);
      if (signal?.aborted) cancel();
      else signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** What subscriptions and runs may do. */
  #port = {
    subscribe: (/** @type {string} */ channel, /** @type {Position | null | undefined} */ position, /** @type {Handlers} */ handlers) => this.#do((now) => {
      if (typeof channel !== "string") throw new TypeError("a channel is a string");
      const id = this.#machine.subscribe(now, channel, position && positionOf(position, "offset"));
      this.#subscriptions.set(id, handlers);
      return id;
    }),
    adopt: (/** @type {number} */ id, /** @type {Handlers} */ handlers) => void this.#subscriptions.set(id, handlers),
    unsubscribe: (/** @type {number} */ id) => {
      if (this.#subscriptions.delete(id)) this.#do((now) => this.#machine.unsubscribe(now, id));
    },
    ask: (/** @type {(now: number) => number} */ input, /** @type {Settle} */ settle) => this.#do((now) => {
      const key = input(now);
      this.#waiting.set(key, settle);
      return key;
    }),
    cancel: (/** @type {number} */ key) => { if (this.#waiting.has(key)) this.#do((now) => this.#machine.cancel(now, key)); },
    stop: (/** @type {string} */ runId) => this.request("ai_cancel", { runId }),
    share: () => this.#machine.share,
    missed: (/** @type {Gap} */ gap) => this.#tell("gap", gap),
  };

  get #socketClass() {
    return this.#options.WebSocket ?? globalThis.WebSocket;
  }

  /** What happens to a page. */
  #listen() {
    const { signal } = this.#listening;
    const on = (/** @type {any} */ target, /** @type {string} */ name, /** @type {(event: any) => void} */ handler) =>
      target?.addEventListener?.(name, handler, { signal });
    const page = globalThis.document;
    on(globalThis, "online", () => this.#probe("online"));
    on(globalThis, "offline", () => { if (this.#connection.state === "connected") this.#probe("offline"); });
    on(/** @type {any} */ (globalThis.navigator)?.connection, "change", () => this.#probe("network"));
    on(page, "visibilitychange", () => { if (page.visibilityState === "visible") this.#probe("visible"); });
    on(page, "resume", () => this.#probe("resume"));
    on(globalThis, "pageshow", ({ persisted }) => {
      if (!persisted) return;
      this.#frozen = false;
      this.#probe("pageshow");
    });
    on(globalThis, "pagehide", ({ persisted }) => {
      if (!persisted) return this.close();
      // A page with an open socket is not kept, or its socket is cut without a word.
      this.#frozen = true;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#drop(this.#attempt, PUT_AWAY);
      return this.#do((now) => this.#machine.closed(now, this.#attempt, PUT_AWAY, "the page was left"));
    });
  }

  #probe(/** @type {string} */ reason) {
    if (!this.#frozen) this.#do((now) => this.#machine.probe(now, reason));
  }

  // ---- time

  #arm() {
    const { deadline } = this.#machine;
    if (this.#frozen || this.#connection.state === "closed") {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      return;
    }
    const now = performance.now();
    const due = Math.min(deadline ?? Infinity, now + WATCH);
    if (this.#timer !== undefined && this.#due <= due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#wake(), Math.max(0, due - now));
  }

  #wake() {
    this.#timer = undefined;
    const now = performance.now();
    const late = now - this.#due;
    const ahead = Date.now() - now;
    const slept = late > WATCH || Math.abs(ahead - this.#ahead) > WATCH;
    this.#ahead = ahead;
    if (slept && this.#doubts < 2) {
      // The computer or the page was asleep.
      this.#doubts += 1;
      this.#probe("clock");
      this.#arm();
    } else if (!this.#waited) {
      this.#waited = true;
      const pause = late > LATE ? LATE : 0;
      this.#due = now + pause;
      this.#timer = setTimeout(() => this.#wake(), pause);
    } else {
      this.#waited = false;
      this.#do((now) => this.#machine.tick(now));
    }
  }

  // ---- actions: what the machine says

  /** @type {Record<string, (...values: any[]) => void>} */
  #acts = {
    open: (attempt) => {
      this.#attempt = attempt;
      const opens = this.#socketClass;
      /** @type {WebSocket} */
      let socket;
      try {
        socket = new opens(this.#url, PROTOCOLS);
      } catch (error) {
        // This address, in this page, can't be opened: an insecure one from a secure page, for example.
        return void this.#do((now) => this.#machine.failed(now, attempt, String(error), true));
      }
      let isOpen = false;
      this.#line = { attempt, socket };
      socket.onopen = () => {
        isOpen = true;
        this.#do((now) => this.#machine.opened(now, attempt, socket.protocol));
      };
      socket.onmessage = ({ data }) => {
        this.#doubts = 0;
        this.#do((now) => this.#machine.received(now, attempt, data));
      };
      socket.onclose = ({ code, reason }) => {
        this.#line = null;
        this.#do((now) => (isOpen
          ? this.#machine.closed(now, attempt, code, reason)
          : this.#machine.failed(now, attempt, "the connection could not be opened", false)));
      };
      // The `close` that follows says all that there is.
      socket.onerror = () => {};
      return undefined;
    },
    send: (attempt, text) => { if (this.#line?.attempt === attempt) this.#line?.socket.send(text); },
    drop: (attempt, code) => this.#drop(attempt, code),
    askToken: async (ticket) => {
      const { token } = this.#options;
      this.#attempt = ticket;
      // Of two calls, the former is superseded: it took too long.
      this.#asking.abort();
      this.#asking = new AbortController();
      /** @type {(now: number) => void} */
      let input;
      try {
        const value = typeof token === "function" ? await token(this.#asking.signal) : token;
        input = (now) => this.#machine.token(now, ticket, value);
      } catch (error) {
        input = (now) => this.#machine.tokenFailed(now, ticket, String(error));
      }
      this.#do(input);
    },
    state: (state, detail) => {
      const at = detail.at && { at: Math.round(detail.at + Date.now() - performance.now()) };
      this.#connection = Object.freeze({ state, ...detail, ...at });
      this.#tell("connection", this.#connection);
    },
    updates: (id, updates) => this.#subscriptions.get(id)?.updates(updates),
    gap: (id, gap) => this.#subscriptions.get(id)?.gap(gap),
    begun: (id, begun) => this.#subscriptions.get(id)?.begun(begun),
    ended: (id, end) => {
      const handlers = this.#subscriptions.get(id);
      this.#subscriptions.delete(id);
      handlers?.ended(this.#listening.signal.aborted ? { reason: end.reason } : end);
    },
    settled: (key, ok, value) => {
      const settle = this.#waiting.get(key);
      this.#waiting.delete(key);
      settle?.(ok, value);
    },
    warn: (text) => { if (!this.#tell("warning", text)) console.warn(`umbel: ${text}`); },
  };

  /** A socket is not waited for: its `close` may take a minute. */
  #drop(/** @type {number} */ attempt, /** @type {number} */ code) {
    if (this.#line?.attempt !== attempt) return;
    const { socket } = this.#line;
    this.#line = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  #tell(/** @type {string} */ event, /** @type {unknown} */ value) {
    const handlers = this.#handlers.get(event);
    for (const handler of handlers ?? []) call(handler, value);
    return Boolean(handlers?.size);
  }
}

// ================================================================================================================== readers

/** What loops wait for. */
class Bell {
  /** @type {(() => void)[]} */
  #waiting = [];

  wait() {
    return new Promise((/** @type {(_?: any) => void} */ resolve) => { this.#waiting.push(resolve); });
  }

  ring() {
    for (const resume of this.#waiting.splice(0)) resume();
  }
}

/**
 * A channel that is followed: `for await (const update of subscription)`, or the functions that it was made with.
 *
 * In the stream a gap has its place, too: an item whose `gap` says what was missed.
 *
 * @implements {AsyncIterable<Update | Missed>}
 */
export class Subscription {
  /** How far the application has read: with it, another subscription goes on here. @type {Position | null} */
  position = null;
  #port;
  #options;
  #id = 0;
  #over = false;
  /** @type {{ item: Update | Missed, epoch: string, to: number, size: number }[]} */
  #buffer = [];
  #read = 0;
  #size = 0;
  /** The buffer was full, and the channel was left until it is read. */
  #left = false;
  /** Of the newest item in the buffer. */
  #epoch = "";
  /** @type {unknown} */
  #failure;
  #bell = new Bell();

  /**
   * @param {any} port
   * @param {string} channel
   * @param {SubscribeOptions} options
   */
  constructor(port, channel, options) {
    this.channel = channel;
    this.#port = port;
    this.#options = options;
    this.#begin(options.position);
  }

  /** Follows the channel no longer. What was not read is dropped. */
  close() {
    this.#port.unsubscribe(this.#id);
    this.#buffer = [];
    this.#end();
  }

  /** @returns {AsyncGenerator<Update | Missed, void>} */
  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        const next = this.#buffer[this.#read];
        if (next) {
          this.#read += 1;
          this.#size -= next.size;
          this.position = { epoch: next.epoch, offset: next.to };
          if (this.#read > 1000 || this.#read === this.#buffer.length) {
            this.#buffer.splice(0, this.#read);
            this.#read = 0;
          }
          yield next.item;
        } else if (this.#failure) throw this.#failure;
        else if (this.#over) return;
        else if (this.#left) this.#begin(this.position);
        else await this.#bell.wait();
      }
    } finally {
      this.close();
    }
  }

  #begin(/** @type {Position | null | undefined} */ position) {
    const { onUpdate, onUpdates, onGap, onBegun, onEnded } = this.#options;
    const calls = Boolean(onUpdate ?? onUpdates);
    this.#left = false;
    this.#id = this.#port.subscribe(this.channel, position, {
      begun: (/** @type {Begun} */ begun) => {
        if (calls || !this.#buffer.length) this.position = begun.position;
        this.#epoch = begun.position.epoch;
        call(onBegun, begun);
      },
      updates: (/** @type {Update[]} */ updates) => {
        if (!calls) return this.#keep(updates);
        if (onUpdates) {
          this.#move(updates[updates.length - 1].offset);
          call(onUpdates, updates);
        }
        for (let index = 0; onUpdate && index < updates.length && !this.#over; index += 1) {
          this.#move(updates[index].offset);
          call(onUpdate, updates[index]);
        }
        return undefined;
      },
      gap: (/** @type {Gap} */ missed) => {
        const gap = { ...missed, channel: this.channel };
        this.#epoch = gap.epoch;
        this.#port.missed(gap);
        if (!calls) this.#push({ channel: this.channel, gap }, gap.to, ITEM);
        else this.position = { epoch: gap.epoch, offset: gap.to };
        call(onGap, gap);
      },
      ended: (/** @type {{ code?: string, reason: string }} */ { code, reason }) => {
        const error = code ? new UmbelError({ code, message: reason }) : null;
        if (error && calls && !onEnded) console.warn(`umbel: ${this.channel}: ${reason}`);
        this.#end(error);
        call(onEnded, error, reason);
      },
    });
  }

  #move(/** @type {number} */ offset) {
    this.position = { epoch: this.#epoch, offset };
  }

  #keep(/** @type {Update[]} */ updates) {
    const size = this.#port.share() + ITEM;
    for (const update of updates) this.#push(update, update.offset, size);
  }

  #push(/** @type {Update | Missed} */ item, /** @type {number} */ to, /** @type {number} */ size) {
    if (this.#over || this.#left) return;
    this.#buffer.push({ item, epoch: this.#epoch, to, size });
    this.#size += size;
    this.#bell.ring();
    if (this.#size <= BUFFER) return;
    this.#left = true;
    this.#port.unsubscribe(this.#id);
  }

  #end(/** @type {unknown} */ failure = null) {
    this.#over = true;
    this.#failure ??= failure;
    this.#bell.ring();
  }
}

/**
 * The newest value of each key in a channel of mode `latest`.
 *
 * @template K, V
 * @extends {Map<K, V>}
 */
export class Latest extends Map {
  #subscription;

  /**
   * @param {Client} client
   * @param {string} channel
   * @param {LatestOptions} options
   */
  constructor(client, channel, { key, onChange, onGap, ...options }) {
    super();
    this.#subscription = client.subscribe(channel, {
      ...options,
      onUpdates: (updates) => {
        for (const { data } of updates) call(() => this.set(key(/** @type {V} */ (data)), /** @type {V} */ (data)));
        call(onChange, this);
      },
      onGap: (gap) => {
        // Another log: what it does not repeat may be no longer so.
        if (!KEPT.includes(gap.reason)) {
          this.clear();
          call(onChange, this);
        }
        call(onGap, gap);
      },
    });
  }

  /** How far it has read. */
  get position() {
    return this.#subscription.position;
  }

  /** Follows the channel no longer. The map stays as it is. */
  close() {
    this.#subscription.close();
  }
}

/**
 * An answer that arrives in pieces: `for await (const text of run)`. The loop ends with the run, and `status` says how.
 *
 * @implements {AsyncIterable<string>}
 */
export class Run {
  /** `lost`: the server no longer has it, or a part of it. @type {"waiting" | "running" | "complete" | "cancelled" | "error" | "lost"} */
  status = "waiting";
  /** All that has come so far. */
  text = "";
  /** What `attach` needs to read it again. @type {RunStart | null} */
  start = null;
  /** The number under which the log of the application has the error. @type {string | number | undefined} */
  incident;
  #port;
  #id = 0;
  #key = 0;
  #over = false;
  /** @type {unknown} */
  #failure;
  #bell = new Bell();

  /**
   * @param {any} port
   * @param {((now: number) => number) | RunStart} what how it is started, or where it is read
   */
  constructor(port, what) {
    this.#port = port;
    if (typeof what !== "function") {
      this.start = what;
      this.#id = port.subscribe(what.channel, { epoch: what.epoch, offset: 0 }, this.#events);
      return;
    }
    this.#key = port.ask(what, (/** @type {boolean} */ ok, /** @type {any} */ value) => {
      if (ok) {
        this.start = { channel: value.channel, epoch: value.epoch };
        this.#id = value.subscription;
        if (this.#over) port.unsubscribe(this.#id);
        else port.adopt(this.#id, this.#events);
      } else if (value.code === "cancelled") {
        this.#end("cancelled");
      } else {
        this.#failure = new UmbelError(value);
        this.#end("error");
      }
    });
  }

  /** Stops the run, also before it has begun. What has come stays. */
  cancel() {
    if (this.#over) return;
    if (this.start) this.#port.stop(this.start.channel.slice("run:".length)).catch(() => {});
    else this.#port.cancel(this.#key);
  }

  /** Reads no further. The run goes on. */
  close() {
    if (this.#id) this.#port.unsubscribe(this.#id);
    this.#end(this.status);
  }

  async *[Symbol.asyncIterator]() {
    for (let read = 0; ;) {
      if (read < this.text.length) {
        const piece = this.text.slice(read);
        read = this.text.length;
        yield piece;
      } else if (this.#failure) {
        throw this.#failure;
      } else if (this.#over) {
        return;
      } else {
        await this.#bell.wait();
      }
    }
  }

  #events = {
    begun: () => { if (this.status === "waiting") this.status = "running"; },
    updates: (/** @type {Update[]} */ updates) => {
      for (const { data } of /** @type {any[]} */ (updates)) {
        if (data?.type === "ai_response_chunk") this.text += data.chunk;
        if (data?.type === "ai_response_end") {
          this.incident = data.incident;
          this.#end(data.status);
        }
      }
      this.status = this.#over ? this.status : "running";
      this.#bell.ring();
    },
    gap: (/** @type {Gap} */ { reason }) => {
      if (reason === "turn") return;
      this.#port.unsubscribe(this.#id);
      this.#end("lost");
    },
    ended: () => this.#end("lost"),
  };

  #end(/** @type {Run["status"]} */ status) {
    if (this.#over) return;
    this.#over = true;
    this.status = status;
    this.#bell.ring();
  }
}

// ================================================================================================================ connect

/**
 * Connects to a server, and comes back to it until `close`.
 *
 * @param {string | URL} [url] by default the path `/ws` of the server that this file or this page is from
 * @param {Options} [options]
 */
export function connect(url, options) {
  const client = new Client(url, options);
  client.open();
  return client;
}

/** @param {string | URL | undefined} url */
function address(url) {
  const own = import.meta.url;
  const base = /\/umbel\/client[^/]*\.js/.test(own) ? own : globalThis.location?.href;
  if (!base && !url) throw new TypeError("name the server: connect(\"wss://example.org/ws\")");
  const absolute = new URL(url ?? "/ws", base);
  absolute.protocol = absolute.protocol.replace("http", "ws");
  return absolute.href;
}

const NO_WEBSOCKET = "there is no WebSocket here: use a newer browser, Node.js 22, or the option WebSocket with that of the package ws";

/** Milliseconds between two looks at the clocks. */
const WATCH = 2000;

/** Milliseconds after which a timer is late, and for which then what has arrived is read. */
const LATE = 50;

/** The close code of a page that enters the back/forward cache: its session waits. */
const PUT_AWAY = 4400;

/** Bytes that wait for the reader of an iterator. */
const BUFFER = 4 << 20;

/** Bytes that an item takes besides its text. */
const ITEM = 200;

/** Reasons of gaps after which the newest values are still the newest that are known. */
const KEPT = ["turn", "trimmed", "overrun", "burst", "memory"];
