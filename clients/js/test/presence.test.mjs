// Who is in a channel, with a real server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { connect } from "../umbel.js";
import { Network, Served, until } from "./place.mjs";

let served;
let network;
const clients = [];
let rooms = 0;

before(async () => {
  served = await Served.start({ settings: { heartbeat: 1, reconnect_window: 0.02, presence_interval: 0.01, presence_limit: 3 } });
  network = await Network.to(served.port);
});
after(async () => {
  for (const client of clients) client.close();
  await network.close();
  await served.stop();
});

function client(token, options = {}) {
  const made = connect(network.url(), { WebSocket, fallback: false, base: 20, cap: 50, attempts: 1000, token: () => token, ...options });
  made.on("warning", () => {});
  clients.push(made);
  return made;
}

/** A channel of this test alone. */
const fresh = (kind = "here") => `${kind}:${rooms += 1}`;
const subjects = (members) => [...members.values()].map(({ subject }) => subject).sort().join();
const byName = (members, name) => [...members.values()].find(({ subject }) => subject === name);

test("members see each other come, do something, and leave", async () => {
  const room = fresh();
  const told = [];
  const note = (members, joined, left) => {
    const names = [joined, left].map((those) => those.map(({ subject }) => subject));
    if (names.flat().length) told.push(names);
  };
  const [ann, ben] = [client("ann"), client("ben")];
  const hers = await ann.presence(room, { onChange: note });
  await until(() => hers.count === 1, "ann herself");
  const came = [];
  const his = await ben.presence(room, { onChange: (_, joined) => came.push(...joined.map(({ subject }) => subject)) });
  assert.ok(byName(his, "ann"), "all who were there are there from the beginning");
  await until(() => hers.count === 2 && his.count === 2, "ben");
  assert.equal(came.includes("ann"), false, "who was there already did not come");
  assert.deepEqual([subjects(hers), subjects(his), hers.channel], ["ann,ben", "ann,ben", room]);
  assert.equal(hers.get(ben.connection.clientId).subject, "ben");
  await his.update({ currentTask: "t1", typing: true, data: { at: [1] } });
  await until(() => byName(hers, "ben").currentTask === "t1", "what he does");
  assert.deepEqual([byName(hers, "ben").typing, byName(hers, "ben").data, byName(hers, "ben").isActive], [true, { at: [1] }, true]);
  await his.update({ data: null });
  await until(() => byName(hers, "ben").data === null, "null clears");
  await assert.rejects(his.update({ data: "x".repeat(5000) }), { code: "bad_message" });
  his.close();
  his.close();
  await until(() => hers.count === 1, "ben has left");
  assert.deepEqual(told.slice(-2), [[["ben"], []], [[], ["ben"]]]);
  assert.ok(told.length === 2 || (told.length === 3 && told[0][0].join() === "ann"), "whether she is in the first list, nobody can know");
  assert.equal(his.count, 2, "what is closed stays as it is");
  await assert.rejects(his.update({ typing: true }), { code: "not_subscribed" });
});

test("a channel that is read beside it stays, and is left with the last of them", async () => {
  const room = fresh();
  const umbel = client("ann");
  const members = await umbel.presence(room);
  const updates = [];
  const subscription = umbel.subscribe(room, ({ data }) => updates.push(data));
  members.close();
  await umbel.publish(room, 1);
  await until(() => updates.length, "the update");
  const again = await umbel.presence(room);
  assert.equal(again.count, 1);
  subscription.close();
  await again.update({ currentTask: 7 });
  await until(() => again.get(umbel.connection.clientId).currentTask === 7, "it is still there");
  again.close();
  await until(async () => (await umbel.request("subscribers", room)) === 0, "it has left");
});

test("a state that is shown beside it does not come again", async () => {
  const room = fresh("team");
  const umbel = client("ann");
  const shown = [];
  const state = await umbel.state(room, { onChange: ({ whole, size }) => shown.push({ whole, size }) });
  await state.set("a", 1);
  const members = await umbel.presence(room);
  await state.set("b", 2);
  assert.deepEqual(shown, [{ whole: true, size: 0 }, { whole: true, size: 1 }, { whole: true, size: 2 }]);
  state.close();
  await members.update({ currentTask: 7 });
  await until(() => members.get(umbel.connection.clientId).currentTask === 7, "it is still there");
});

test("after a lost session it says again what it had said, and is another member", async () => {
  const room = fresh();
  const umbel = client("ann");
  const other = await client("ben").presence(room);
  const members = await umbel.presence(room);
  await members.update({ currentTask: "t7", typing: true });
  await members.update({ data: { seat: 1 } });
  await members.update({ currentTask: "t8" });
  const former = umbel.connection.clientId;
  await until(() => other.get(former)?.currentTask === "t8", "what she said");
  await served.stop();
  await until(() => umbel.connection.state !== "connected", "the end");
  const waiting = members.update({ isActive: false });
  await served.start();
  await waiting;
  for (const map of [other, members]) {
    await until(() => subjects(map) === "ann,ben" && byName(map, "ann").data, "both are there again");
    assert.deepEqual([...map.keys()].filter((key) => key === former), []);
    await until(() => byName(map, "ann").isActive === false, "what was said without a connection");
    const { currentTask, data, typing } = byName(map, "ann");
    assert.deepEqual([currentTask, data, typing], ["t8", { seat: 1 }, false]);
  }
});

test("a cut within a session changes nothing for others", async () => {
  const room = fresh();
  const umbel = client("ann");
  const other = await client("ben").presence(room);
  const told = [];
  const members = await umbel.presence(room, { onChange: (_, joined, left) => told.push(...joined, ...left) });
  await members.update({ currentTask: 1 });
  for (const map of [other, members]) await until(() => byName(map, "ann")?.currentTask === 1 && byName(map, "ben"), "what she said");
  told.length = 0;
  const { clientId } = umbel.connection;
  network.cut();
  await until(() => umbel.connection.state !== "connected", "the cut");
  await members.update({ currentTask: 2 });
  await until(() => byName(other, "ann").currentTask === 2, "what she said then");
  assert.deepEqual([umbel.connection.clientId, told], [clientId, []]);
});

test("where a number is told, nobody comes and nobody leaves", async () => {
  const crowd = fresh("crowd");
  const told = [];
  const members = await client("ann").presence(crowd, { onChange: (map, ...news) => told.push([map.count, map.size, ...news]) });
  const other = await client("ben").presence(crowd);
  await until(() => members.count === 2, "two");
  other.close();
  await until(() => members.count === 1, "one");
  assert.deepEqual(told.at(-1), [1, 0, [], []]);
  assert.ok(told.every(([, size, joined, left]) => !size && !joined.length && !left.length));
});

test("too many members are a number", async () => {
  const room = fresh();
  const told = [];
  const members = await client("ann").presence(room, {
    onChange: (map, joined, left) => { if (map.count > 3) told.push([map.size, joined, left]); },
  });
  await Promise.all(["ben", "cy", "dee", "eve"].map((name) => client(name).presence(room)));
  await until(() => members.count === 5 && !members.size, "the number");
  assert.ok(told.length && told.every(([size, joined, left]) => !size && !joined.length && !left.length));
});

test("what can't be had is rejected, and what is sent away has ended", async (t) => {
  const umbel = client("ann");
  await assert.rejects(umbel.presence("board:1"), { code: "unknown_channel" });
  await until(async () => (await umbel.request("subscribers", "board:1")) === 0, "nothing is left");
  await assert.rejects(umbel.presence(7), TypeError);
  const stopped = new AbortController();
  const hidden = fresh("hidden");
  const members = await umbel.presence(hidden, { signal: stopped.signal });
  assert.deepEqual([members.count, members.size], [0, 0]);
  // Who is hidden is known when the application was asked.
  const refused = await until(() => members.update({ typing: true }).then(() => null, ({ code }) => code), "a refusal");
  assert.deepEqual([refused, members.count], ["not_allowed", 0]);
  stopped.abort();
  await until(async () => (await umbel.request("subscribers", hidden)) === 0, "it was left");
  const room = fresh();
  const ended = [];
  await umbel.presence(room, { onEnded: (...what) => ended.push(what) });
  const { warn } = console;
  t.after(() => { console.warn = warn; });
  console.warn = (text) => ended.push(text);
  await umbel.request("leave", room);
  await until(() => ended.length, "the end");
  assert.deepEqual(ended, [[null, "you have left"]]);
});

test("it begins without a connection, and over streams", async () => {
  const room = fresh();
  class Blocked {
    constructor() { setTimeout(() => this.onclose?.({ code: 1006, reason: "" })); }
    close() {}
  }
  const umbel = connect(served.url(), { WebSocket: Blocked, base: 20, cap: 50, token: () => "sue" });
  clients.push(umbel);
  umbel.on("warning", () => {});
  const members = await umbel.presence(room);
  assert.equal(umbel.connection.transport, "stream");
  await members.update({ currentTask: 1 });
  await until(() => byName(members, "sue").currentTask === 1, "what she said");
});

test("without sessions, a reader that came meanwhile changes nothing", async (t) => {
  const brief = await Served.start({ settings: { reconnect_window: 0.02, presence_interval: 0.01, session_ttl: 0 } });
  const way = await Network.to(brief.port);
  const made = ["ann", "ben"].map((name) => connect((name === "ann" ? way : brief).url(), { WebSocket, fallback: false, base: 20, attempts: 1000, token: () => name }));
  t.after(async () => {
    for (const umbel of made) umbel.close();
    await way.close();
    await brief.stop();
  });
  const [ann, ben] = made;
  const room = fresh();
  const other = await ben.presence(room);
  const members = await ann.presence(room);
  await members.update({ currentTask: "t1" });
  for (let turn = 0; turn < 3; turn += 1) {
    const { clientId } = ann.connection;
    await until(() => other.get(clientId)?.currentTask === "t1", "she is there");
    way.cut();
    await until(() => ann.connection.state !== "connected", "the cut");
    const subscription = ann.subscribe(room, () => {});
    // With it, the members are asked for anew, too.
    const second = turn === 1 && ann.presence(room);
    await until(() => ann.connection.clientId && ann.connection.clientId !== clientId, "another session");
    if (second) (await second).close();
    await until(() => !members.has(clientId) && members.get(ann.connection.clientId)?.currentTask === "t1", "what there is now");
    subscription.close();
  }
});
