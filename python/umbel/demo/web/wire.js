// The page's connection. The client keeps the session and the positions, whatever becomes of the connection. What is checked here is
// that it does.

import { connect } from "/umbel/client.js";
import { toast } from "./text.js";

export const page = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
export const seen = { updates: 0, batches: 0, folded: 0, gaps: 0, lost: 0, violations: 0, cuts: 0, recovered: 0 };
/** Batches, and gaps. */
export const bars = [];
export const followed = new Map();
export let slow = false;
let moving = false;
let socket = null;

// While this page reads slowly, its sockets go through the relay, which speaks for the server.
class Socket extends WebSocket {
  constructor(url, protocols) {
    super(...(slow ? [url.replace(/ws$/, "slow")] : [url, protocols]));
    socket = this;
    this.relayed = slow;
  }
  get protocol() { return this.relayed ? "umbel.v1.first" : super.protocol; }
}

export const umbel = connect(undefined, { token: page, WebSocket: Socket });
umbel.on("warning", toast);
// The page has asked for it: there is nothing to wait for.
umbel.on("connection", ({ state }) => {
  if (state !== "waiting" || !moving) return;
  moving = false;
  umbel.retry();
});

// What breaks a connection without a word looks like this. The session waits for the next one.
export const cut = () => socket?.close(4400, "cut by hand");

export function move(to) {
  slow = to;
  if (umbel.connection.state === "waiting") return umbel.retry();
  moving = true;
  cut();
}

export function follow(channel, apply) {
  const one = { received: 0, folded: 0, lost: 0, broken: false, position: null };
  followed.set(channel, one);
  umbel.subscribe(channel, {
    onBegun({ position, top, recovered }) {
      if (recovered) seen.recovered += Math.max(0, top - position.offset);
      one.position = position;
    },
    onUpdates(updates) {
      const now = clock.now();
      const bar = batch();
      for (const update of updates) {
        const from = update.from ?? update.offset - 1;
        if (from !== one.position.offset) seen.violations += 1;
        one.position = { ...one.position, offset: update.offset };
        const folded = update.offset - from - 1;
        seen.updates += 1;
        one.received += 1;
        for (const count of [seen, one, bar]) count.folded += folded;
        if (channel === "demo:load") bar.load += 1; else bar.machine += 1;
        if (typeof update.data.at === "number" && clock.known) late.push(now - update.data.at);
        apply(update, one);
      }
    },
    onGap({ epoch, from, to }) {
      const lost = from === null ? 0 : to - from;
      seen.gaps += 1;
      seen.lost += lost;
      one.lost += lost;
      one.broken = true;
      one.position = { epoch, offset: to };
      bars.push({ at: performance.now(), gap: lost, channel });
    },
    onEnded: (error) => { if (error) toast(`${channel}: ${error.message}`); },
  });
}

// All that came in one message is one bar: it is handed over channel by channel, before anything else happens.
let newest = null;
function batch() {
  if (!newest) {
    newest = { at: performance.now(), machine: 0, load: 0, folded: 0 };
    queueMicrotask(() => {
      seen.batches += 1;
      bars.push(newest);
      if (bars.length > 2000) bars.splice(0, 1000);
      newest = null;
    });
  }
  return newest;
}

// The server's clock, by the exchange that took least time: this page may be open on another machine.
export const clock = {
  offset: 0, best: Infinity, known: false,
  page: () => performance.timeOrigin + performance.now(),
  now() { return this.page() + this.offset; },
  async ask() {
    const sent = this.page();
    const server = await umbel.request("clock");
    const took = this.page() - sent;
    if (took <= this.best) { this.best = took; this.offset = server - (sent + took / 2); this.known = true; }
  },
};

// How late updates were, from publish to this line: those of the last two seconds.
export const late = {
  parts: [[], [], [], []],
  push(value) { if (this.parts[0].length < 4000) this.parts[0].push(Math.max(0, value)); },
  turn() { this.parts.unshift([]); this.parts.length = 4; },
  get all() { return this.parts.flat(); },
};
