/**
 * Who is in a channel: a live map. umbel.js loads this file when a page asks for it. What users call is described in umbel.d.ts, what is
 * inside in machine.d.ts.
 *
 * @module
 */
/** @import * as Face from "./umbel.d.ts" */
/** @import * as Inside from "./machine.d.ts" */

/** @type {Inside.CreatePresence} */
export const createPresence = (port, client, channel, { onChange, onEnded, signal }) => new Promise((resolve, reject) => {
  /** What has come. It is shown when it is whole: then who came and who left is the difference. @type {Map<string, any>} */
  const entries = new Map();
  /** Keys of which something else may be shown. @type {Set<string>} */
  const touched = new Set();
  const shown = new Map();
  const { set, delete: remove } = shown;
  let offset = 0;
  let top = Infinity;
  let here = false;
  let counted = false;
  let over = false;
  /** What a lost session has forgotten, and what has no answer yet. */
  let said = {};
  /** @type {Set<Face.Presence>} */
  const saying = new Set();
  let me = client.connection;
  /** @type {Face.Connection | undefined} */
  let again;
  /** The two subscriptions. @type {number[]} */
  const ids = [];

  const show = () => {
    if (offset < top) return;
    const number = entries.get("");
    /** @type {any[][]} */
    const [joined, left] = [[], []];
    for (const key of touched) {
      const [before, now] = [shown.get(key), key && entries.get(key)];
      if (now) set.call(shown, key, now);
      else remove.call(shown, key);
      if (now && !before) joined.push(now);
      if (before && !now) left.push(before);
    }
    members.count = number ? number.count : shown.size;
    // Who was there already did not join, nor did those of whom only the number was known.
    const told = here && !counted && !number ? [joined, left] : [[], []];
    const news = touched.size || !here;
    touched.clear();
    counted = Boolean(number);
    here = true;
    if (news) port.call(onChange, members, ...told);
    resolve(members);
  };

  /** @type {(to: number, end: number, clears: boolean) => void} */
  const place = (to, end, clears) => {
    offset = to;
    top = end;
    if (clears) {
      for (const key of entries.keys()) touched.add(key);
      entries.clear();
    }
    show();
  };

  /** What this client says is for a session, and a subject. By now the channel is asked for, and the server takes all in order. */
  const off = client.on("connection", (now) => {
    const { state, clientId, subject } = now;
    if (state !== "connected") return;
    if (me.clientId && me.subject !== subject) {
      said = {};
      saying.clear();
    }
    if (me.clientId && me.clientId !== clientId) for (const change of [said, ...saying]) {
      if (Object.keys(change).length) client.present(channel, change).catch(({ message }) => console.warn(`umbel: ${channel}: ${message}`));
    }
    me = now;
  });

  /** @type {(end: Inside.End) => void} */
  const finish = (end) => {
    over = true;
    off();
    if (signal) signal.removeEventListener("abort", close);
    // Last the channel: the other one would end with it.
    for (const id of ids.reverse()) port.unsubscribe(id);
    reject(port.error({ code: "closed", message: end.reason, ...end }));
  };

  const close = () => { if (!over) finish({ code: "closed", reason: "closed by the application" }); };

  const ended = (/** @type {Inside.End} */ end) => {
    if (over) return;
    const error = port.failure(end);
    if (error && !onEnded && here) console.warn(`umbel: ${channel}: ${end.reason}`);
    finish(end);
    port.call(onEnded, error, end.reason);
  };

  /** @type {any} */
  const members = Object.assign(shown, {
    channel, count: 0, set: undefined, delete: undefined, clear: undefined, close,
    async update(/** @type {Face.Presence} */ change, /** @type {Face.RequestOptions} */ options) {
      // Who types says so again anyway.
      const { typing, ...lasting } = change;
      saying.add(change);
      try {
        await client.present(channel, change, options);
      } catch (error) {
        // The session was lost: it is said in the next one.
        if (over || /** @type {Face.UmbelError} */ (error).code !== "outcome_unknown") throw error;
      } finally {
        saying.delete(change);
      }
      Object.assign(said, lasting);
    },
  });

  const presence = {
    begun: (/** @type {Face.Begun} */ { position, top, recovered }) => place(position.offset, top, !recovered),
    updates(/** @type {Face.Update[]} */ updates) {
      for (const { key = "", offset: to, data, removed, top: end = 0 } of updates) {
        if (removed) entries.delete(key);
        else entries.set(key, data);
        touched.add(key);
        offset = to;
        top = Math.max(top, end);
      }
      show();
    },
    gap(/** @type {Face.Gap} */ { to, top: end = 0, reason }) {
      const clears = reason !== "turn";
      place(to, clears ? end : top, clears);
    },
    ended(/** @type {Inside.End} */ end) {
      // In a new session the channel is asked for last if there is a new reader of it.
      if (over || end.code !== "not_subscribed" || again === client.connection) return ended(end);
      again = client.connection;
      watch();
    },
  };

  const watch = () => { ids[1] = port.subscribe(`$presence:${channel}`, null, presence); };

  // The server demands the channel itself, and first. What is in it is for others: nothing of that comes again.
  ids[0] = port.subscribe(channel, { epoch: "", offset: -1 }, { begun() {}, updates() {}, gap() {}, ended });
  if (!over) watch();
  if (signal) {
    signal.addEventListener("abort", close);
    if (signal.aborted) close();
  }
});
