// Random histories of a client, with what the JavaScript machine does in each: as JSON, in the words of clients/vectors.
//
//     node histories.mjs SEED COUNT

import { createMachine } from "../../clients/js/umbel.js";
import { numbers } from "../../clients/js/test/place.mjs";

const [seed, count] = process.argv.slice(2).map(Number);
const random = numbers(seed);
const chance = (part) => random() < part;
const below = (bound) => Math.floor(random() * bound);
const pick = (...choices) => choices[below(choices.length)];
const maybe = (part, fields) => (chance(part) ? fields() : {});

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const channel = () => pick("a", "b", "@", "run:x", "@c1");
const epoch = () => pick("e1", "e1", "e2");

/** What a server says: mostly an answer to something, often a wrong one. */
function message(ids) {
  const id = () => ({ id: ids.length && chance(0.8) ? pick(...ids.slice(-6)) : below(12) });
  const kinds = [
    [5, () => ({
      type: "connection_established", clientId: pick("c1", "c1", "c2"), subject: pick("ann", "ann", "ann", null),
      session: { token: "s", ttl: 20 }, heartbeat: 30, tick: 16, reconnectWindow: 1000, maxUnanswered: pick(2, 64),
      ...maybe(0.6, () => ({ resumed: chance(0.8) })),
    })],
    [5, () => ({
      type: "subscription_established", channel: channel(), epoch: epoch(), offset: below(5), top: 5, ...maybe(0.9, id),
      ...maybe(0.4, () => ({ recovered: chance(0.6), reason: pick("trimmed", "epoch", "ahead", "new") })),
      ...maybe(0.2, () => ({ state: true })),
    })],
    [4, () => {
      const start = below(5);
      const offsets = Array.from({ length: 1 + below(3) }, (_, index) => start + 1 + index);
      const updates = offsets.map((offset) => ({ channel: pick("a", "b"), offset, data: offset }));
      return { type: "batched_updates", updates, count: updates.length };
    }],
    [1, () => ({ type: "gap", channel: channel(), epoch: epoch(), from: below(5), to: below(6), reason: pick("overrun", "turn", "reset") })],
    [1, () => ({ type: "gap", channel: channel(), epoch: epoch(), from: below(5), to: 0, top: below(6), reason: "reset" })],
    [1, () => ({ type: "subscription_ended", channel: channel(), reason: "over", ...maybe(0.5, id) })],
    [2, () => ({
      type: "error", code: pick("not_allowed", "timeout", "internal"), message: "no", ...maybe(0.6, id),
      ...maybe(0.5, () => ({ channel: channel() })),
    })],
    [1, () => ({ type: pick("x_result", "published"), channel: "a", offset: 3, data: 1, ...maybe(0.9, id), ...maybe(0.5, () => ({ epoch: epoch() })) })],
    [1, () => pick({ type: "heartbeat_ack" }, { type: "reconnect", within: 50 })],
  ];
  return pick(...kinds.flatMap(([weight, make]) => Array(weight).fill(make)))();
}

function history() {
  const asks = chance(0.3);
  const options = asks ? { ask_token: true } : { token: pick(null, "t") };
  const machine = createMachine(Object.fromEntries(Object.entries(options).map(([name, value]) => [camel(name), value])), () => 0.5);
  let now = 0;
  let attempt = 0;
  const [subscriptions, keys, ids] = [[1], [1], []];
  const inputs = [
    [5, () => ["connect"]],
    [1, () => ["close"]],
    [7, () => ["subscribe", channel(), ...pick([], [{ epoch: epoch(), offset: below(5) }])]],
    [4, () => ["unsubscribe", pick(...subscriptions)]],
    [5, () => ["request", "x", below(9), chance(0.2)]],
    [3, () => ["publish", "a", below(9), pick(null, "k"), false]],
    [1, () => ["present", "a", { typing: chance(0.5) }, chance(0.5)]],
    [2, () => ["change", { type: "state_set", channel: "a", key: "k", data: below(9) }]],
    [3, () => ["run", "ask", below(9)]],
    [3, () => ["cancel", pick(...keys)]],
    [5, () => ["token", attempt, pick("t1", "t2", "t3")]],
    [1, () => ["token_failed", attempt, "no"]],
    [8, () => ["opened", attempt, pick("umbel.v1.first", "umbel.v1.first", "umbel.v1.first", "umbel.v1", "no")]],
    [4, () => ["closed", attempt, pick(1006, 1006, 1012, 4401, 4413, 4500, 1000), "r"]],
    [1, () => ["failed", attempt, "f", chance(0.1)]],
    [3, () => ["probe", "x"]],
    [7, () => ["tick"]],
    [40, () => ["received", attempt, JSON.stringify(message(ids))]],
  ].flatMap(([weight, make]) => Array(weight).fill(make));
  const steps = [];
  for (let turn = 0; turn < 60; turn += 1) {
    now += chance(0.7) ? below(200) : below(20_000);
    const input = turn ? pick(...inputs)() : ["connect"];
    if (input[0] === "tick" && machine.deadline < Infinity) now = Math.max(now, machine.deadline);
    const returns = machine[camel(input[0])](now, ...input.slice(1)) ?? null;
    if (input[0] === "subscribe") subscriptions.push(returns);
    else if (returns !== null) keys.push(returns);
    const expect = machine.actions.splice(0).map(([name, ...values]) => {
      if (name === "open" || name === "askToken") [attempt] = values;
      if (name === "warn") return ["warn"];
      if (name === "state") return [name, values[0], Object.fromEntries(Object.entries(values[1]).map(([key, value]) => [snake(key), value]))];
      if (name !== "send") return [snake(name), ...values];
      const sent = JSON.parse(values[1]);
      if (sent.id !== undefined) ids.push(sent.id);
      return [name, values[0], sent];
    });
    steps.push({ at: now, do: input, returns, expect, deadline: machine.deadline < Infinity ? machine.deadline : null });
  }
  return { options, random: 0.5, steps };
}

process.stdout.write(JSON.stringify(Array.from({ length: count }, history)));
