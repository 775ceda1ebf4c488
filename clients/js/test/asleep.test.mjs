// A reader that sleeps while its channel goes on: what it has not read is bounded, and nothing is lost without a word.
// ASLEEP_SECONDS=60 is at the speed of a minute; without it, ten seconds' worth come at once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import WebSocket from "ws";
import { connect } from "../umbel.js";
import { Served, sleep, until } from "./place.mjs";

const SECONDS = Number(process.env.ASLEEP_SECONDS ?? 10);
const PAUSE = process.env.ASLEEP_SECONDS ? 1000 : 0;
const EACH = 1000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

/** Bytes that are in use. */
function held() {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test(`a reader asleep for ${SECONDS} seconds holds less than 16 MiB, and gets what there still is`, { timeout: SECONDS * 2000 + 60_000 }, async (t) => {
  const served = await Served.start();
  const umbel = connect(served.url(), { WebSocket });
  t.after(async () => {
    umbel.close();
    await served.stop();
  });
  const subscription = umbel.subscribe("burst");
  await until(() => subscription.position, "the channel is there");
  const before = held();
  for (let second = 0; second < SECONDS; second += 1) {
    await umbel.request("burst", { channel: "burst", count: EACH, pad: 1024 });
    await sleep(PAUSE);
  }
  const more = (held() - before) / 2 ** 20;
  assert.ok(more < 16, `${more.toFixed(1)} MiB`);

  const top = SECONDS * EACH;
  let [at, read, missed] = [0, 0, 0];
  for await (const { offset, data, gap } of subscription) {
    if (gap) {
      assert.deepEqual([gap.from, gap.reason], [at, "trimmed"]);
      missed += gap.to - at;
      at = gap.to;
    } else {
      assert.deepEqual([offset, data.n], [at + 1, at % EACH]);
      at = offset;
      read += 1;
    }
    if (at === top) break;
  }
  assert.ok(read >= Math.min(top, 5000), `the history has more than ${read}`);
  t.diagnostic(`${more.toFixed(1)} MiB more; ${read} read, ${missed} missed`);
});
