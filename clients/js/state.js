/**
 * Shared state: a map that all subscribers of a channel have. umbel.js loads this file when a page asks for a state. What users call
 * is described in umbel.d.ts, what is inside in machine.d.ts.
 *
 * @module
 */
/** @import * as Face from "./umbel.d.ts" */
/** @import * as Inside from "./machine.d.ts" */
/** @import { Base, Change, Entry } from "./machine.d.ts" */

// ================================================================================================================= machine
// What is shown of a state: the entries of the server, and the changes of this client on top of them until its position has reached
// them. Events go in, each with the time in milliseconds. The Python client has a machine that does the same; both are tested with
// clients/vectors/state.

/** @type {Inside.CreateStateMachine} */
export const createStateMachine = (channel, random) => {
  /** @type {Map<string, Entry>} */
  const entries = new Map();
  /** Of each key, in the order of the calls: those without an outcome, and those that the position has not reached. @type {Map<string, Change[]>} */
  const changes = new Map();
  /** What has no answer yet, by its number. @type {Map<number, Change>} */
  const sent = new Map();
  /** Updates that wait before they are tried again. @type {Set<Change>} */
  const pausing = new Set();
  /** Epochs of the past. @type {Set<string>} */
  const former = new Set();
  /** Keys of which something else may be shown, and what, if that is known. @type {Map<string, { value: unknown } | undefined>} */
  const touched = new Map();
  const shown = new Map();
  let epoch = "";
  let offset = 0;
  /** Conflicts up to here are of the past. */
  let past = 0;
  let top = Infinity;
  // The map was whole once: what is changed before waits for that.
  let loaded = false;
  let wasWhole = false;
  /** Why nothing more is done. @type {object | undefined} */
  let end;
  let numbers = 0;

  const act = (/** @type {unknown[]} */ ...action) => { machine.actions.push(action); };

  const touch = (/** @type {string} */ key) => { touched.set(key, undefined); };

  const here = (/** @type {string} */ key) => entries.get(key) || ABSENT;

  const changesOf = (/** @type {string} */ key) => changes.get(key) || [];

  // ---- what is shown

  /** Calls the function of an update, if it was not called with this value. @type {(change: Change, value: unknown) => void} */
  const fill = (change, value) => {
    const { apply, start } = change;
    if (!apply || (start && same(start.value, value))) return;
    change.value = plain(apply(value === undefined ? value : plain(value)));
    change.start = { value };
  };

  /** What a change makes of a value. @type {(value: unknown, change: Change) => unknown} */
  const changed = (value, change) => {
    if (change.kind === "patch") return mergePatch(value, change.value);
    if (change.state === "queued" && !change.base) try {
      fill(change, value);
    } catch (error) {
      // It fails again when it is to be sent.
    }
    return change.value;
  };

  const valueOf = (/** @type {string} */ key) => changesOf(key).reduce(changed, here(key).value);

  /** Tells what is shown now. */
  const show = () => {
    /** @type {[string, unknown?][]} */
    const list = [];
    for (const [key, known] of touched) {
      const value = known ? known.value : valueOf(key);
      if (same(shown.get(key), value)) continue;
      // The map that pages see is this one: `set` and `delete` are other ones there.
      if (value === undefined) Map.prototype.delete.call(shown, key);
      else Map.prototype.set.call(shown, key, value);
      list.push(value === undefined ? [key] : [key, value]);
    }
    touched.clear();
    const { whole } = machine;
    if (list.length || whole !== wasWhole) act("show", list);
    wasWhole = whole;
  };

  // ---- changes

  /** @type {(change: Change, error?: object) => void} */
  const remove = (change, error) => {
    const { key } = change;
    const those = changesOf(key);
    those.splice(those.indexOf(change), 1);
    if (!those.length) changes.delete(key);
    pausing.delete(change);
    touch(key);
    change.state = error ? "failed" : "read";
    if (error) act("reject", change.number, error);
  };

  /** Sends a change, or rejects it. Returns whether that was possible. @type {(now: number, change: Change) => unknown} */
  const send = (now, change) => {
    const { number, kind, key, before, apply } = change;
    /** @type {Base | undefined} */
    let base;
    // A patch goes on top of whatever there is.
    if (kind !== "patch") {
      base = change.base || { epoch, ...here(key) };
      if (before && before.state === "confirmed") {
        // What is there now is known when the position has reached it.
        if (before.kind === "patch" || before.resolved) return false;
        const { epoch, offset, value } = /** @type {Change & Face.Position} */ (before);
        base = { epoch, version: value === undefined ? 0 : offset, value };
      // Its user saw something else, or what has never come to be.
      } else if (before && !apply && (before.state === "failed" || !same(base.value, change.seen))) return remove(change, UNSEEN), true;
    }
    change.state = "sent";
    change.before = undefined;
    try {
      if (base) fill(change, base.value);
    } catch (error) {
      return remove(change, /** @type {Error} */ (error)), true;
    }
    change.at = now;
    sent.set(number, change);
    if (apply) touch(key);
    act("request", number, {
      type: `state_${apply ? "set" : kind}`,
      channel,
      key,
      data: change.value,
      ...(base && { ifVersion: base.version, epoch: base.epoch }),
      // An update sees what there is: nobody else has to decide.
      ...(apply && { resolve: false }),
    });
    return true;
  };

  /** Sends the next change of a key. @type {(now: number, key: string) => void} */
  const pump = (now, key) => {
    for (;;) {
      const next = changesOf(key).find(({ state }) => state !== "confirmed");
      if (!next || !loaded || end || next.state === "sent" || pausing.has(next) || !send(now, next)) return;
    }
  };

  /** Removes what was confirmed and is among the entries, or was confirmed before the epoch of now. @type {(key: string, told?: boolean) => void} */
  const drop = (key, told) => {
    for (const change of [...changesOf(key)]) {
      const read = change.epoch === epoch ? machine.whole && offset >= /** @type {number} */ (change.offset) : told || former.has(/** @type {string} */ (change.epoch));
      if (change.state === "confirmed" && read) remove(change);
    }
  };

  /** The position has moved. @type {(now: number, told?: boolean) => void} */
  const moved = (now, told) => {
    loaded = loaded || machine.whole;
    for (const key of [...changes.keys()]) {
      drop(key, told);
      pump(now, key);
    }
    show();
  };

  /** The server says where the log is now. @type {(now: number, position: Face.Position, end: number, clears: boolean) => void} */
  const place = (now, position, end, clears) => {
    if (position.epoch !== epoch) former.add(epoch);
    past = position.epoch === epoch ? Math.max(past, offset) : 0;
    if (clears) past = Math.max(past, end);
    ({ epoch, offset } = position);
    top = end;
    if (clears) {
      for (const key of entries.keys()) touch(key);
      entries.clear();
    }
    moved(now, true);
  };

  /** @type {Inside.StateMachine} */
  const machine = {
    actions: [],
    shown,
    get whole() {
      return offset >= top;
    },
    get deadline() {
      return Math.min(...[...pausing].map(({ at }) => at));
    },
    begun(now, { position, top, recovered, state }) {
      if (state) place(now, position, top, !recovered);
      else act("leave", { code: "not_a_state", reason: `${channel} is no channel of mode "state"` });
    },
    gap(now, { epoch, to, top: end = 0, reason }) {
      const clears = reason !== "turn";
      place(now, { epoch, offset: to }, clears ? end : top, clears);
    },
    updates(now, updates) {
      const resolved = [];
      for (const { key = "", offset: to, data, removed, conflict, top: end = 0 } of updates) {
        if (conflict && to > past) resolved.push([key, conflict]);
        if (removed) entries.delete(key);
        else entries.set(key, { version: to, value: data });
        touch(key);
        offset = to;
        top = Math.max(top, end);
      }
      moved(now);
      for (const [key, conflict] of resolved) act("conflict", key, conflict);
    },
    call(now, kind, key, given) {
      const seen = touched.has(key) ? valueOf(key) : shown.get(key);
      /** @type {Change} */
      const change = { number: numbers += 1, kind, key, state: "queued", seen, round: 0, at: 0, since: 0 };
      if (kind === "update") {
        change.apply = /** @type {Change["apply"]} */ (given);
        fill(change, seen);
      } else if (kind !== "delete") change.value = plain(given);
      const those = changesOf(key);
      change.before = those[those.length - 1];
      if (loaded && !change.before) change.base = { epoch, ...here(key) };
      changes.set(key, [...those, change]);
      // Nothing below it has changed: many changes of one key would be made again and again.
      touched.set(key, touched.has(key) ? undefined : { value: changed(seen, change) });
      if (end) remove(change, end);
      pump(now, key);
      show();
      return change.number;
    },
    settled(now, number, ok, value) {
      const change = sent.get(number);
      if (!change) return;
      const { key, apply, at, round } = change;
      if (!round) change.since = now;
      sent.delete(number);
      if (ok) {
        Object.assign(change, value, { state: "confirmed" });
        act("resolve", number, value);
      } else if (value.code === UNSEEN.code && apply && !end && round + 1 < ROUNDS && now - change.since < PATIENCE) {
        const { epoch, version, data, removed } = value.details;
        change.state = "queued";
        change.round += 1;
        // Without data it is what comes with the updates.
        change.base = removed || data !== undefined ? { epoch, version, value: data } : undefined;
        // Several that count the same number up disturb each other less if they don't come at once.
        change.at = now + random() * Math.min((now - at) * Math.min(2 ** change.round, TIMES), PAUSE);
        pausing.add(change);
      } else remove(change, value.code === "answer_lost" ? { ...value, code: "outcome_unknown" } : value);
      drop(key);
      pump(now, key);
      show();
    },
    tick(now) {
      for (const change of [...pausing]) {
        if (change.at > now) continue;
        pausing.delete(change);
        pump(now, change.key);
      }
      show();
    },
    ended(_, { code = "ended", reason }) {
      end = end || { code, message: reason };
      for (const those of [...changes.values()]) {
        for (const change of [...those]) if (change.state === "queued") remove(change, end);
      }
      show();
    },
  };
  return machine;
};

/** @type {Entry} */
const ABSENT = { version: 0, value: undefined };

const UNSEEN = { code: "state_conflict", message: "the entry is not what was seen" };

/** Changes of one map without an outcome. */
const MOST = 1000;

/** An update is tried so often, for so many milliseconds after it was refused first. */
const ROUNDS = 20;
const PATIENCE = 10_000;

/** The longest pause before it is tried again: in round trips, and in milliseconds. What was said without a connection took longer. */
const TIMES = 16;
const PAUSE = 2000;

/** What JSON makes of a value. */
const plain = (/** @type {unknown} */ value) => {
  const text = JSON.stringify(value);
  if (text === undefined || value instanceof Promise) throw new TypeError("this can't be JSON");
  return JSON.parse(text);
};

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Whether two values of JSON are the same. @type {(one: unknown, other: unknown) => unknown} */
const same = (one, other) => {
  if (!one || !other) return one === other;
  const [text, another] = [one, other].map((it) => JSON.stringify(it));
  return text === another || (text.length === another.length && inOrder(one) === inOrder(other));
};

const inOrder = (/** @type {unknown} */ value) => JSON.stringify(value, (_, it) => (isObject(it) ? Object.fromEntries(Object.entries(it).sort()) : it));

/**
 * The value that a JSON merge patch (RFC 7396) makes of another one. Neither of the two is changed. Objects are made of entries:
 * `__proto__` is a name as others.
 *
 * @type {(target: unknown, patch: unknown) => unknown}
 */
export const mergePatch = (target, patch) => {
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name);
    else merged.set(name, mergePatch(merged.get(name), value));
  }
  return Object.fromEntries(merged);
};

// ================================================================================================================= the map

/** @type {Inside.CreateState} */
export const createState = (port, channel, { onChange, onConflict, onEnded, event, signal }) => new Promise((resolve, reject) => {
  const machine = createStateMachine(channel, Math.random);
  const { actions, shown } = machine;
  /** Calls without an outcome, by their numbers. @type {Map<number, Function[]>} */
  const waiting = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let performing = false;
  let id = 0;

  const take = (/** @type {number} */ number) => {
    const those = /** @type {Function[]} */ (waiting.get(number));
    waiting.delete(number);
    return those;
  };

  /** @type {Record<string, (...values: any[]) => void>} */
  const acts = {
    request(number, message) { port.ask(["change", event ? { ...message, event } : message], (ok, value) => feed("settled", number, ok, value)); },
    resolve: (number, value) => take(number)[0](value),
    reject: (number, error) => take(number)[1](error instanceof Error ? error : port.error(error)),
    show(/** @type {[string][]} */ list) {
      const { whole } = machine;
      Object.assign(state, { whole });
      port.call(onChange, state, list.map(([key]) => key));
      if (whole) resolve(state);
    },
    conflict: (key, conflict) => port.call(onConflict, state, key, conflict),
    leave: (end) => events.ended(end),
  };

  /** What handlers ask for meanwhile comes after what is in the list. @type {() => void} */
  const perform = () => {
    if (performing) return;
    performing = true;
    for (const [name, ...values] of actions) acts[name](...values);
    actions.length = 0;
    performing = false;
    clearTimeout(timer);
    const { deadline } = machine;
    if (deadline < Infinity) timer = setTimeout(feed, deadline - performance.now(), "tick");
  };

  /** @type {(event: keyof Inside.StateMachine, ...values: unknown[]) => void} */
  const feed = (event, ...values) => {
    /** @type {any} */ (machine)[event](performance.now(), ...values);
    perform();
  };

  /** @type {(kind: string) => (key: string, value?: any) => Promise<any>} */
  const asks = (kind) => (key, value) => new Promise((...sides) => {
    if (waiting.size >= MOST) throw port.error({ code: "queue_full" });
    waiting.set(machine.call(performance.now(), kind, key, value), sides);
    perform();
  });

  /** @type {(end: Inside.End) => void} */
  const finish = (end) => {
    if (signal) signal.removeEventListener("abort", close);
    port.unsubscribe(id);
    feed("ended", end);
    reject(port.error({ code: "closed", message: end.reason, ...end }));
  };

  const close = () => finish({ code: "closed", reason: "closed by the application" });

  /** @type {any} */
  const state = Object.assign(shown, {
    channel, whole: false, set: asks("set"), patch: asks("patch"), delete: asks("delete"), update: asks("update"), clear: undefined, close,
  });

  /** @type {(event: keyof Inside.StateMachine) => (value: unknown) => void} */
  const passes = (event) => (value) => feed(event, value);

  const events = {
    begun: passes("begun"),
    updates: passes("updates"),
    gap: passes("gap"),
    ended(/** @type {Inside.End} */ end) {
      const error = port.failure(end);
      if (error && !onEnded && state.whole) console.warn(`umbel: ${channel}: ${end.reason}`);
      finish(end);
      port.call(onEnded, error, end.reason);
    },
  };
  id = port.subscribe(channel, null, events);
  if (signal) {
    signal.addEventListener("abort", close);
    if (signal.aborted) close();
  }
});
