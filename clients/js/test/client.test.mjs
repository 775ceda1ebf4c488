// The client around the machine: sockets, timers, what happens to a page, and what reads. The server is in memory.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect } from "../umbel.js";
import { until } from "./place.mjs";

/** A socket whose other end is the test. */
class Socket {
  /** @type {Socket[]} */
  static all = [];
  protocol = "umbel.v1.first";
  sent = [];
  closed = null;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    Socket.all.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closed = code;
  }

  say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  end(code, reason = "") {
    this.onclose?.({ code, reason });
  }

  letIn(fields = {}) {
    this.onopen();
    this.say({
      type: "connection_established", clientId: "c1", subject: null, session: { token: "s1", ttl: 120 }, heartbeat: 30, tick: 16,
      reconnectWindow: 10, maxUnanswered: 64, ...fields,
    });
    return this;
  }

  established(channel, offset = 0, fields = {}) {
    const { id } = this.sent.findLast((message) => message.type === "subscribe_updates") ?? {};
    this.say({ type: "subscription_established", channel, epoch: "e1", offset, top: offset, id, ...fields });
  }

  updates(channel, from, to, data = (offset) => offset) {
    const updates = [];
    for (let offset = from; offset <= to; offset += 1) updates.push({ channel, offset, data: data(offset) });
    this.say({ type: "batched_updates", updates, count: updates.length });
  }

  types() {
    return this.sent.map(({ type }) => type);
  }
}

let umbel;
let warnings;

function start(options = {}) {
  umbel = connect("ws://test.example/ws", { WebSocket: Socket, fallback: false, ...options });
  umbel.on("warning", (text) => warnings.push(text));
  return Socket.all[0];
}

beforeEach(() => {
  Socket.all = [];
  warnings = [];
});
afterEach(() => umbel?.close());

const last = () => Socket.all.at(-1);

test("the server is named, relative to the page where there is one", () => {
  assert.throws(() => connect(undefined, { WebSocket: Socket }), /name the server/);
  globalThis.location = { href: "https://page.example/a/b.html" };
  try {
    for (const [given, url] of [[undefined, "wss://page.example/ws"], ["/other", "wss://page.example/other"], ["http://h:1/ws", "ws://h:1/ws"]]) {
      connect(given, { WebSocket: Socket }).close();
      assert.equal(last().url, url);
    }
  } finally {
    delete globalThis.location;
  }
});

test("without a WebSocket there is a sentence", { skip: Boolean(globalThis.WebSocket) }, () => {
  assert.throws(() => connect("ws://test.example/ws"), /there is no WebSocket here/);
});

test("a browser that lacks something says so", () => {
  const { AbortController: own } = globalThis;
  delete globalThis.AbortController;
  try {
    assert.throws(() => connect("ws://test.example/ws", { WebSocket: Socket }), /the browser is too old/);
  } finally {
    globalThis.AbortController = own;
  }
});

test("a path where nothing is gets one warning that names it, and each warning comes once", async () => {
  start({ window: 1, base: 1, failing: 2, attempts: 100 });
  for (let turn = 1; turn <= 5; turn += 1) {
    await until(() => Socket.all.length === turn, "an attempt");
    last().end(1006);
  }
  assert.equal(umbel.connection.failing, true);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /^no connection to ws:\/\/test\.example\/ws \(the connection could not be opened\)/);
});

test("an option that there is not is an error where it is written", () => {
  for (const wrong of [{ tokens: "a" }, { base: "1 s" }, { cap: NaN }, { toString: 1 }]) {
    assert.throws(() => connect("ws://test.example/ws", { WebSocket: Socket, ...wrong }), /is no option of this client/);
  }
  assert.equal(Socket.all.length, 0);
});

test("an address that can't be opened closes the client", () => {
  class Refusing { constructor() { throw new Error("insecure"); } }
  start({ WebSocket: Refusing });
  assert.deepEqual([umbel.connection.state, umbel.connection.reason], ["closed", "Error: insecure"]);
});

test("a socket that is replaced is not waited for, and not heard again", async () => {
  const first = start({ attemptTimeout: 20 });
  await until(() => Socket.all.length === 2, "another attempt");
  assert.equal(first.closed, 4408);
  assert.equal(first.onclose, null);
  last().letIn();
  assert.equal(umbel.connection.state, "connected");
});

test("close ends the session in any state, and leaves nothing", async () => {
  for (const state of ["connecting", "connected", "waiting"]) {
    Socket.all = [];
    const socket = start({ window: 5 });
    if (state !== "connecting") socket.letIn();
    if (state === "waiting") socket.end(1006);
    assert.equal(umbel.connection.state, state);
    const asked = umbel.request("a").catch(({ code }) => code);
    const reading = umbel.subscribe("a")[Symbol.asyncIterator]().next();
    umbel.close();
    assert.equal(await asked, state === "connected" ? "outcome_unknown" : "closed");
    assert.deepEqual(await reading, { done: true, value: undefined });
    if (state !== "waiting") assert.equal(socket.closed, 1000);
    assert.deepEqual(process.getActiveResourcesInfo().filter((name) => name === "Timeout"), []);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
    assert.equal(Socket.all.length, 1);
  }
});

test("what is asked for after the end is refused", async () => {
  start();
  umbel.close();
  await assert.rejects(umbel.request("a"), { code: "closed" });
  for await (const _ of umbel.subscribe("a")) assert.fail("nothing comes");
  const run = umbel.run("a");
  await assert.rejects(async () => { for await (const _ of run); }, { code: "closed" });
});

test("a server that closes for good ends every stream with its reason", async () => {
  const socket = start().letIn();
  const reading = umbel.subscribe("a")[Symbol.asyncIterator]().next();
  socket.end(4500, "go away");
  await assert.rejects(reading, { code: "closed", message: "go away" });
});

test("the position moves before a handler is called, and what it throws disturbs nobody", () => {
  const socket = start().letIn();
  const seen = [];
  const reported = [];
  const { error } = console;
  console.error = (what) => reported.push(what.message);
  try {
    const one = umbel.subscribe("a", (update) => {
      seen.push([update.offset, one.position.offset]);
      throw new Error("the application's");
    });
    socket.established("a");
    socket.updates("a", 1, 2);
  } finally {
    console.error = error;
  }
  assert.deepEqual(seen, [[1, 1], [2, 2]]);
  assert.deepEqual(reported, ["the application's", "the application's"]);
});

test("a handler that leaves and subscribes again sees nothing twice, and no rest of the batch", () => {
  const socket = start().letIn();
  const seen = [];
  const follow = () => {
    const subscription = umbel.subscribe("a", ({ offset }) => {
      seen.push(offset);
      if (offset === 2) {
        subscription.close();
        follow();
      }
    });
  };
  follow();
  socket.established("a");
  socket.updates("a", 1, 3);
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(socket.types(), ["authenticate", "subscribe_updates", "unsubscribe_updates", "subscribe_updates"]);
  socket.established("a", 3);
  socket.updates("a", 4, 4);
  assert.deepEqual(seen, [1, 2, 4]);
});

test("a function is called with what comes, and batches are handed over whole", () => {
  const socket = start().letIn();
  const calls = [];
  umbel.subscribe("a", {
    onBegun: ({ position }) => calls.push(["begun", position.offset]),
    onUpdates: (updates) => calls.push(["updates", updates.length]),
    onGap: ({ channel, reason, from, to }) => calls.push([channel, reason, from, to]),
    onEnded: (error, reason) => calls.push([error, reason]),
  });
  const gaps = [];
  umbel.on("gap", (gap) => gaps.push(gap.channel));
  socket.established("a", 5);
  socket.updates("a", 6, 8);
  socket.say({ type: "gap", channel: "a", epoch: "e1", from: 8, to: 10, reason: "overrun" });
  socket.say({ type: "subscription_ended", channel: "a", reason: "over" });
  assert.deepEqual(calls, [["begun", 5], ["updates", 3], ["a", "overrun", 8, 10], [null, "over"]]);
  assert.deepEqual(gaps, ["a"]);
});

test("a stream has its gaps in their places, and ends with the subscription", async () => {
  const socket = start().letIn();
  const subscription = umbel.subscribe("a");
  socket.established("a");
  socket.updates("a", 1, 2);
  socket.say({ type: "gap", channel: "a", epoch: "e1", from: 2, to: 4, reason: "overrun" });
  socket.updates("a", 5, 5);
  socket.say({ type: "subscription_ended", channel: "a", reason: "over" });
  const read = [];
  for await (const { offset, gap } of subscription) read.push([offset ?? gap.reason, subscription.position.offset]);
  assert.deepEqual(read, [[1, 1], [2, 2], ["overrun", 4], [5, 5]]);
});

test("a channel that can't be had is an error of the loop, or of onEnded", async () => {
  const socket = start().letIn();
  const reading = umbel.subscribe("a")[Symbol.asyncIterator]().next();
  const refuse = () => socket.say({ type: "error", code: "not_allowed", message: "no", channel: "a", id: socket.sent.at(-1).id });
  refuse();
  await assert.rejects(reading, { code: "not_allowed", message: "no" });
  let told;
  umbel.subscribe("a", { onUpdate() {}, onEnded(error) { told = error.code; } });
  refuse();
  assert.equal(told, "not_allowed");
});

test("what is no channel or no position is an error where it is written", () => {
  const socket = start().letIn();
  assert.throws(() => umbel.subscribe(undefined), /a channel is a string/);
  assert.throws(() => umbel.subscribe("a", { position: { epoch: "e1" } }), /an epoch and an offset/);
  assert.throws(() => umbel.attach({}), /a channel is a string/);
  assert.throws(() => umbel.attach({ channel: "run:x" }), /an epoch and an offset/);
  assert.deepEqual(socket.types(), ["authenticate"]);
});

test("leaving a loop leaves the channel", async () => {
  const socket = start().letIn();
  const subscription = umbel.subscribe("a");
  socket.established("a");
  socket.updates("a", 1, 3);
  for await (const _ of subscription) break;
  assert.equal(socket.types().at(-1), "unsubscribe_updates");
});

test("a slow reader holds at most 4 MiB, and goes on from where it was", async () => {
  const socket = start().letIn();
  const subscription = umbel.subscribe("a");
  socket.established("a");
  const kilobyte = "x".repeat(1024);
  for (let from = 1; from < 10_000; from += 100) socket.updates("a", from, from + 99, () => kilobyte);
  assert.equal(socket.types().at(-1), "unsubscribe_updates", "the server sends no more");
  const iterator = subscription[Symbol.asyncIterator]();
  let read = 0;
  let pending;
  while (socket.types().at(-1) !== "subscribe_updates") {
    pending = iterator.next();
    const next = await Promise.race([pending, new Promise((resolve) => { setImmediate(resolve); })]);
    if (next) assert.equal(next.value.offset, read += 1);
  }
  const { epoch, offset } = socket.sent.findLast(({ type }) => type === "subscribe_updates");
  assert.deepEqual([epoch, offset], ["e1", read]);
  assert.ok(read > 3000 && read < 4100, `${read} KiB`);
  socket.established("a", read, { recovered: true });
  socket.updates("a", read + 1, read + 1);
  assert.equal((await pending).value.offset, read + 1);
});

test("several readers of one stream share what comes", async () => {
  const socket = start().letIn();
  const iterator = umbel.subscribe("a")[Symbol.asyncIterator]();
  const both = Promise.all([iterator.next(), iterator.next()]);
  socket.established("a");
  socket.updates("a", 1, 2);
  assert.deepEqual((await both).map(({ value }) => value.offset), [1, 2]);
});

test("the newest value of each key is a map", () => {
  const socket = start().letIn();
  let changes = 0;
  const latest = umbel.latest("prices", { key: ({ symbol }) => symbol, onChange: () => { changes += 1; } });
  socket.established("prices");
  const price = (symbol, value) => ({ symbol, value });
  socket.updates("prices", 1, 3, (offset) => price(offset === 2 ? "b" : "a", offset));
  assert.deepEqual([...latest], [["a", price("a", 3)], ["b", price("b", 2)]]);
  assert.equal(changes, 1, "once for each batch");
  socket.say({ type: "gap", channel: "prices", epoch: "e1", from: 3, to: 5, reason: "overrun" });
  assert.equal(latest.size, 2);
  socket.say({ type: "gap", channel: "prices", epoch: "e2", from: 5, to: 0, reason: "reset" });
  assert.equal(latest.size, 0, "another log: nobody knows what is still so");
  assert.deepEqual(latest.position, { epoch: "e2", offset: 0 });
});

test("without a function the newest value of each key is that of the publications' own keys", () => {
  const socket = start().letIn();
  const latest = umbel.latest("prices");
  socket.established("prices");
  const updates = ["a", "b", "a"].map((key, index) => ({ channel: "prices", offset: index + 1, key, data: index }));
  socket.say({ type: "batched_updates", updates, count: 3 });
  assert.deepEqual([...latest], [["a", 2], ["b", 1]]);
});

test("the map of a state loses what is removed, and is made anew when the state comes anew", () => {
  const socket = start().letIn();
  const gaps = [];
  const board = umbel.latest("board", { onGap: (gap) => gaps.push(gap.top) });
  socket.established("board", 0, { recovered: false, reason: "new", state: true });
  const say = (...updates) => socket.say({ type: "batched_updates", updates, count: updates.length });
  const update = (offset, key, fields) => ({ channel: "board", offset, key, ...fields });
  say(update(1, "a", { data: 1 }), update(2, "b", { data: 2 }), update(3, "a", { removed: true }));
  assert.deepEqual([...board], [["b", 2]]);
  socket.say({ type: "gap", channel: "board", epoch: "e1", from: 3, to: 0, top: 9, reason: "reset" });
  assert.deepEqual([...board], []);
  say({ ...update(9, "c", { data: 3 }), from: 0 });
  assert.deepEqual([[...board], gaps], [[["c", 3]], [9]]);
});

test("requests and publications settle, and a signal gives them up", async () => {
  const socket = start().letIn();
  const asked = umbel.request("double", 2);
  socket.say({ type: "double_result", id: socket.sent.at(-1).id, data: 4 });
  assert.equal(await asked, 4);
  const published = umbel.publish("a", { x: 1 }, { key: "k" });
  const { id, ...sent } = socket.sent.at(-1);
  assert.deepEqual(sent, { type: "publish", channel: "a", data: { x: 1 }, key: "k" });
  socket.say({ type: "published", channel: "a", offset: 7, id });
  assert.deepEqual(await published, { channel: "a", offset: 7 });
  const refused = umbel.request("double", "x");
  socket.say({ type: "error", code: "bad_number", message: "no number", details: [1], id: socket.sent.at(-1).id });
  await assert.rejects(refused, { name: "UmbelError", code: "bad_number", message: "no number", details: [1] });
  const controller = new AbortController();
  const given = umbel.request("slow", null, { signal: controller.signal });
  controller.abort();
  await assert.rejects(given, { code: "cancelled" });
  const { length } = socket.sent;
  await assert.rejects(umbel.request("slow", null, { signal: controller.signal }), { code: "cancelled" });
  assert.equal(socket.sent.length, length, "what was rejected is not sent");
  const begun = umbel.request("ask", "why");
  socket.say({ type: "subscription_established", channel: "run:x", epoch: "e1", offset: 0, top: 0, id: socket.sent.at(-1).id });
  assert.deepEqual(await begun, { channel: "run:x", epoch: "e1" }, "what `attach` takes");
  await assert.rejects(umbel.request("cycle", umbel.loop = { get self() { return umbel.loop; } }), TypeError);
});

test("what is volatile is not sent later", async () => {
  start();
  await assert.rejects(umbel.publish("a", 1, { volatile: true }), { code: "expired" });
});

/** A run that has begun. */
function running(socket, type = "ask") {
  const run = umbel.run(type, "why");
  socket.say({ type: "subscription_established", channel: "run:x", epoch: "e1", offset: 0, top: 0, id: socket.sent.at(-1).id });
  return run;
}

const chunks = (socket, first, ...texts) =>
  socket.updates("run:x", first, first + texts.length - 1, (offset) => ({ type: "ai_response_chunk", chunk: texts[offset - first] }));

test("a run is its text, in pieces, and how it ended", async () => {
  const socket = start().letIn();
  const run = running(socket);
  const pieces = [];
  const reading = (async () => { for await (const piece of run) pieces.push(piece); })();
  chunks(socket, 1, "a", "b");
  await until(() => pieces.length, "a piece");
  chunks(socket, 3, "c");
  socket.updates("run:x", 4, 4, () => ({ type: "ai_response_end", status: "error", incident: 12 }));
  socket.say({ type: "subscription_ended", channel: "run:x", reason: "the run has ended" });
  await reading;
  assert.deepEqual([pieces.join(""), run.text, run.status, run.incident], ["abc", "abc", "error", 12]);
  assert.deepEqual(run.start, { channel: "run:x", epoch: "e1" });
});

test("a run that is gone, or has a hole, ends as lost", async () => {
  const socket = start().letIn();
  const run = running(socket);
  chunks(socket, 1, "a");
  socket.say({ type: "gap", channel: "run:x", epoch: "e1", from: 1, to: 3, reason: "overrun" });
  for await (const piece of run) assert.equal(piece, "a");
  assert.equal(run.status, "lost");
  const again = umbel.attach({ channel: "run:y", epoch: "e1" });
  const { id, epoch, offset } = socket.sent.at(-1);
  assert.deepEqual([epoch, offset], ["e1", 0]);
  socket.say({ type: "error", code: "unknown_channel", message: "no", channel: "run:y", id });
  for await (const _ of again) assert.fail("nothing comes");
  assert.equal(again.status, "lost");
});

test("a run can be stopped at any time", async () => {
  const socket = start().letIn();
  const early = umbel.run("ask");
  early.cancel();
  for await (const _ of early) assert.fail("nothing comes");
  assert.equal(early.status, "cancelled");
  const run = running(socket);
  run.cancel();
  assert.deepEqual(socket.sent.at(-1).data, { runId: "x" });
  socket.updates("run:x", 1, 1, () => ({ type: "ai_response_end", status: "cancelled" }));
  for await (const _ of run) assert.fail("nothing comes");
  assert.equal(run.status, "cancelled");
});

test("a token function is asked once for each attempt, and may fail or never return", async () => {
  let asked = 0;
  const signals = [];
  const answers = [() => Promise.reject(new Error("offline")), () => new Promise(() => {}), () => "t3"];
  const token = (signal) => {
    signals.push(signal);
    return answers[asked++]();
  };
  umbel = connect("ws://test.example/ws", { WebSocket: Socket, window: 5, base: 5, attemptTimeout: 20, token });
  umbel.on("warning", (text) => warnings.push(text));
  await until(() => Socket.all.length, "a socket");
  assert.equal(asked, 3);
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, true, false]);
  assert.match(warnings[0], /offline/);
  last().onopen();
  assert.deepEqual(last().sent, [{ type: "authenticate", token: "t3" }]);
});

test("warnings that nobody hears are in the console", () => {
  const { warn } = console;
  const heard = [];
  console.warn = (text) => heard.push(text);
  try {
    umbel = connect("ws://test.example/ws", { WebSocket: Socket });
    last().onopen();
    last().say({ type: "error", code: "internal", message: "oh" });
    last().onmessage({ data: "no JSON" });
  } finally {
    console.warn = warn;
  }
  assert.match(heard[0], /breaks the protocol/);
});

// ---- what happens to a page

function page() {
  const target = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const listen = target.addEventListener.bind(target);
  Object.assign(globalThis, { document, addEventListener: listen });
  return {
    document,
    tell: (name, fields = {}) => target.dispatchEvent(Object.assign(new Event(name), fields)),
    leave() {
      delete globalThis.document;
      delete globalThis.addEventListener;
    },
  };
}

test("a page in the back/forward cache has no socket and no timer, and goes on when it is back", async (t) => {
  const { tell, leave } = page();
  t.after(leave);
  const socket = start({ window: 1 }).letIn();
  tell("pagehide", { persisted: true });
  assert.equal(socket.closed, 4400, "the session waits");
  assert.equal(umbel.connection.state, "waiting");
  await new Promise((resolve) => { setTimeout(resolve, 30); });
  assert.equal(Socket.all.length, 1);
  assert.deepEqual(process.getActiveResourcesInfo().filter((name) => name === "Timeout"), []);
  tell("pageshow", { persisted: true });
  assert.equal(Socket.all.length, 2);
  last().onopen();
  assert.equal(last().sent[0].type, "resume");
});

test("a page that is put away while it asks for a token opens nothing", async (t) => {
  const { tell, leave } = page();
  t.after(leave);
  let answer;
  umbel = connect("ws://test.example/ws", { WebSocket: Socket, token: () => new Promise((resolve) => { answer = resolve; }) });
  tell("pagehide", { persisted: true });
  answer("t");
  await new Promise((resolve) => { setTimeout(resolve, 5); });
  assert.equal(Socket.all.length, 0);
  tell("pageshow", { persisted: true });
  answer("t2");
  await until(() => Socket.all.length, "a socket");
});

test("leaving a page for good ends the session", (t) => {
  const { tell, leave } = page();
  t.after(leave);
  const socket = start().letIn();
  tell("pagehide", { persisted: false });
  assert.equal(socket.closed, 1000);
  assert.equal(umbel.connection.state, "closed");
});

test("a page that is seen again, or online again, demands an answer, and connects at once when it waits", (t) => {
  const { document, tell, leave } = page();
  t.after(leave);
  const socket = start({ window: 60_000, random: () => 0.9 }).letIn();
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(socket.types().at(-1), "heartbeat");
  socket.end(1006);
  assert.equal(umbel.connection.state, "waiting");
  assert.ok(Math.abs(umbel.connection.at - Date.now() - 54_000) < 5000 || umbel.connection.at > Date.now());
  tell("offline");
  assert.equal(Socket.all.length, 1);
  tell("online");
  assert.equal(Socket.all.length, 2);
  last().end(1006);
  umbel.retry();
  assert.equal(Socket.all.length, 3);
});

test("after eight hours asleep an answer is demanded, and a dead socket is replaced", async (t) => {
  const socket = start({ probeTimeout: 50 }).letIn({ heartbeat: 3600 });
  const { now } = Date;
  t.after(() => { Date.now = now; });
  Date.now = () => now() + 8 * 3600_000; // the monotonic clock stood still
  await until(() => socket.types().includes("heartbeat"), "a heartbeat");
  await until(() => socket.closed === 4408, "the socket is replaced");
});

test("a healthy socket outlives a hundred freezes", async () => {
  const socket = start({ answerTimeout: 30, probeTimeout: 30 }).letIn({ heartbeat: 0.02 });
  const send = socket.send.bind(socket);
  // An answer is there at once, and is read after the timers that are overdue, as in a browser.
  socket.send = (text) => {
    send(text);
    setImmediate(() => socket.say({ type: "heartbeat_ack" }));
  };
  for (let turn = 0; turn < 100; turn += 1) {
    await until(() => socket.types().filter((type) => type === "heartbeat").length > turn, "a heartbeat");
    const end = performance.now() + 35;
    while (performance.now() < end);
  }
  assert.equal(Socket.all.length, 1);
});
