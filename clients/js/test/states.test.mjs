// States as live maps, with a real server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { connect, UmbelError } from "../umbel.js";
import { Network, Served, sleep, until } from "./place.mjs";

let served;
let network;
const clients = [];
let boards = 0;

before(async () => {
  served = await Served.start({ settings: { heartbeat: 1, reconnect_window: 0.02, session_ttl: 60 } });
  network = await Network.to(served.port);
});
after(async () => {
  for (const client of clients) client.close();
  await network.close();
  await served.stop();
});

function client(options = {}) {
  const made = connect(network.url(), { WebSocket, fallback: false, base: 20, cap: 50, attempts: 1000, ...options });
  made.on("warning", () => {});
  clients.push(made);
  return made;
}

/** A channel of this test alone. */
const fresh = () => `board:${boards += 1}`;
const isConflict = (error) => error instanceof UmbelError && error.code === "state_conflict";
const outcome = (promise) => promise.then(() => "done", ({ code }) => code);

test("two clients have the same map", async () => {
  const board = fresh();
  const mine = await client().state(board);
  const yours = await client().state(board);
  assert.deepEqual([mine.whole, mine.size, mine.channel], [true, 0, board]);
  const setting = mine.set("a", { n: 1 });
  assert.deepEqual(mine.get("a"), { n: 1 }, "a change is shown at once");
  assert.equal(yours.has("a"), false);
  const { epoch, offset } = await setting;
  assert.deepEqual([typeof epoch, offset], ["string", 1]);
  await until(() => yours.has("a"), "the entry");
  await yours.patch("a", { done: true });
  await until(() => mine.get("a").done, "the patch");
  await mine.set("b", [1]);
  assert.equal((await mine.delete("b")).offset, 4);
  await mine.update("a", (value) => ({ ...value, n: value.n + 1 }));
  await mine.update("new", (value) => [value === undefined]);
  await until(() => yours.size === 2 && yours.has("new"), "the same map");
  const entries = [["a", { n: 2, done: true }], ["new", [true]]];
  for (const map of [mine, yours]) {
    assert.deepEqual([...map], entries);
    assert.deepEqual([[...map.keys()], [...map.values()], [...map.entries()]], [["a", "new"], entries.map(([, value]) => value), entries]);
  }
  mine.close();
  yours.close();
  await until(async () => (await clients[0].request("subscribers", board)) === 0, "both have left");
});

test("what somebody else has changed is not overwritten", async () => {
  const board = fresh();
  const umbel = client();
  const state = await umbel.state(board);
  const other = await client().state(board);
  await state.set("a", 1);
  await until(() => other.has("a"), "the entry");
  // In the order of the calls on one connection: the publication comes before the change.
  umbel.publish(board, 2, { key: "a" });
  const refused = state.set("a", 3);
  const built = state.delete("a");
  const added = state.update("a", (value) => value + 1);
  await assert.rejects(refused, (error) => isConflict(error) && error.details.data === 2 && error.details.version === 2);
  await assert.rejects(built, isConflict);
  await added;
  await until(() => other.get("a") === 3, "the update");
  assert.equal(state.get("a"), 3);
  await assert.rejects(state.patch("nothing", { a: 1 }), isConflict);
  assert.equal(state.has("nothing"), false);
  await assert.rejects(state.set("long", "x".repeat(70_000)), { code: "limit_exceeded" });
  assert.deepEqual([...state], [["a", 3]]);
});

test("clients count together", async () => {
  const board = fresh();
  const [one, other] = [client(), client()];
  const states = await Promise.all([one.state(board), other.state(board), one.state(board)]);
  await Promise.all(states.flatMap((state) => Array.from({ length: 10 }, () => state.update("n", (n = 0) => n + 1))));
  await until(() => states.every((state) => state.get("n") === 30), "all of them");
});

test("a map tells what has changed, and its functions may change it", async (t) => {
  const board = fresh();
  const told = [];
  const { error } = console;
  console.error = () => {};
  t.after(() => { console.error = error; });
  const inner = [];
  const state = await client().state(board, {
    onChange(map, keys) {
      told.push([keys, map.whole, [...map]]);
      if (keys[0] === "a") inner.push(map.set("b", 2));
      throw new Error("no matter");
    },
  });
  assert.deepEqual(told.splice(0), [[[], true, []]]);
  await state.set("a", 1);
  await Promise.all(inner);
  const applied = [];
  await state.update("c", () => {
    applied.push(state.set("d", 4));
    return 3;
  });
  await Promise.all(applied);
  assert.deepEqual(told.map(([keys]) => keys).sort(), [["a"], ["b"], ["c"], ["d"]]);
  assert.deepEqual([...state].sort(), [["a", 1], ["b", 2], ["c", 3], ["d", 4]]);
});

test("values are copies, and what is no JSON is refused at once", async () => {
  const state = await client().state(fresh());
  const given = [1];
  const setting = state.set("a", given);
  given.push("later");
  await setting;
  assert.deepEqual(state.get("a"), [1]);
  const spoil = (value) => {
    value.push(2);
    if (value.length > 2) throw new RangeError("too long");
    return value;
  };
  await state.update("a", spoil);
  await assert.rejects(state.update("a", spoil), /too long/);
  for (const wrong of [
    state.set("a", undefined), state.set("a", () => {}), state.set("a", Symbol("x")), state.set("a", 1n), state.update("a", async () => 1),
    state.update("a", () => {}),
  ]) await assert.rejects(wrong, TypeError);
  for (const wrong of [state.set(5, 1), state.patch("a", [1]), state.set(undefined, 1), state.set("a".repeat(256), 1)]) {
    await assert.rejects(wrong, { code: "bad_message" });
  }
  assert.deepEqual([...state], [["a", [1, 2]]]);
  assert.throws(() => state.clear(), TypeError);
});

test("names such as __proto__ are keys", async () => {
  const board = fresh();
  const state = await client().state(board);
  const other = await client().state(board);
  const value = JSON.parse('{"__proto__": {"a": 1}}');
  for (const key of ["__proto__", "constructor", ""]) {
    await state.set(key, value);
    await state.patch(key, JSON.parse('{"__proto__": {"b": 2}, "constructor": null}'));
  }
  await until(() => other.size === 3 && Object.keys(other.get("")).length === 1 && JSON.stringify(other.get("")).includes("b"), "all of it");
  for (const map of [state, other]) {
    assert.deepEqual([...map.keys()], ["__proto__", "constructor", ""]);
    for (const each of map.values()) assert.equal(JSON.stringify(each), '{"__proto__":{"a":1,"b":2}}');
  }
  assert.equal({}.b, undefined);
});

test("what is changed while there is no connection is done later, and what was sent then is done once", async () => {
  const board = fresh();
  const umbel = client();
  const state = await umbel.state(board);
  const other = connect(served.url(), { WebSocket, fallback: false });
  clients.push(other);
  const { target } = network;
  network.target = 1;
  network.cut();
  await until(() => umbel.connection.failing, "nobody is there");
  for (const key of ["x", "y"]) await other.publish(board, 1, { key });
  const waiting = [state.set("a", 1), state.set("a", 2), state.set("x", 2), state.update("y", (y = 0) => y + 5)].map(outcome);
  assert.deepEqual([...state], [["a", 2], ["x", 2], ["y", 5]]);
  await sleep(20);
  network.target = target;
  assert.deepEqual(await Promise.all(waiting), ["done", "done", "state_conflict", "done"]);
  await until(() => state.get("x") === 1, "the map");
  assert.deepEqual([...state].sort(), [["a", 2], ["x", 1], ["y", 6]]);
  let counted = 0;
  for (let turn = 0; turn < 10; turn += 1) {
    const counting = state.update("n", (n = 0) => n + 1);
    network.cut();
    await counting;
    counted += 1;
  }
  await until(() => state.get("n") === counted, "each once");
});

test("a channel that is no state, or can't be had, is told at once", async () => {
  const umbel = client();
  const ends = [];
  const onEnded = (error, reason) => ends.push([error.code, reason]);
  await assert.rejects(umbel.state("news", { onEnded }), { code: "not_a_state", message: 'news is no channel of mode "state"' });
  assert.deepEqual(ends, [["not_a_state", 'news is no channel of mode "state"']]);
  assert.equal(await umbel.request("subscribers", "news"), 0);
  await assert.rejects(umbel.state("$x"), UmbelError);
  await assert.rejects(umbel.state(5), TypeError);
  umbel.close();
  await assert.rejects(umbel.state(fresh()), { code: "closed" });
});

test("the end of a subscription ends the map, and it stays as it is", async () => {
  const board = fresh();
  const umbel = client();
  const ends = [];
  const state = await umbel.state(board, { onEnded: (error, reason) => ends.push([error, reason]) });
  await state.set("a", 1);
  await umbel.request("leave", board);
  await until(() => ends.length, "the end");
  assert.deepEqual(ends, [[null, "you have left"]]);
  await assert.rejects(state.set("a", 2), { code: "ended", message: "you have left" });
  assert.deepEqual([...state], [["a", 1]]);
});

test("a map is closed by its method, and by a signal", async () => {
  const board = fresh();
  const umbel = client();
  const stop = new AbortController();
  const state = await umbel.state(board, { signal: stop.signal, onEnded: () => assert.fail() });
  const setting = state.set("a", 1);
  const waiting = state.set("a", 2);
  stop.abort();
  await assert.rejects(waiting, { code: "closed" });
  await setting;
  assert.deepEqual([...state], [["a", 1]]);
  state.close();
  await until(async () => (await umbel.request("subscribers", board)) === 0, "it has left");
  await assert.rejects(umbel.state(board, { signal: stop.signal }), { code: "closed" });
  const later = new AbortController();
  const opening = umbel.state(board, { signal: later.signal });
  later.abort();
  await assert.rejects(opening, { code: "closed" });
});

test("the application resolves a conflict, and those who have the map are told", async () => {
  const told = [[], []];
  const onConflict = (index) => (_, key, conflict) => told[index].push({ key, ...conflict });
  const mine = await client().state("merged:1", { onConflict: onConflict(0) });
  const yours = await client().state("merged:1", { onConflict: onConflict(1) });
  await mine.set("a", { x: 1, y: 1 });
  await until(() => yours.has("a"), "the entry");
  // Neither has heard of the other one.
  const changed = await Promise.all([mine.set("a", { x: 2, y: 1 }), yours.set("a", { x: 3, y: 1 })]);
  assert.deepEqual(changed.map(({ resolved }) => Boolean(resolved)).sort(), [false, true]);
  await until(() => told.every((list) => list.length), "both are told");
  await until(() => mine.get("a").x === yours.get("a").x, "the same map");
  const [{ key, resolution, conflictedChanges }] = told[0];
  assert.deepEqual(told, [told[0], told[0]]);
  assert.deepEqual([key, resolution, told[0].length], ["a", "merge", 1]);
  assert.deepEqual(conflictedChanges.map(({ field, current, proposed }) => [field, [current, proposed].sort()]), [["x", [2, 3]]]);
  const late = await client().state("merged:1", { onConflict: () => assert.fail("it is no news") });
  assert.deepEqual(late.get("a"), mine.get("a"));
});

test("there is a limit for what waits", async () => {
  const state = await client({ queue: 2000 }).state(fresh());
  const outcomes = Array.from({ length: 500 }, () => outcome(state.patch("a", {})));
  outcomes.push(...Array.from({ length: 501 }, (_, n) => outcome(state.set(`k${n}`, n))));
  const codes = await Promise.all(outcomes);
  assert.equal(codes.pop(), "queue_full");
  assert.deepEqual(codes, [...Array(500).fill("state_conflict"), ...Array(500).fill("done")]);
  assert.equal(state.size, 500);
});
