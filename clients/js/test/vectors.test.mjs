// The machine against clients/vectors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { camel, check, machineOf, read, VECTORS } from "./vectors.mjs";

function play(vector) {
  const machine = machineOf(vector);
  for (const [index, step] of vector.steps.entries()) {
    const { at, do: [name, ...given] } = step;
    if (name === "received" && typeof given[1] !== "string") given[1] = JSON.stringify(given[1]);
    check(machine, step, machine[camel(name)](at, ...given), `step ${index + 1}: ${JSON.stringify(step.do)}`);
  }
}

test("there are vectors", () => assert.ok(VECTORS.length));

for (const name of VECTORS) {
  const vector = read(name);
  test(`${name}: ${vector.about}`, () => play(vector));
}

test("a wrong vector is noticed", () => {
  const vector = read(VECTORS[0]);
  vector.steps.at(-1).expect.push(["open", 9]);
  assert.throws(() => play(vector), /step/);
});
