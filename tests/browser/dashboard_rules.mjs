// The rules of the dashboard without a browser: what it concludes from snapshots, how it reads their stream, and how it writes numbers.
//
//     node --test dashboard_rules.mjs        (test_dashboard.py does so)

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BOUNDS, snapshot } from "./dashboard_snapshots.mjs";
import { judge, settle } from "../../python/umbel/_serving/dashboard/answers.js";
import { events } from "../../python/umbel/_serving/dashboard/feed.js";
import { History, SPAN } from "../../python/umbel/_serving/dashboard/history.js";
import { bytes, name, short, span } from "../../python/umbel/_serving/dashboard/text.js";

/** What is judged after some quiet seconds and one that is changed. */
function after(change, quiet = 3) {
  const history = new History();
  for (let second = 0; second < quiet; second += 1) history.add(snapshot(second));
  const last = snapshot(quiet);
  change(last);
  history.add(last);
  return { history, answers: judge(history.view()) };
}

/** The bucket up to 131 ms. */
const LATE = BOUNDS.findIndex((bound) => bound > 128);

const levels = ({ answers }) => Object.fromEntries(Object.entries(answers).map(([question, { level }]) => [question, level]));
const CALM = { slow: "good", lost: "good", fault: "good" };

test("a calm server: nobody, nothing, neither", () => {
  const { answers } = after(() => {});
  assert.deepEqual(Object.values(answers).map(({ verdict }) => verdict), ["Nobody.", "Nothing.", "Neither."]);
  assert.match(answers.slow.detail, /^99 % of what is delivered is written within 16 ms/);
});

test("the first snapshot alone is judged, too", () => {
  assert.deepEqual(levels(after(() => {}, 0)), CALM);
});

test("where nothing is lost now, what was lost before is there", () => {
  const before = (change) => after(change, 0).answers.lost;
  assert.match(before(() => {}).detail, /Nor since the start\.$/);
  const found = before((it) => Object.assign(it, { closed: { not_reading: 5, done: 7 }, refused: { full: 2, path: 9 } }));
  assert.equal(found.verdict, "Nothing.");
  assert.match(found.detail, /Since the start .* ago: 2 × full \(max_connections\); 5 × not_reading \(write_timeout\)\.$/);
});

test("what is missing in a snapshot is no fault", () => {
  const history = new History();
  for (const uptimeSeconds of [1, 2]) history.add({ pid: 1, started: 0, uptimeSeconds, connections: 2 });
  assert.deepEqual(levels({ answers: judge(history.view()) }), CALM);
});

test("Python is blocked: with events that wait, and without", () => {
  for (const python of [{ queueEvents: 120, queueAge: 700 }, { queueEvents: 0, queueAge: 0, silent: 600 }]) {
    const found = after((it) => Object.assign(it.python, python));
    assert.deepEqual(levels(found), { ...CALM, fault: "bad" });
    assert.equal(found.answers.fault.verdict, "Python: it is blocked.");
  }
  assert.match(after((it) => Object.assign(it.python, { queueEvents: 120, queueAge: 4200 })).answers.fault.detail, /nothing for 4\.2 s\. 120 events wait/);
});

test("Python that is too slow, and the function that takes its time", () => {
  const { answers } = after((it) => {
    it.python.busySeconds += 3.9;
    it.python.slowest = [{ name: "look", calls: 1000, seconds: 0.5, max: 2 }, { name: "pay", calls: 100, seconds: 3.5, max: 400 }];
  });
  assert.equal(answers.fault.verdict, "Python: it does not keep up.");
  assert.match(answers.fault.detail, /Most of it in pay: 35 ms a call, at most 400 ms\./);
});

test("Umbel at its limit is told from a processor that it does not get", () => {
  const late = (it) => { it.tickLag.counts[LATE] += 1000; };
  const atLimit = after((it) => { late(it); it.shards[1].busy += 3.9; });
  assert.deepEqual([atLimit.answers.fault.level, atLimit.answers.fault.verdict], ["bad", "Umbel: it is at its limit."]);
  assert.match(atLimit.answers.fault.detail, /^Shard 1 is busy/);
  assert.equal(after(late).answers.fault.verdict, "Umbel: it does not get the processor.");
});

test("a shard that does not answer", () => {
  const { answers } = after((it) => { it.shards[1].silent = 3000; });
  assert.deepEqual([answers.fault.level, answers.fault.detail.slice(0, 33)], ["bad", "Shard 1 has not answered for 3 s:"]);
  const draining = (connections) => after((it) => { it.draining = true; Object.assign(it.shards[1], { silent: 3000, connections }); });
  assert.deepEqual(levels(draining(0)), CALM, "it has nothing more to do");
  assert.deepEqual(levels(draining(1)), { ...CALM, fault: "bad" });
});

test("a limit that is near is named with its setting", () => {
  const { answers } = after((it) => { it.connections = 19_500; });
  assert.deepEqual([answers.fault.level, answers.fault.detail], ["warn", "Connections: 19,500 of 20,000 (max_connections)."]);
});

test("slow readers: some, and the farthest of them", () => {
  const slow = [{ client: "c1", subject: "ann", channel: "prices", channels: 1, lag: 12, age: 1200, stalled: 0, buffered: 1 }, { client: "c2", subject: null, channel: "news", channels: 3, lag: 900, age: null, stalled: 4200, buffered: 1 }];
  const { answers } = after((it) => { it.slow = [...slow, { ...slow[0], age: 100 }]; it.blocked = 2; });
  assert.equal(answers.slow.verdict, "Some readers are slow.");
  assert.equal(answers.slow.detail, "2 of 1,000 connections. Farthest behind: client c2 in news, by 900 publications and 4.2 s.");
  assert.equal(answers.fault.level, "good", "their networks are not ours");
  const most = after((it) => { it.slow = slow; it.blocked = 400; });
  assert.deepEqual([most.answers.slow.level, most.answers.slow.detail.slice(0, 12)], ["bad", "400 of 1,000"]);
});

test("when half of all deliveries are late, all readers wait", () => {
  const { answers } = after((it) => { it.lateness.counts[LATE + 3] += 200_000; });
  assert.deepEqual([answers.slow.level, answers.slow.verdict], ["bad", "All readers wait."]);
});

test("losses of the last minute have their reasons; those before are told, too", () => {
  const { history, answers } = after((it) => { it.gaps.overrun += 2; it.gaps.burst += 1; it.lost += 412; });
  assert.deepEqual(levels({ answers }), { ...CALM, lost: "bad" });
  assert.match(answers.lost.detail, /412 in 3 gaps, once for each client: 2 × overrun \(.+\); 1 × burst/);
  for (let second = 4; second < 70; second += 1) {
    const next = snapshot(second);
    next.gaps.overrun += 2; next.gaps.burst += 1; next.lost += 412;
    history.add(next);
  }
  const later = judge(history.view()).lost;
  assert.equal(later.verdict, "Nothing.");
  assert.match(later.detail, /Before, in the last 69 s: 412 in 3 gaps\./);
});

test("losses before the page was opened are told", () => {
  const { answers } = after((it) => { it.gaps.epoch = 5; it.lost = 0; }, 0);
  assert.match(answers.lost.detail, /Since the start .* ago: 0 publications in 5 gaps\./);
});

test("clients turned away by a limit are a loss; strangers are not", () => {
  assert.equal(after((it) => { it.refused.full = 9; }).answers.lost.verdict, "New clients: they are turned away.");
  assert.equal(after((it) => { it.refused.not_found = 900; it.refused.unauthenticated += 900; }).answers.lost.level, "good");
});

test("clients that were closed because they read too slowly are a loss", () => {
  const { answers } = after((it) => { it.closed.not_reading = 5; it.closed.too_far_behind = 7; it.closed.held_too_long = 4; it.closed.client += 100; });
  assert.deepEqual([answers.lost.level, answers.lost.verdict], ["warn", "Slow connections."]);
  assert.match(answers.lost.detail, /closed: 7 × too_far_behind \(.+\); 5 × not_reading \(write_timeout\); 4 × held_too_long \(max_held_bytes\)\./);
});

test("panics, histories without room, and lost lines of the log", () => {
  assert.equal(after((it) => { it.panics = 1; }).answers.lost.level, "bad");
  assert.equal(after((it) => { it.trimmed = 100; }).answers.lost.verdict, "Histories, for want of memory.");
  assert.equal(after((it) => { it.logLinesDropped = 100; }).answers.lost.verdict, "Lines of the log.");
});

test("a verdict gets worse at once, and better after a while", () => {
  const [fine, blocked] = [{ level: "good", verdict: "Neither.", detail: "" }, { level: "bad", verdict: "Python: it is blocked.", detail: "For 2 s." }];
  let shown = settle(undefined, fine, 10);
  shown = settle(shown, blocked, 11);
  assert.deepEqual([shown.verdict, shown.since], [blocked.verdict, 11]);
  shown = settle(settle(shown, { ...blocked, detail: "For 3 s." }, 12), fine, 13);
  assert.deepEqual([shown.verdict, shown.detail, shown.since], [blocked.verdict, "Until a moment ago: For 3 s.", 11]);
  shown = settle(shown, fine, 14);
  assert.equal(shown.detail, "Until a moment ago: For 3 s.");
  assert.deepEqual([settle(shown, fine, 17).verdict, settle(shown, fine, 17).since], ["Neither.", 17]);
});

test("the documentation has every verdict", () => {
  const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
  const verdicts = [...read("python/umbel/_serving/dashboard/answers.js").matchAll(/\b(?:good|warn|bad|say)\)?\("([^"]+)"/g)].map(([, verdict]) => verdict);
  const documented = read("docs/operating.md").match(/^\| [A-Z][^|]*\. \|/gm).map((line) => line.slice(2, -2));
  assert.deepEqual(documented.sort(), [...new Set(verdicts)].sort());
});

test("rates and quantiles come from differences", () => {
  const { history } = after((it) => { it.publications += 950; });
  const last = (column) => history.columns[column].at(-1);
  assert.equal(last("publications"), 1000);
  assert.equal(last("ratio"), 4);
  assert.equal(last("late99").toFixed(9), (BOUNDS[5] + 0.95 * (BOUNDS[6] - BOUNDS[5])).toFixed(9), "of 50,000 the last 10,000 are in the bucket up to 16 ms");
  assert.equal(history.columns.publications[0], null, "nobody knows what was before the first");
});

test("five minutes are kept, and a hole where the server was not heard", () => {
  const history = new History();
  for (let second = 0; second < SPAN + 50; second += 1) history.add(snapshot(second));
  assert.equal(history.at.length, SPAN + 1);
  history.hole();
  history.add(snapshot(SPAN + 60));
  assert.equal(history.columns.delivered.at(-2), null);
  assert.equal(Math.round(history.columns.publications.at(-1)), 50, "the mean of the time in between");
  assert.ok(history.at.every((moment, index) => !index || moment > history.at[index - 1]));
  assert.ok(history.at.at(-1) - history.at[0] <= SPAN);
  history.add(snapshot(SPAN + 60));
  assert.equal(history.at.at(-2), history.at.at(-1) - 10.5, "the same snapshot twice is one");
});

test("the stream is read whatever pieces it comes in", () => {
  const text = 'data: {"a": 1}\n\n: a comment\n\ndata:{"b": "ü"}\n\nevent: x\ndata: 3\n\n';
  for (const size of [1, 2, 7, text.length]) {
    const found = [];
    const take = events((data) => found.push(data));
    for (let at = 0; at < text.length; at += size) take(text.slice(at, at + size));
    assert.deepEqual(found, ['{"a": 1}', '{"b": "ü"}', "3"]);
  }
  const take = events(() => {});
  assert.throws(() => { for (;;) take("data: never ends ".repeat(10_000)); }, /without an end/);
});

test("numbers are written as people read them", () => {
  assert.deepEqual([0, 3.44, 99.96, 512, 12_345, 4_560_000, null, NaN].map(short), ["0", "3.44", "100", "512", "12.3k", "4.56M", "–", "–"]);
  assert.deepEqual([0.016, 9.96, 999.6, 4200, 99_600, 3_700_000, 273_600_000].map(span), ["0 ms", "10 ms", "1 s", "4.2 s", "1 min 39 s", "1 h 1 min", "3 d 4 h"]);
  assert.deepEqual([12, 1500, 99_600, 1e9].map(bytes), ["12 B", "1.5 kB", "99.6 kB", "1 GB"]);
});

test("a name is cut, and shows what would not be seen", () => {
  assert.equal(name("a\u202eb\u0000c\u2028\ud800"), "a\\u202eb\\u0000c\\u2028\\ud800");
  assert.equal(name("x".repeat(65_536)), `${"x".repeat(128)}…`);
  assert.equal(name(undefined), "–");
  assert.equal(name("<img>"), "<img>");
});
