// Shared state: patches against clients/vectors/merge_patch.json.

import assert from "node:assert/strict";
import { test } from "node:test";
import { mergePatch } from "../state.js";
import { read } from "./vectors.mjs";

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
