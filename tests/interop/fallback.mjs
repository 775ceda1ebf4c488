// The JavaScript client where no WebSocket gets through: publishes and reads, with `asks` it also asks and runs. With `blocked`
// none is tried. Prints what it saw as one JSON object, times in milliseconds.
//
//     node fallback.mjs URL OPTIONS

import { Blocked } from "../../clients/js/test/place.mjs";
import { connect } from "../../clients/js/umbel.js";

const [url, { count, pause, asks, blocked, ...options }] = [process.argv[2], JSON.parse(process.argv[3])];
const began = performance.now();

const parts = [];
const { fetch: own } = globalThis;
globalThis.fetch = (where, asked) => {
  const { type, part } = JSON.parse(asked.body);
  if (type) parts.push(part ?? 0);
  return own(where, asked);
};

const WebSocket = blocked ? Blocked : (await import("ws")).default;
const umbel = connect(url, { WebSocket, ...options });
const arrived = new Map();
const offsets = [];
umbel.subscribe("echo", {
  onUpdate({ offset, data }) {
    offsets.push(offset);
    arrived.get(data)();
  },
  onGap(gap) { throw new Error(JSON.stringify(gap)); },
});
await new Promise((resolve) => {
  umbel.on("connection", ({ state }) => { if (state === "connected") resolve(); });
});
const connected = performance.now() - began;

const latencies = [];
for (let number = 0; number < count; number += 1) {
  await new Promise((resolve) => { setTimeout(resolve, Math.random() * 2 * pause); });
  const sent = performance.now();
  const there = new Promise((resolve) => { arrived.set(number, resolve); });
  await umbel.publish("echo", number);
  await there;
  latencies.push(performance.now() - sent);
}
const found = { transport: umbel.connection.transport, parts, offsets, latencies, connected };
if (asks) {
  found.doubled = await Promise.all(Array.from({ length: 100 }, (_, number) => umbel.request("double", number)));
  const run = umbel.run("recite", 30);
  for await (const _ of run);
  found.run = [run.status, run.text];
}
umbel.close();
console.log(JSON.stringify(found));
