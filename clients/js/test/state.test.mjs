// Shared state: the machine against clients/vectors/state, and patches against clients/vectors/merge_patch.json.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { createStateMachine, mergePatch } from "../state.js";
import { FOLDER, read } from "./vectors.mjs";

/** The functions of updates in the vectors. */
const FUNCTIONS = { increment: (value) => (value ?? 0) + inNumbers(value) };

/** 1. In Python, a text and a number have no sum. */
function inNumbers(value) {
  if (typeof value === "string") throw new Error("no number");
  return 1;
}

/** An action as the vectors have it. */
const plain = ([name, ...values]) => JSON.parse(JSON.stringify([name, ...values.map((value) => (value instanceof Error ? "raised" : value))]));

/** Errors without details have none here, and null there. */
const told = (action) => (action[2]?.details === null ? [action[0], action[1], { ...action[2], details: undefined }] : action);

function play(vector) {
  const machine = createStateMachine("board:1", () => 0.5);
  for (const [index, { at, do: [name, ...given], returns, expect, deadline, whole }] of vector.steps.entries()) {
    const where = `step ${index + 1}`;
    if (given[0] === "update") given[2] = FUNCTIONS[given[2]];
    const returned = machine[name](at, ...given);
    assert.deepEqual(machine.actions.splice(0).map(told).map(plain), expect.map(told).map(plain), where);
    assert.equal(returned, returns, where);
    assert.equal(machine.deadline, deadline ?? Infinity, where);
    assert.equal(machine.whole, whole, where);
  }
}

const NAMES = readdirSync(new URL("state/", FOLDER)).sort();

test("there are vectors", () => assert.ok(NAMES.length > 20));

for (const name of NAMES) {
  const vector = read(`state/${name}`);
  test(`${name}: ${vector.about}`, () => play(vector));
}

test("a wrong vector is noticed", () => {
  const vector = read(`state/${NAMES[0]}`);
  vector.steps.at(-1).expect.push(["leave"]);
  assert.throws(() => play(vector), /step/);
});

for (const { name, target, patch, result } of read("merge_patch.json")) {
  test(`a patch: ${name}`, () => {
    const before = JSON.stringify([target, patch]);
    assert.deepEqual(mergePatch(target, patch), result);
    assert.equal(JSON.stringify([target, patch]), before, "what was merged is as it was");
  });
}

test("a patch changes no prototype", () => {
  mergePatch({}, JSON.parse('{"__proto__": {"admin": true}, "constructor": {"prototype": {"admin": true}}}'));
  assert.equal({}.admin, undefined);
});
