// A session on a stream, with the face of a WebSocket. The server is in memory.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { numbers, until } from "./place.mjs";
import { FakeServer, refusal, refusedStream, URL_OF_SESSIONS } from "./streams.mjs";

const { fetch: own } = globalThis;
const SESSION = { type: "connection_established", clientId: "c1", session: { token: "s1", ttl: 120 } };
const AUTHENTICATE = { type: "authenticate", token: "t" };
const RESUME = { type: "resume", session: "s1", attempt: 3, positions: { a: { epoch: "e", offset: 2 ** 53 - 1 } } };

let server;
/** The file as another page has it. */
let page;
let pages = 0;

beforeEach(async () => {
  server = new FakeServer();
  globalThis.fetch = server.fetch;
  page = await import(`../stream.js?page=${pages += 1}`);
});
afterEach(() => { globalThis.fetch = own; });

/** A stream, and what it has passed on. */
function create() {
  const heard = [];
  const socket = page.createStream(URL_OF_SESSIONS);
  socket.onmessage = ({ data }) => heard.push(JSON.parse(data));
  socket.onclose = ({ code, reason }) => { socket.closed = { code, reason }; };
  return Object.assign(socket, { heard, closed: null });
}

async function opened(first = AUTHENTICATE) {
  const socket = create();
  await new Promise((resolve) => { socket.onopen = resolve; });
  socket.send(JSON.stringify(first));
  return socket;
}

async function letIn(first = AUTHENTICATE, established = SESSION) {
  const before = server.streams.length;
  const socket = await opened(first);
  await until(() => server.streams.length > before, "a stream");
  server.last.say(established);
  await until(() => socket.heard.length, "the client is let in");
  return socket;
}

const say = (socket, ...types) => { for (const type of types) socket.send(JSON.stringify({ type })); };
const closes = async (socket) => {
  await until(() => socket.closed, "the end");
  return socket.closed.code;
};
const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout");

test("it opens by itself, and asks for nothing before something is said", async () => {
  const socket = create();
  let open = 0;
  socket.onopen = () => { open += 1; };
  assert.equal(open, 0, "not before its owner listens");
  await turn();
  assert.deepEqual([open, socket.protocol, server.requests], [1, "umbel.v1.first", []]);
  const former = create();
  former.onopen = () => assert.fail("it was closed before");
  former.close(4408);
  await turn();
});

test("the first message opens the session, and what comes then is heard, however it is cut", async () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    server = new FakeServer(numbers(seed));
    globalThis.fetch = server.fetch;
    const socket = await letIn();
    const { path, method, headers, body } = server.requests[0];
    assert.deepEqual([path, method, headers["Content-Type"], body], ["/api/v1/session", "POST", "application/json", AUTHENTICATE]);
    const messages = [
      { type: "batched_updates", updates: [{ data: "é😀\\n\n\r\n data: x" }] }, { type: "error", code: "internal" }, { type: "heartbeat_ack" },
      { type: "closed_by_name_only", data: "x".repeat(3000) },
    ];
    for (const message of messages) server.last.say(message);
    await until(() => socket.heard.length === 5, "all of them");
    assert.deepEqual(socket.heard, [SESSION, ...messages]);
    server.last.close(4500, "go away");
    await until(() => socket.closed, "the end");
    assert.deepEqual(socket.closed, { code: 4500, reason: "go away" });
  }
});

test("what is said at once is one list, and one list is under way", async () => {
  const socket = await opened();
  say(socket, "early");
  await until(() => server.last, "a stream");
  await turn();
  assert.deepEqual(server.posted, [], "the client is not let in yet");
  server.last.say(SESSION);
  await until(() => server.posted.length, "a list");
  say(socket, "a", "b");
  say(socket, "c");
  await until(() => server.last.lists.length === 2, "another list");
  assert.deepEqual(server.last.lists, [[{ type: "early" }], [{ type: "a" }, { type: "b" }, { type: "c" }]]);
  assert.deepEqual(server.posted.map(({ attempt, number, end }) => [attempt, number, end]), [[0, 1, undefined], [0, 2, undefined]]);
  assert.equal(server.requests[1].headers.Authorization, "Umbel-Session s1");
});

test("a list is not too long, unless one message is", async () => {
  const socket = await letIn();
  for (let count = 0; count < 1200; count += 1) say(socket, "x");
  const long = "y".repeat(50_000);
  say(socket, long, long, long.repeat(3), "z");
  await until(() => server.last.said.length === 1204, "all of them");
  assert.deepEqual(server.last.lists.map(({ length }) => length), [500, 500, 201, 1, 1, 1]);
});

test("a list whose answer is lost is sent again with its number, and is taken once", async () => {
  const socket = await letIn();
  const lose = (request, signal) => {
    server.answer(request, signal);
    throw new TypeError("network");
  };
  server.answers.push(lose, () => new Response("busy", { status: 503 }), () => new Response("<p>log in", { status: 200 }));
  say(socket, "a");
  await until(() => server.posted.length === 2, "once more");
  say(socket, "b");
  await until(() => server.last.lists.length === 2, "both");
  assert.deepEqual(server.last.said, [{ type: "a" }, { type: "b" }]);
  assert.deepEqual(server.posted.map(({ number }) => number), [1, 1, 1, 1, 2]);
  assert.equal(socket.closed, null);
});

test("what can't be posted at all ends the stream", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const socket = await letInNow();
  server.answers.push(...Array(20).fill(() => { throw new TypeError("network"); }));
  say(socket, "a");
  for (let turns = 0; turns < 40 && !socket.closed; turns += 1) {
    await turn();
    await turn();
    t.mock.timers.tick(10_000);
  }
  assert.equal(socket.closed.code, 1006);
  assert.equal(server.posted.length, 7);
});

/** As `letIn`, where timers stand still. */
async function letInNow() {
  const socket = await opened();
  await turn();
  await turn();
  server.last.say(SESSION);
  await turn();
  assert.equal(socket.heard.length, 1);
  return socket;
}

test("a request that gets no answer is cut, and repeated", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const socket = await letInNow();
  server.answers.push((_, signal) => new Promise((_, reject) => { signal.addEventListener("abort", () => reject(signal.reason)); }));
  say(socket, "a");
  await turn();
  await turn();
  t.mock.timers.tick(9_999);
  await turn();
  assert.equal(server.posted.length, 1);
  t.mock.timers.tick(1);
  await turn();
  t.mock.timers.tick(100);
  await turn();
  await turn();
  assert.deepEqual(server.last.said, [{ type: "a" }]);
});

test("a stream that breaks off has no code, and the half of an event is not passed on", async () => {
  for (const how of ["close", "error"]) {
    const socket = await letIn();
    server.last.break(how);
    assert.equal(await closes(socket), 1006);
    assert.equal(socket.heard.length, 1);
  }
});

test("who is refused hears why", async () => {
  const closed = { type: "closed", code: 4401, reason: "authentication required", reconnect: true };
  server.answers.push(() => refusedStream(401, ["server_error", { type: "error", code: "unauthenticated" }], ["closed", closed]));
  const socket = await opened();
  await until(() => socket.closed, "the end");
  assert.deepEqual(socket.closed, { code: 4401, reason: "authentication required" });
  assert.deepEqual(socket.heard.map(({ code }) => code), ["unauthenticated"]);
});

test("an answer that is no stream is no session, and one that names a newer attempt says that another has it", async () => {
  const html = (status) => () => new Response("<p>no", { status, headers: { "Content-Type": "text/html" } });
  for (const [answer, code] of [
    [html(404), 1006], [html(200), 1006], [html(409), 1006], [html(503), 1006], [() => { throw new TypeError("network"); }, 1006],
    [() => refusal(409, "superseded", { attempt: 3 }), 1006], [() => refusal(409, "superseded", { attempt: 4 }), 4502],
    [() => refusal(409, "superseded"), 1006], [html(413), 1009], [() => refusal(400, "bad_message", { attempt: 9 }), 1006],
    [() => new Response(null, { status: 200, headers: { "Content-Type": "text/event-stream" } }), 1006],
  ]) {
    server.answers.push(answer);
    assert.equal(await closes(await opened(RESUME)), code, String(answer));
  }
});

test("a list that is refused ends the stream", async () => {
  for (const [answer, code] of [
    [() => refusal(409, "superseded", { attempt: 0 }), 1006], [() => refusal(409, "superseded", { attempt: 1 }), 4502],
    [() => refusal(409, "out_of_order", { expected: 7 }), 1006], [() => refusal(404, "session_lost"), 1006],
    [() => refusal(400, "bad_message"), 1006], [() => refusal(413, "too_big"), 1009],
  ]) {
    const socket = await letIn();
    server.answers.push(answer);
    say(socket, "a");
    assert.equal(await closes(socket), code, String(answer));
    await until(() => server.last.aborted, "it is cut");
  }
});

test("a list that is too long is cut into its messages, with the same number", async () => {
  const socket = await letIn();
  server.answers.push(() => refusal(413, "too_big"));
  say(socket, "a", "b", "c");
  await until(() => server.last.said.length === 3, "all of them");
  assert.deepEqual(server.posted.map(({ number, messages }) => [number, messages.length]), [[1, 3], [1, 1], [2, 1], [3, 1]]);
});

test("close ends the session, after what was said before, and nothing is heard then", async () => {
  const socket = await letIn();
  say(socket, "a");
  await until(() => server.posted.length, "a list is under way");
  say(socket, "b", "c");
  server.last.say({ type: "late" });
  socket.close(1000);
  await until(() => server.last.aborted, "it is cut");
  const posted = server.requests.slice(1).map(({ body: { number, messages, end }, keepalive }) => [number ?? end, messages?.length, keepalive]);
  assert.deepEqual(posted, [[1, 1, false], [2, 2, true], [true, undefined, true]]);
  assert.deepEqual([server.last.said.length, server.last.over], [3, true]);
  assert.deepEqual([socket.heard.length, socket.closed], [1, null]);
  assert.deepEqual(timers(), []);
});

test("a page that is left waits for nothing", async (t) => {
  const target = new EventTarget();
  globalThis.addEventListener = target.addEventListener.bind(target);
  t.after(() => { delete globalThis.addEventListener; });
  const socket = await letIn();
  target.dispatchEvent(new Event("pagehide"));
  assert.deepEqual(server.posted, [], "its owner decides whether this is the end");
  say(socket, "a");
  await until(() => server.posted.length, "a list is under way");
  say(socket, "b");
  socket.close(1000);
  target.dispatchEvent(new Event("pagehide"));
  const posted = server.requests.slice(1).map(({ body: { number, end }, keepalive }) => [number ?? end, keepalive]);
  assert.deepEqual(posted, [[1, false], [2, true], [true, true]]);
  await until(() => server.last.aborted, "it is cut");
  assert.equal(server.last.over, true);
  assert.deepEqual(timers(), []);
});

test("close does not wait for long", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const fate of [() => new Promise(() => {}), () => { throw new TypeError("network"); }]) {
    const socket = await letInNow();
    server.requests = [];
    server.answers = Array(9).fill(fate);
    say(socket, "a");
    await turn();
    await turn();
    socket.close(1000);
    t.mock.timers.tick(999);
    await turn();
    await turn();
    assert.equal(server.posted.some(({ end }) => end), false);
    server.answers = [];
    t.mock.timers.tick(1);
    await turn();
    await turn();
    assert.equal(server.posted.at(-1).end, true);
    assert.deepEqual([server.last.aborted, server.last.over], [true, true]);
  }
});

test("an end that is lost is posted again, and what knows of no session has none", async () => {
  for (const [answers, count] of [
    [[() => { throw new TypeError("network"); }, () => new Response("", { status: 502 })], 3],
    [Array(9).fill(() => { throw new TypeError("network"); }), 3],
    [[() => refusal(404, "session_lost")], 1], [[() => refusal(409, "superseded", { attempt: 7 })], 1],
  ]) {
    const socket = await letIn();
    server.requests = [];
    server.answers = answers;
    socket.close(1000);
    await until(() => server.last.aborted, "it is cut");
    server.answers = [];
    assert.equal(server.posted.length, count);
    assert.deepEqual(timers(), []);
  }
});

test("what is too long for a page that is left is sent without a promise", async () => {
  const socket = await letIn();
  say(socket, "x".repeat(30_000));
  socket.close(1000);
  await until(() => server.last.aborted, "it is cut");
  assert.deepEqual(server.requests.slice(1).map(({ keepalive }) => keepalive), [false, true]);
});

test("every other end leaves the session, at once and in any state", async () => {
  for (const code of [4400, 4408]) {
    const socket = await letIn();
    let cut = false;
    server.answers.push((_, signal) => new Promise((_, reject) => {
      signal.addEventListener("abort", () => {
        cut = true;
        reject(signal.reason);
      });
    }));
    say(socket, "a");
    await until(() => server.posted.length, "a list is under way");
    await turn();
    server.last.say({ type: "late" });
    socket.close(code);
    await until(() => server.last.aborted && cut, "all is cut");
    assert.deepEqual([server.last.over, socket.heard.length, socket.closed], [false, 1, null]);
    say(socket, "b");
    server.requests = [];
  }
  for (const code of [1000, 4400]) {
    const socket = await opened();
    socket.close(code);
    await turn();
    await turn();
    assert.deepEqual(server.posted, [], "nobody is let in");
  }
  assert.deepEqual(timers(), []);
});

test("a session that is a new one has its own token and no attempt", async () => {
  const socket = await letIn(RESUME, { ...SESSION, resumed: false, session: { token: "s2" } });
  say(socket, "a");
  await until(() => server.posted.length, "a list");
  assert.deepEqual([server.posted[0].attempt, server.requests.at(-1).headers.Authorization], [0, "Umbel-Session s2"]);
  const again = await letIn(RESUME, { ...SESSION, resumed: true, session: undefined });
  say(again, "a");
  await until(() => server.posted.length === 2, "a list");
  assert.deepEqual([server.posted[1].attempt, server.requests.at(-1).headers.Authorization], [3, "Umbel-Session s1"]);
});

// ---- parts

/** A page whose streams come in parts. */
async function comesInParts() {
  const mute = await opened();
  await until(() => server.last, "a stream");
  mute.close(4408);
  assert.equal(mute.mute, true);
  server.streams = [];
  server.requests = [];
}

test("what is mute until it is given up is followed by parts", async () => {
  await comesInParts();
  const socket = await letIn();
  assert.deepEqual(server.requests[0].body, { ...AUTHENTICATE, part: 1 });
  say(socket, "a");
  for (let count = 1; count <= 5; count += 1) server.last.say({ type: "said", count });
  await until(() => socket.heard.length === 6, "all of them");
  server.last.say({ type: "more" });
  await until(() => socket.heard.length === 7, "more");
  const parts = server.requests.filter(({ body }) => body.part > 1).map(({ body }) => body);
  assert.deepEqual(parts[0], { type: "resume", session: "s1", attempt: 0, part: 2, positions: {} });
  assert.deepEqual(parts.map(({ part }) => part), parts.map((_, index) => index + 2));
  assert.deepEqual(server.last.said, [{ type: "a" }]);
  server.last.close(1012, "the server restarts");
  assert.equal(await closes(socket), 1012);
  server.requests = [];
  const again = await letIn(RESUME, { ...SESSION, resumed: true });
  assert.deepEqual(server.requests[0].body, { ...RESUME, part: 1 });
  await until(() => server.last.part === 2, "another part");
  assert.equal(server.requests.at(-1).body.attempt, 3);
  again.close(4408);
  assert.equal(again.mute, false, "it can't do better");
});

test("a part that breaks off is the end, and so is one that is refused", async () => {
  await comesInParts();
  const socket = await letIn();
  await until(() => server.last.part === 2, "another part");
  server.last.break();
  assert.equal(await closes(socket), 1006);
  for (const [answer, code] of [
    [() => refusal(409, "superseded", { attempt: 0 }), 1006], [() => refusal(409, "superseded", { attempt: 1 }), 4502],
    [() => { throw new TypeError("network"); }, 1006],
  ]) {
    const one = await opened();
    await until(() => server.last.first === server.requests.at(-1).body, "a stream");
    server.answers.push(answer);
    server.last.say(SESSION);
    assert.equal(await closes(one), code);
  }
});

test("an end between two parts asks for no more of them", async () => {
  await comesInParts();
  const socket = await letIn();
  await until(() => server.last.part === 2, "another part");
  const { onmessage } = socket;
  socket.onmessage = (event) => {
    onmessage(event);
    socket.close(1000);
  };
  server.last.say({ type: "said" });
  await until(() => server.last.over, "the session is over");
  await turn();
  assert.equal(server.last.part, 2);
});

test("parts that come in pieces are the last ones, unless they are long", async () => {
  await comesInParts();
  for (const [seconds, pad, next] of [[0, "", 1], [0.05, "x".repeat(5000), 1], [0.05, "", undefined]]) {
    server.partSeconds = seconds;
    const socket = await letIn(AUTHENTICATE, { ...SESSION, pad });
    await until(() => server.last.part === 2, "another part");
    socket.close(4400);
    const other = await opened();
    assert.equal(server.requests.at(-1).body.part, next);
    other.close(4400);
  }
});

test("a stream that says nothing to what was taken is mute, and one in a network that is gone is not", async () => {
  const gone = await letIn();
  server.answers.push(() => { throw new TypeError("network"); });
  say(gone, "a");
  await until(() => server.posted.length, "a list");
  gone.close(4408);
  assert.equal(gone.mute, false);
  const answered = await letIn();
  say(answered, "b");
  await until(() => server.last.said.length, "a list");
  server.last.say({ type: "answer" });
  await until(() => answered.heard.length === 2, "an answer");
  say(answered, "c");
  await until(() => server.last.said.length === 2, "a list");
  await turn();
  answered.close(4408);
  assert.equal(answered.mute, false, "it said something once, so its network is gone");
  const { now } = performance;
  const reading = await letIn(RESUME, { ...SESSION, resumed: true });
  performance.now = () => now.call(performance) + 1001;
  server.last.say({ type: "update" });
  await until(() => reading.heard.length === 2, "an update");
  performance.now = now;
  say(reading, "c");
  await until(() => server.last.said.length, "a list");
  await turn();
  reading.close(4408);
  assert.equal(reading.mute, false, "it said something some time after it began");
  const mute = await letIn();
  say(mute, "c");
  await until(() => server.last.said.length, "a list");
  await turn();
  await turn();
  mute.close(4400);
  assert.equal(mute.mute, false, "there was another reason");
  const again = await letIn();
  say(again, "d");
  await until(() => server.last.said.length, "a list");
  await turn();
  await turn();
  again.close(4408);
  assert.equal(again.mute, true);
});

// ---- pages of other origins

test("cookies go to another origin if they may, and a page that may not send them goes without", async (t) => {
  globalThis.location = new URL("https://page.example/");
  t.after(() => { delete globalThis.location; });
  const network = () => { throw new TypeError("network"); };
  server.answers.push(network, network);
  assert.equal(await closes(await opened()), 1006);
  const modes = () => server.requests.splice(0).map(({ credentials }) => credentials);
  assert.deepEqual(modes(), ["include", "same-origin"]);
  await letIn();
  assert.deepEqual(modes(), ["include"], "it was the network");
  server.answers.push(network);
  const socket = await letIn();
  say(socket, "a");
  await until(() => server.last.said.length, "a list");
  await letIn();
  assert.deepEqual(modes(), ["include", "same-origin", "same-origin", "same-origin"]);
});
