// The client and a real server, and servers that are something else.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import WebSocket, { WebSocketServer } from "ws";
import { connect } from "../umbel.js";
import { Blocked, Network, Served, sleep, until } from "./place.mjs";

let served;
// What is known of a host is remembered, so there are two.
const networks = {};
let network;
/** What carries the clients of a test. */
let transport = "websocket";
/** @type {import("../umbel.js").Client[]} */
const clients = [];

before(async () => {
  served = await Served.start({ settings: { heartbeat: 1, reconnect_window: 0.02 } });
  for (const each of ["websocket", "stream"]) networks[each] = await Network.to(served.port);
  network = networks.websocket;
});
after(async () => {
  for (const client of clients) client.close();
  for (const each of Object.values(networks)) await each.close();
  await served.stop();
});

/** Clients do the same, whatever carries them. */
function both(name, run) {
  for (const each of ["websocket", "stream"]) {
    test(`${name} (${each})`, async () => {
      transport = each;
      network = networks[each];
      await run();
      const last = clients.at(-1).connection;
      if (last.transport) assert.equal(last.transport, each);
      transport = "websocket";
      network = networks.websocket;
    });
  }
}

function client(options = {}, url = network.url()) {
  const carrier = transport === "stream" ? { WebSocket: Blocked } : { WebSocket, fallback: false };
  const made = connect(url, { ...carrier, base: 50, attempts: 1000, ...options });
  clients.push(made);
  return made;
}

both("publications come in order, and one's own echo is known by its position", async () => {
  const umbel = client();
  const reading = umbel.subscribe("echo");
  const first = reading[Symbol.asyncIterator]();
  await until(() => reading.position, "the channel is there");
  const places = await Promise.all([1, 2, 3].map((data) => umbel.publish("echo", data)));
  for (const place of places) {
    const { value } = await first.next();
    assert.deepEqual([value.channel, value.offset], [place.channel, place.offset]);
  }
});

both("a connection that is cut comes back with everything, and nothing comes twice", async () => {
  const umbel = client();
  const read = [];
  umbel.subscribe("cut", ({ data }) => read.push(data));
  const other = client();
  await umbel.request("counts");
  for (let number = 0; number < 20; number += 1) {
    await other.publish("cut", number);
    if (number % 5 === 0) network.cut();
  }
  await until(() => read.length === 20, "all of them");
  assert.deepEqual(read, Array.from({ length: 20 }, (_, number) => number));
  assert.equal(umbel.connection.resumed, true);
});

both("a silent network is noticed within two heartbeats", async () => {
  const umbel = client({ answerTimeout: 200 });
  await until(() => umbel.connection.state === "connected", "connected");
  for (const link of network.links) link.stall();
  await until(() => umbel.connection.state === "connected" && umbel.connection.resumed, "connected again");
});

test("a token is sent by message and not by URL, and counts again after a reconnect", async () => {
  let asked = 0;
  const urls = [];
  class Noted extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      urls.push(url);
    }
  }
  const umbel = client({ WebSocket: Noted, token: async () => `ann ${asked += 1}` });
  const { tokens } = await umbel.request("counts");
  assert.ok(tokens.includes("ann 1"));
  assert.equal(umbel.connection.subject, "ann 1");
  assert.deepEqual(urls, [network.url()]);
});

both("a plain token that is refused closes the client", async () => {
  const umbel = client({ token: "bad" });
  await until(() => umbel.connection.state === "closed", "closed");
  assert.equal(umbel.connection.code, 4401);
});

both("a run is read to its end through cuts, and again after a reload", async () => {
  const umbel = client();
  const run = umbel.run("recite", 60);
  let text = "";
  for await (const piece of run) {
    text += piece;
    if (text.length % 7 === 0) network.cut();
  }
  const whole = Array.from({ length: 60 }, (_, number) => `${number} `).join("");
  assert.deepEqual([run.status, text], ["complete", whole]);
  const again = umbel.attach(run.start);
  let second = "";
  for await (const piece of again) second += piece;
  assert.deepEqual([again.status, second], ["complete", whole]);
});

both("a run is stopped before and after it has begun, also by another client of the same subject", async () => {
  const umbel = client();
  const early = umbel.run("recite", 1000);
  early.cancel();
  const run = umbel.run("recite", 1000);
  for await (const _ of run) break;
  client().attach(run.start).cancel();
  for await (const _ of run);
  assert.deepEqual([early.status, run.status], ["cancelled", "cancelled"]);
});

both("what was said before the end is done", async () => {
  const read = [];
  const other = client();
  other.subscribe("bye", ({ data }) => read.push(data));
  await other.request("counts");
  for (let number = 0; number < 10; number += 1) {
    const umbel = client();
    await umbel.request("counts");
    for (const word of ["good", "bye"]) umbel.publish("bye", word).catch(() => {});
    umbel.close();
  }
  await until(() => read.length === 20, "all of it");
});

both("a slow reader goes on from where it was, through more than its buffer", async () => {
  const umbel = client();
  const subscription = umbel.subscribe("burst");
  await until(() => subscription.position, "the channel is there");
  await umbel.request("burst", { channel: "burst", count: 5000, pad: 2000 });
  await sleep(200);
  const numbers = [];
  for await (const { data, gap } of subscription) {
    assert.equal(gap, undefined);
    numbers.push(data.n);
    if (numbers.length === 5000) break;
  }
  assert.deepEqual(numbers, Array.from({ length: 5000 }, (_, number) => number));
});

both("what a server closes for good is closed, and what it closes for now comes back", async () => {
  const umbel = client();
  await umbel.request("counts");
  umbel.request("cut", 4500).catch(() => {});
  await until(() => umbel.connection.state === "closed", "closed");
  assert.deepEqual([umbel.connection.code, umbel.connection.reason], [4500, "as asked"]);
  const other = client();
  await other.request("counts");
  const before = other.connection.clientId;
  other.request("cut", 1012).catch(() => {});
  await until(() => ![undefined, before].includes(other.connection.clientId), "connected again");
  assert.equal(other.connection.resumed, false);
});

test("what is no Umbel server is waited for, or closes with a reason", async () => {
  for (const status of [200, 502]) {
    const proxy = createServer((_, response) => response.writeHead(status, { "Content-Type": "text/html" }).end("<p>hello"));
    await once(proxy.listen(0, "127.0.0.1"), "listening");
    const umbel = client({ window: 1, base: 1, fallback: undefined }, `ws://127.0.0.1:${proxy.address().port}/ws`);
    await until(() => umbel.connection.failing, "failing");
    assert.match(umbel.connection.reason, /^the connection could not be opened$|^no session on a stream \(status /);
    umbel.close();
    proxy.close();
  }
  const other = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => false });
  await once(other, "listening");
  const umbel = client({}, `ws://127.0.0.1:${other.address().port}/ws`);
  await until(() => ["closed", "waiting"].includes(umbel.connection.state), "an end");
  umbel.close();
  other.close();
});

test("the WebSocket of Node.js itself will do", async () => {
  const url = new URL("../umbel.js", import.meta.url);
  const program = `
    import { connect } from ${JSON.stringify(url)};
    const umbel = connect(${JSON.stringify(served.url())});
    console.log(JSON.stringify(await umbel.publish("own", 1)));
    umbel.close();
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath, ["--experimental-websocket", "--no-warnings", "--input-type=module", "--eval", program],
    { cwd: fileURLToPath(new URL("..", import.meta.url)), timeout: 20_000 },
  );
  assert.deepEqual(JSON.parse(stdout), { channel: "own", offset: 1 });
});
