// Clients on a network that cuts anywhere: what they read is what was published, or a gap that a restart of the server explains;
// what they ask for is done once, or "outcome unknown". On WebSockets, and on streams, whole and in parts. CHAOS_CUTS (200), CHAOS_CLIENTS (20) and CHAOS_SEED make it longer.

import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { connect } from "../umbel.js";
import { Blocked, Network, numbers, Served, sleep, until } from "./place.mjs";

const CUTS = Number(process.env.CHAOS_CUTS ?? 200);
const CLIENTS = Number(process.env.CHAOS_CLIENTS ?? 20);
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 100_000);
const CHANNELS = 4;

// The limits of the back-off are set down, so that there are many attempts.
const QUICK = {
  window: 20, base: 20, cap: 200, attempts: 1000, attemptTimeout: 1500, answerTimeout: 600, probeTimeout: 600,
};
const SETTINGS = { tick: 0.005, reconnect_window: 0.02, heartbeat: 0.5, session_ttl: 60, drain: 0.5, max_messages_per_second: 0 };

class Reader {
  read = 0;
  gaps = [];

  constructor(umbel, channel, random) {
    this.channel = channel;
    this.subscription = umbel.subscribe(channel);
    this.done = this.follow(random);
  }

  async follow(random) {
    let [life, expected] = ["", 0];
    for await (const item of this.subscription) {
      if (item.gap) {
        this.gaps.push(item.gap);
        [life, expected] = ["", 0];
        continue;
      }
      const { offset, data } = item;
      assert.equal(data.n, offset, "what is at an offset is what was published there");
      if (expected) assert.deepEqual([data.life, offset], [life, expected], `${this.channel} goes on where it was`);
      [life, expected] = [data.life, offset + 1];
      this.read += 1;
      // Some readers are slower than the stream, for a while.
      if (random() < 0.0005) await sleep(100);
    }
  }
}

/** What is on the way passes a response on when it has ended. */
const { fetch: own } = globalThis;
let parts = 0;
async function hold(url, options) {
  const response = await own(url, options);
  if (/"part":[^1]/.test(options?.body)) parts += 1;
  return new Response(await response.arrayBuffer(), response);
}

for (const [name, transport, fetch] of [
  ["WebSockets", { WebSocket, fallback: false }, own],
  ["streams", { WebSocket: Blocked }, own],
  ["streams in parts", { WebSocket: Blocked }, hold],
]) {
  test(`${CUTS} cuts of ${name} among ${CLIENTS} clients, seed ${SEED}`, { timeout: 60_000 + CUTS * 200 }, async (t) => {
    globalThis.fetch = fetch;
    t.after(() => { globalThis.fetch = own; });
    const clients = await chaos(t, transport);
    const carried = transport.fallback === false ? "websocket" : "stream";
    for (const { connection } of clients) assert.equal(connection.transport, carried);
    assert.equal(parts > 0, fetch === hold);
  });
}

async function chaos(t, transport) {
  const random = numbers(SEED);
  const served = await Served.start({ settings: SETTINGS, rate: 100, channels: CHANNELS });
  const network = await Network.to(served.port);
  const clients = Array.from({ length: CLIENTS }, () => connect(network.url(), { ...QUICK, ...transport, random }));
  t.after(async () => {
    for (const client of clients) client.close();
    await network.close();
    await served.stop();
  });
  let cuts = 0;
  network.onlink = (link) => {
    if (cuts >= CUTS) return;
    const kind = random();
    if (kind < 0.3) link.left = Math.floor(random() * 1200); // in the handshake, or in the first frames
    else if (kind < 0.4) setTimeout(() => link.stall(), random() * 400);
    else link.left = Math.floor(random() * 40_000);
    link.near.on("close", () => { cuts += 1; });
  };
  const readers = clients.flatMap((client) => [
    new Reader(client, `numbers:${Math.floor(random() * CHANNELS)}`, random),
    new Reader(client, `numbers:${Math.floor(random() * CHANNELS)}`, random),
  ]);
  const failed = Promise.race(readers.map((reader) => reader.done)).then(() => { throw new Error("a reader ended"); });

  const outcomes = { answered: 0, unknown: 0, other: [] };
  let asked = 0;
  const pending = new Set();
  const ask = (client) => {
    asked += 1;
    const one = client.request("add", `r${asked}`).then(
      () => { outcomes.answered += 1; },
      ({ code }) => { if (code === "outcome_unknown") outcomes.unknown += 1; else outcomes.other.push(code); },
    ).finally(() => pending.delete(one));
    pending.add(one);
  };
  let restarts = 0;
  const cutting = async () => {
    for (let turn = 0; cuts < CUTS; turn += 1) {
      if (pending.size < 500) for (const client of clients) if (random() < 0.5) ask(client);
      if (random() < 0.05) network.links[Math.floor(random() * network.links.length)]?.cut();
      if (restarts < 1 && cuts > CUTS / 2) {
        assert.equal(outcomes.unknown, 0, "no session is lost by cuts");
        restarts += 1;
        await served.stop(random() < 0.5 ? "SIGTERM" : "SIGKILL");
        await served.start();
      }
      await sleep(20);
    }
    network.onlink = () => {};
    network.cut();
    await until(() => clients.every(({ connection }) => connection.state === "connected"), "all are back");
    await until(() => pending.size === 0, "every request is settled");
    const counts = await clients[0].request("counts");
    assert.deepEqual(counts.twice, [], "nothing is done twice");
    const before = readers.map(({ read }) => read);
    await until(() => readers.every(({ read }, index) => read > before[index]), "all read on");
  };
  await Promise.race([cutting(), failed]);

  t.diagnostic(`${cuts} cuts, ${restarts} restarts, ${asked} requests: ${outcomes.unknown} unknown; `
    + `${readers.reduce((sum, { read }) => sum + read, 0)} updates read`);

  assert.deepEqual(outcomes.other, []);
  assert.equal(outcomes.answered + outcomes.unknown, asked);
  assert.ok(outcomes.answered > 100);
  for (const { gaps, channel } of readers) {
    assert.ok(gaps.length <= restarts, `${channel}: ${JSON.stringify(gaps)}`);
    for (const { reason } of gaps) assert.ok(["epoch", "ahead"].includes(reason), reason);
  }
  return clients;
}
