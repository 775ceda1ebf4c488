// Random histories of a state, with what the JavaScript machine does in each: as JSON, in the words of clients/vectors/state.
//
//     node state_histories.mjs SEED COUNT

import { createStateMachine } from "../../clients/js/state.js";
import { numbers } from "../../clients/js/test/place.mjs";

const [seed, count] = process.argv.slice(2).map(Number);
const random = numbers(seed);
const chance = (part) => random() < part;
const below = (bound) => Math.floor(random() * bound);
const pick = (...choices) => choices[below(choices.length)];

const key = () => pick("a", "a", "a", "b", "__proto__");
const epoch = () => pick("e1", "e1", "e1", "e2");
const value = () => pick(below(3), `${below(3)}`, null, true, [], {}, { x: below(3) }, { x: { y: below(2) }, z: null }, { z: [below(2)], x: 1 });

/** What an update makes of a value: `increment` in the vectors. It fails for what is no number. */
function increment(found) {
  if (typeof (found ?? 0) !== "number") throw new Error("no number");
  return (found ?? 0) + 1;
}

function history() {
  const machine = createStateMachine("board:1", () => 0.5);
  let now = 0;
  let offset = 0;
  /** Changes that were sent. */
  const sent = [];
  const updates = () => Array.from({ length: 1 + below(3) }, () => ({
    channel: "board:1",
    offset: offset += 1 + below(2),
    key: key(),
    ...(chance(0.3) ? { removed: true } : { data: value() }),
    ...(chance(0.2) ? { top: offset + below(4) } : {}),
    ...(chance(0.1) ? { conflict: { resolution: "merge", conflictedChanges: [] } } : {}),
  }));
  const details = () => ({ epoch: epoch(), key: "a", version: below(20), ...pick({ removed: true }, { data: value() }, {}) });
  const answer = () => pick(
    [true, { epoch: epoch(), offset: offset + below(4), ...(chance(0.2) ? { resolved: true } : {}) }],
    [true, { epoch: epoch(), offset: offset + below(4) }],
    [false, { code: "state_conflict", message: "no", details: details() }],
    [false, { code: pick("outcome_unknown", "answer_lost", "not_allowed"), message: "no", details: null }],
  );
  const inputs = [
    [10, () => ["updates", updates()]],
    [1, () => ["gap", { reason: "reset", epoch: epoch(), from: offset, to: (offset = 0), top: below(6) }]],
    [1, () => ["gap", { reason: "turn", epoch: epoch(), from: offset, to: offset }]],
    [1, () => ["begun", { position: { epoch: epoch(), offset }, top: offset + below(4), state: true, recovered: true }]],
    [6, () => ["call", "set", key(), value()]],
    [4, () => ["call", "patch", key(), pick({ x: below(3) }, { z: null, y: {} }, JSON.parse('{"__proto__": {"a": null, "b": 1}}'))]],
    [3, () => ["call", "delete", key()]],
    [6, () => ["call", "update", key(), "increment"]],
    [12, () => ["settled", sent.length ? sent.splice(below(sent.length), 1)[0] : 0, ...answer()]],
    [4, () => ["tick"]],
  ].flatMap(([weight, make]) => Array(weight).fill(make));
  const steps = [];
  for (let turn = 0; turn < 80; turn += 1) {
    now += chance(0.8) ? below(100) : below(4000);
    let input = pick(...inputs)();
    if (turn === 0) input = ["begun", { position: { epoch: "e1", offset: 0 }, top: below(3), state: true }];
    if (turn === 75 && chance(0.5)) input = ["ended", { reason: "over" }];
    if (input[0] === "tick" && machine.deadline < Infinity) now = Math.max(now, machine.deadline);
    const [name, ...given] = input;
    if (given[1] !== undefined && given[0] === "update") given[2] = increment;
    let returns = null;
    try {
      returns = machine[name](now, ...given) ?? null;
    } catch (error) {
      returns = "raised";
    }
    const expect = machine.actions.splice(0).map(([action, ...values]) => {
      if (action === "request") sent.push(values[0]);
      if (action === "reject" && values[1].details === undefined) values[1] = values[1] instanceof Error ? "raised" : { ...values[1], details: null };
      return [action, ...values];
    });
    steps.push({ at: now, do: input, returns, expect, deadline: machine.deadline < Infinity ? machine.deadline : null, whole: machine.whole });
  }
  return { steps };
}

process.stdout.write(JSON.stringify(Array.from({ length: count }, history)));
