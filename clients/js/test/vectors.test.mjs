// The machine against clients/vectors, which the machine of the Python client passes, too.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { createMachine } from "../umbel.js";

const FOLDER = new URL("../../vectors/", import.meta.url);
const VECTORS = readdirSync(FOLDER).filter((name) => name.endsWith(".json")).sort();

/** Names of the vectors as they are in this language. What applications and servers say is not renamed. */
const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const renamed = (fields) => Object.fromEntries(Object.entries(fields).map(([name, value]) => [camel(name), value]));

/** An action as the vectors have it: messages as values, and warnings without their texts. */
function plain([name, ...values]) {
  if (name === "warn") return ["warn"];
  if (name === "send") return ["send", values[0], JSON.parse(values[1])];
  return JSON.parse(JSON.stringify([name, ...values]));
}

function expected([name, ...values]) {
  return name === "state" ? ["state", values[0], renamed(values[1])] : [camel(name), ...values];
}

function play({ options, random, steps }) {
  const values = Array.isArray(random) ? random.values() : null;
  const machine = createMachine(renamed(options), () => (values ? values.next().value : random));
  for (const [index, { at, do: [name, ...given], returns, expect, deadline }] of steps.entries()) {
    const where = `step ${index + 1}: ${JSON.stringify([name, ...given])}`;
    if (name === "received" && typeof given[1] !== "string") given[1] = JSON.stringify(given[1]);
    const returned = machine[camel(name)](at, ...given);
    assert.deepEqual(machine.actions.splice(0).map(plain), expect.map(expected), where);
    assert.equal(returned ?? null, returns ?? null, where);
    assert.equal(machine.deadline, deadline ?? Infinity, where);
  }
}

test("there are vectors", () => assert.ok(VECTORS.length));

for (const name of VECTORS) {
  const vector = JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));
  test(`${name}: ${vector.about}`, () => play(vector));
}

test("a wrong vector is noticed", () => {
  const vector = JSON.parse(readFileSync(new URL(VECTORS[0], FOLDER), "utf8"));
  vector.steps.at(-1).expect.push(["open", 9]);
  assert.throws(() => play(vector), /step/);
});
