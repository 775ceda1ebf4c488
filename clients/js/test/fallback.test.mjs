// What carries the attempts of a client: WebSockets, or streams where those don't get through. Servers and sockets are in memory.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { connect } from "../umbel.js";
import { until } from "./place.mjs";
import { FakeServer, refusal, refusedStream } from "./streams.mjs";

const { fetch: own } = globalThis;
const LET_IN = {
  type: "connection_established", clientId: "c1", subject: null, session: { token: "s1", ttl: 120 }, heartbeat: 30, tick: 16,
  reconnectWindow: 1, maxUnanswered: 64,
};
const network = () => { throw new TypeError("network"); };

class Socket {
  protocol = "umbel.v1.first";
  sent = [];

  constructor(url) {
    this.url = url;
    sockets.push(this);
    Socket.fate?.(this);
  }

  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.closed = code; }
  say(message) { this.onmessage?.({ data: JSON.stringify(message) }); }
  end(code = 1006) { this.onclose?.({ code, reason: "" }); }

  letIn() {
    this.onopen();
    this.say(LET_IN);
  }
}

/** What may become of a WebSocket. */
const blocked = (socket) => { queueMicrotask(() => socket.end()); };
const open = (socket) => { queueMicrotask(() => socket.letIn()); };

let sockets;
let server;
let umbel;
let hosts = 0;

beforeEach(() => {
  sockets = [];
  server = new FakeServer();
  globalThis.fetch = server.fetch;
  Socket.fate = blocked;
  hosts += 1;
});
afterEach(async () => {
  umbel.close();
  await turn();
  globalThis.fetch = own;
});

/** Each test has a host of its own: what is known of the way there is remembered. */
const start = (options = {}, path = "/ws") =>
  (umbel = connect(`ws://host${hosts}.example${path}`, { WebSocket: Socket, window: 1, base: 1, attempts: 1000, ...options }));

/** The server lets in whoever asks. */
async function letIn(count = server.streams.length + 1) {
  await until(() => server.streams.length === count, "a stream");
  server.last.say({ ...LET_IN, resumed: server.last.first.type === "resume" });
  await until(() => umbel.connection.state === "connected", "connected");
}

const states = (client) => {
  const seen = [];
  client.on("connection", ({ state, transport }) => seen.push(transport ?? state));
  return seen;
};

test("a WebSocket comes first, and is all that is needed where it gets through", async () => {
  Socket.fate = open;
  start();
  await until(() => umbel.connection.state === "connected", "connected");
  assert.equal(umbel.connection.transport, "websocket");
  Socket.fate = blocked;
  sockets[0].end();
  await until(() => sockets.length > 4, "more attempts");
  assert.deepEqual(server.requests, [], "one has got through before");
});

test("where no WebSocket can be opened a stream follows at once, and the page stays with streams", async () => {
  start({ window: 60_000, base: 60_000, cap: 60_000, random: () => 0.9 });
  const seen = states(umbel);
  await letIn();
  assert.deepEqual(seen, ["waiting", "connecting", "stream"]);
  assert.equal(server.requests[0].url, `http://host${hosts}.example/api/v1/session`);
  const answer = umbel.request("double", 2);
  await until(() => server.last.said.length, "a request");
  server.last.say({ type: "double_result", id: server.last.said[0].id, data: 4 });
  assert.equal(await answer, 4);
  assert.equal("transport" in { ...umbel.connection }, true);
  server.last.break();
  await until(() => umbel.connection.state === "waiting", "it waits");
  assert.equal(umbel.connection.transport, undefined);
  server.answers.push(network, network);
  for (let turns = 0; turns < 2; turns += 1) {
    umbel.retry();
    await until(() => umbel.connection.state === "waiting", "it waits");
  }
  umbel.retry();
  await letIn(2);
  assert.equal(server.last.first.type, "resume");
  assert.equal(sockets.length, 1);
});

test("another client of the page begins with what gets through", async () => {
  start();
  await letIn();
  umbel.close();
  start();
  await letIn(2);
  assert.equal(sockets.length, 1);
});

test("WebSockets and streams take turns while neither gets through", async () => {
  server.answers.push(network, () => refusal(404, "not_found"), () => new Response("<p>", { status: 502 }));
  start();
  await letIn(1);
  assert.deepEqual([sockets.length, server.requests.length], [4, 4]);
});

test("hurrying makes no more attempts than there may be", async () => {
  server.answers.push(...Array(99).fill(network));
  start({ attempts: 5 });
  await until(() => sockets.length === 3, "three WebSockets and two streams");
  await until(() => umbel.connection.state === "waiting", "it waits");
  await turn();
  assert.deepEqual([sockets.length, server.requests.length, umbel.connection.state], [3, 2, "waiting"]);
  assert.ok(umbel.connection.at > Date.now() + 5000);
});

test("a WebSocket that gets through later is stayed with", async () => {
  server.answers.push(...Array(10).fill(network));
  start();
  await until(() => server.requests.length > 1, "attempts");
  Socket.fate = open;
  await until(() => umbel.connection.transport === "websocket", "connected");
  const { length } = server.requests;
  sockets.at(-1).end();
  await until(() => umbel.connection.state === "connected", "connected again");
  assert.deepEqual([umbel.connection.transport, server.requests.length], ["websocket", length]);
});

test("a WebSocket that stays silent is given up for a stream", async () => {
  Socket.fate = null;
  start({ attemptTimeout: 20 });
  await letIn();
  assert.deepEqual([sockets.length, sockets[0].closed], [1, 4408]);
});

test("what a server says on a WebSocket is no reason to ask otherwise", async () => {
  for (const code of [4401, 1013, 4429]) {
    Socket.fate = (socket) => queueMicrotask(() => {
      socket.onopen();
      socket.end(code);
    });
    const before = sockets.length;
    start({ token: () => String(sockets.length), cap: 5 });
    await until(() => sockets.length >= before + 2, "another attempt");
    umbel.close();
  }
  assert.deepEqual(server.requests, []);
});

test("what a server says on a stream is said by a server", async () => {
  const busy = { type: "closed", code: 1013, reason: "busy", reconnect: true };
  server.answers.push(() => refusedStream(503, ["closed", busy]), () => refusedStream(503, ["closed", busy]));
  start();
  await letIn(1);
  assert.deepEqual([sockets.length, server.requests.length], [1, 3]);
});

test("three WebSockets in a row that are cut before they say anything are followed by a stream", async () => {
  Socket.fate = open;
  start();
  const connected = () => until(() => umbel.connection.state === "connected", "connected");
  for (const say of [false, false, true, false, false]) {
    await connected();
    if (say) sockets.at(-1).say({ type: "heartbeat_ack" });
    sockets.at(-1).end();
  }
  await connected();
  assert.equal(sockets.length, 6);
  sockets.at(-1).end();
  await letIn();
  assert.deepEqual([umbel.connection.transport, sockets.length], ["stream", 6]);
});

test("the fallback can be elsewhere, or switched off", async () => {
  const origin = `http://host${hosts}.example`;
  for (const [path, fallback, url] of [
    ["/a/ws?user=ann", undefined, `${origin}/a/api/v1/session?user=ann`], ["/live", undefined, `${origin}/api/v1/session`],
    ["/ws", "/other", `${origin}/other`], ["/ws", `ws://host${hosts}.example/c`, `${origin}/c`], ["/ws", new URL("https://elsewhere.example/s"), "https://elsewhere.example/s"],
  ]) {
    start({ fallback }, path);
    await letIn();
    assert.equal(server.requests.at(-1).url, url);
    say(umbel);
    await until(() => server.posted.length, "a list");
    assert.equal(server.requests.at(-1).url, url.replace(/\?|$/, "/messages$&"));
    umbel.close();
    await until(() => server.last.over, "the end");
    server.requests = [];
  }
  hosts += 1;
  sockets = [];
  start({ fallback: false });
  await until(() => sockets.length > 3, "attempts");
  assert.deepEqual(server.requests, []);
  assert.throws(() => connect("ws://a.example/ws", { WebSocket: Socket, fallback: "http://:" }), /URL/);
});

const say = (client) => { client.request("a").catch(() => {}); };

test("a page that is put away has no stream, and one that is left ends its session", async (t) => {
  const target = new EventTarget();
  globalThis.addEventListener = target.addEventListener.bind(target);
  t.after(() => { delete globalThis.addEventListener; });
  const tell = (name, persisted) => target.dispatchEvent(Object.assign(new Event(name), { persisted }));
  start();
  await letIn();
  tell("pagehide", true);
  await until(() => server.last.aborted, "it is cut");
  assert.equal(server.last.over, false);
  tell("pageshow", true);
  await letIn(2);
  say(umbel);
  tell("pagehide", false);
  await until(() => server.last.aborted, "it is cut");
  assert.deepEqual([server.last.over, server.last.said.length, server.requests.at(-1).keepalive], [true, 1, true]);
});

// The last one: stream.js remembers it for this page.
test("a stream that stays silent is followed by one in parts, at once", async () => {
  start({ attemptTimeout: 30 });
  await letIn(2);
  assert.deepEqual([sockets.length, server.last.first.part, server.last.part > 0], [1, 1, true]);
  const answer = umbel.request("double", 2);
  await until(() => server.last.said.length, "a request");
  server.last.say({ type: "double_result", id: server.last.said[0].id, data: 4 });
  assert.equal(await answer, 4);
});
