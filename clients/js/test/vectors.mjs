// clients/vectors, which the machine of the Python client passes, too.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createMachine } from "../umbel.js";

export const FOLDER = new URL("../../vectors/", import.meta.url);
/** Those of the machine. */
export const VECTORS = readdirSync(FOLDER).filter((name) => name.endsWith(".json") && name !== "merge_patch.json").sort();

export const read = (name) => JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));

/** Names of the vectors as they are in this language. What applications and servers say is not renamed. */
export const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
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

export function machineOf({ options, random }) {
  const values = Array.isArray(random) ? random.values() : null;
  return createMachine(renamed(options), () => (values ? values.next().value : random));
}

/** Compares what a machine wants after a step. Returns its actions. */
export function check(machine, { returns, expect, deadline }, returned, where) {
  const actions = machine.actions.splice(0);
  assert.deepEqual(actions.map(plain), expect.map(expected), where);
  assert.equal(returned ?? null, returns ?? null, where);
  assert.equal(machine.deadline, deadline ?? Infinity, where);
  return actions;
}
