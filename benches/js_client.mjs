// What the JavaScript client costs: batches of small updates handed to a callback, against `JSON.parse` alone. The socket is in
// memory, because a page's is not in its own thread.
//
//     node js_client.mjs BATCHES UPDATES
//
// Prints the least nanoseconds per update, of the client and of JSON.parse, as JSON.

import { connect } from "../clients/js/umbel.js";

const [batches, updates] = process.argv.slice(2).map(Number);
const ROUNDS = 15;

const text = (first) => JSON.stringify({
  type: "batched_updates",
  updates: Array.from({ length: updates }, (_, n) => ({ channel: "task:42", offset: first + n, data: { n: first + n, done: false } })),
  count: updates,
  timestamp: "2026-11-23T07:15:45.042Z",
});
const texts = Array.from({ length: batches }, (_, n) => text(1 + n * updates));
const sum = (batches * updates * (batches * updates + 1)) / 2;

class Socket {
  static newest;
  protocol = "umbel.v1.first";

  constructor() {
    Socket.newest = this;
  }

  send(text) {
    this.sent = JSON.parse(text);
  }

  close() {}

  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
}

function client() {
  const umbel = connect("ws://localhost/ws", { WebSocket: Socket });
  const socket = Socket.newest;
  socket.onopen();
  socket.say({
    type: "connection_established", clientId: "c", subject: null, session: { token: "s", ttl: 120 }, heartbeat: 30, reconnectWindow: 1000,
  });
  let seen = 0;
  umbel.subscribe("task:42", ({ data }) => { seen += data.n; });
  socket.say({ type: "subscription_established", channel: "task:42", epoch: "e", offset: 0, top: 0, id: socket.sent.id });
  const began = performance.now();
  for (const data of texts) socket.onmessage({ data });
  const took = performance.now() - began;
  umbel.close();
  if (seen !== sum) throw new Error(`the sum is ${seen}, not ${sum}`);
  return took;
}

function alone() {
  let seen = 0;
  const began = performance.now();
  for (const data of texts) for (const update of JSON.parse(data).updates) seen += update.data.n;
  const took = performance.now() - began;
  if (seen !== sum) throw new Error(`the sum is ${seen}, not ${sum}`);
  return took;
}

const least = { client: Infinity, alone: Infinity };
for (let round = 0; round < ROUNDS; round += 1) {
  least.alone = Math.min(least.alone, alone());
  least.client = Math.min(least.client, client());
}
const each = (took) => (took * 1e6) / (batches * updates);
console.log(JSON.stringify({ client: each(least.client), alone: each(least.alone) }));
