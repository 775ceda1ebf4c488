// The dashboard's page in Chromium, fed by a server that sends what a test wants.
//
//     node --test dashboard.mjs        (test_dashboard.py does so; CHROMIUM names the browser, PICTURES a folder for pictures)

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { freePort, Served } from "../../clients/js/test/place.mjs";
import { Fixture } from "./dashboard_server.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
let profile;

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "umbel-dashboard-"));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
  });
  browser.setDefaultTimeout(20_000);
});
after(async () => {
  await browser?.close();
  await rm(profile, { recursive: true, force: true });
});
/**
 * A page, and the server that feeds it unless it is another one. `prepare` gets the server before it is asked. What the page complains about
 * fails the test, but for what is `expected`.
 */
async function begin(t, { expected = /^$/, width = 1440, url = null, prepare = () => {} } = {}) {
  const server = new Fixture();
  prepare(server);
  await server.start();
  const page = await browser.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
  t.after(async () => {
    const violations = await page.evaluate(() => globalThis.violations);
    await page.close();
    await server.stop();
    assert.deepEqual(violations, []);
    assert.deepEqual(complaints.filter((text) => !expected.test(text)), []);
  });
  await page.addInitScript(watch);
  await page.setViewportSize({ width, height: 900 });
  await page.goto(url ?? server.url);
  return { page, server };
}

/** Runs in the page before its scripts. */
function watch() {
  globalThis.violations = [];
  globalThis.drawn = 0;
  document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => globalThis.violations.push(`${violatedDirective} ${blockedURI}`));
  const { clearRect } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.clearRect = function (...where) { globalThis.drawn += 1; return clearRect.apply(this, where); };
}

const verdict = (page, question) => page.locator(`#${question} .verdict`);

/** Waits until the snapshot of this uptime is drawn, but for its plots. */
const reached = (page, uptime) => page.locator("#process div:nth-child(3) dd").filter({ hasText: new RegExp(`^${uptime}$`) }).waitFor();

/** Waits until the last of the plots shows so much time. */
const plotted = (page, time) => page.locator("#plots .unseen").last().filter({ hasText: `last ${time}:` }).waitFor({ state: "attached" });

/** Waits until an answer is there. */
const says = (page, question, text) => verdict(page, question).filter({ hasText: text }).waitFor();

const rows = (page, table) => page.locator(`#${table} tbody tr`).evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));

async function picture(page, name) {
  if (process.env.PICTURES) await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true });
}

/** What axe-core finds. */
async function defects(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
}

const trouble = (it) => {
  it.gaps.overrun = 3; it.gaps.burst = 1; it.lost = 412;
  it.blocked = 2;
  it.python = { ...it.python, queueEvents: 120, queueAge: 4200 };
  it.slow = [
    { client: "51c8a4e09d1b7f23", subject: "ann", channel: "prices", channels: 1, lag: 1204, age: 4200, stalled: 3900, buffered: 131_072 },
    { client: "9f2c66a1b0de5511", subject: null, channel: "news", channels: 3, lag: 80, age: 1300, stalled: 0, buffered: 4000 },
  ];
};

// They wait for clocks more than they work.
describe("the page", { concurrency: 3 }, () => {
  test("a calm server: three answers, plots, tables, and a look back", async (t) => {
    const { page, server } = await begin(t);
    await says(page, "slow", "Nobody.");
    await says(page, "lost", "Nothing.");
    await says(page, "fault", "Neither.");
    await server.send(3);
    await reached(page, "4 s");
    await plotted(page, "3 s");
    assert.deepEqual((await rows(page, "channels"))[0], ["ch:0", "1,000", "50", "60 kB"]);
    assert.deepEqual((await rows(page, "shards"))[1], ["1", "500", "25k", "25k", "500 kB", "22 %", "2 ms"]);
    assert.deepEqual((await rows(page, "functions"))[0].slice(0, 3), ["pay", "40", "10 ms"]);
    assert.deepEqual(await rows(page, "slowest"), [["Nobody is behind."]]);
    const plots = await page.getByRole("img").evaluateAll((all) => all.map((it) => document.getElementById(it.getAttribute("aria-labelledby"))?.textContent ?? ""));
    assert.equal(plots.length, 10);
    assert.ok(plots.includes("Connections and sessions, last 3 s: open now 1,000, from 1,000 to 1,000; sessions away now 12, from 12 to 12; not reading now 0, from 0 to 0."), plots.join("\n"));
    assert.equal(await page.title(), "Umbel");

    // Somebody looks back with the keyboard.
    server.change = (it) => { it.connections = it.uptimeSeconds; };
    await server.send(10);
    const value = page.locator("#plots .legend b").first();
    await value.filter({ hasText: /^14$/ }).waitFor();
    await page.getByLabel("Look back").focus();
    for (let step = 0; step < 7; step += 1) await page.keyboard.press("ArrowLeft");
    assert.equal(await value.textContent(), "7");
    assert.match(await page.getByLabel("Look back").getAttribute("aria-valuetext"), /, 7 s ago$/);
    await page.keyboard.press("End");
    assert.equal(await value.textContent(), "14");
  });

  test("in trouble the answers say it, and only what changes is read aloud", async (t) => {
    const { page, server } = await begin(t);
    await says(page, "fault", "Neither.");
    await page.evaluate(() => {
      globalThis.heard = [];
      for (const place of document.querySelectorAll("[aria-live]")) {
        new MutationObserver(() => globalThis.heard.push(place.textContent)).observe(place, { subtree: true, childList: true, characterData: true });
      }
    });
    server.change = trouble;
    await server.send(3, 50);
    await says(page, "slow", "Some readers are slow.");
    await says(page, "lost", "Publications.");
    await says(page, "fault", "Python: it is blocked.");
    assert.match(await page.locator("#fault .detail").textContent(), /4\.2 s\. 120 events wait\./);
    assert.match(await page.locator("#slow .detail").textContent(), /ann \(client 51c8a4e09d1b7f23\) in prices, by 1,204 publications and 4\.2 s/);
    assert.equal(await page.title(), "✕ Python: it is blocked · Umbel");
    assert.deepEqual((await rows(page, "slowest"))[1], ["9f2c66a1b0de5511", "–", "news and 2 others", "80", "1.3 s", "0 ms", "4 kB"]);
    await server.send(5, 50);
    const heard = await page.evaluate(() => globalThis.heard);
    assert.deepEqual(heard.sort(), ["Is it us or Python?Python: it is blocked.", "What is lost?Publications.", "Who is slow?Some readers are slow."]);
  });

  test("names are text, whatever is in them", async (t) => {
    const hostile = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "a\u202eb", "x".repeat(65_536)];
    const change = (it) => {
      it.channels = hostile.map((name) => ({ name, readers: 1, published: 1, bytes: 1 }));
      it.slow = hostile.map((name) => ({ client: name, subject: name, channel: name, channels: 1, lag: 1, age: 2000, stalled: 0, buffered: 1 }));
      it.python.slowest = hostile.map((name) => ({ name, calls: 1, seconds: 1, max: 1 }));
      it.closed = Object.fromEntries(hostile.map((name) => [name, 1]));
    };
    const { page } = await begin(t, { width: 360, prepare: (server) => { server.change = change; } });
    await says(page, "slow", "Some readers are slow.");
    const shown = [hostile[0], hostile[1], "a\\u202eb", `${"x".repeat(128)}…`];
    for (const [table, column] of [["channels", 0], ["slowest", 0], ["slowest", 1], ["slowest", 2], ["functions", 0]]) {
      assert.deepEqual((await rows(page, table)).map((cells) => cells[column]).sort(), shown.toSorted(), table);
    }
    assert.equal(await page.evaluate(() => document.querySelectorAll("main img, main script").length), 0);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  });

  test("a token is asked for, and never tried twice", async (t) => {
    const { page, server } = await begin(t, { expected: /401/, prepare: (server) => { server.token = "right"; } });
    const field = page.getByLabel("admin_token");
    await field.waitFor();
    assert.equal(await page.locator("#content").isVisible(), false);
    for (const wrong of ["wrong", "no token at all: ü"]) {
      await field.fill(wrong);
      await page.keyboard.press("Enter");
      await page.getByText("This token is not the right one.").waitFor();
      assert.equal(await field.inputValue(), "");
    }
    // A page that asks again does so after a second.
    await page.waitForTimeout(1500);
    assert.deepEqual(server.asked, [null, "Bearer wrong"]);
    assert.deepEqual(await defects(page), []);
    await field.fill("right");
    await page.keyboard.press("Enter");
    await says(page, "fault", "Neither.");
    assert.equal(await field.isVisible(), false);
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href.includes("right")]), [0, 0, "", false]);
    await page.reload();
    await field.waitFor();
  });

  test("a server that is gone is asked again, and one that has restarted is told", async (t) => {
    const { page, server } = await begin(t, { expected: /ERR_/ });
    await server.send(4);
    await says(page, "fault", "Neither.");
    await server.stop();
    await page.getByText(/^Not reachable since \d\d:\d\d:\d\d$/).waitFor();
    assert.match(await page.title(), /^✕ Not reachable/);
    await server.start();
    await page.getByText("Live", { exact: true }).waitFor();
    assert.equal(await page.locator("#notice").textContent(), "");
    // The same server: its plots go on.
    await plotted(page, "5 s");
    server.life = { pid: 34, started: server.life.started + 60_000 };
    server.second = 0;
    await server.stop();
    await server.start();
    await page.getByText(/The server has started again, at .+: process 12 is now 34\. The plots begin anew\./).waitFor();
    await server.send(2);
    await plotted(page, "2 s");
    assert.equal(await page.title(), "Umbel");
  });

  test("hidden, the page draws nothing and forgets nothing", async (t) => {
    const { page, server } = await begin(t);
    await says(page, "fault", "Neither.");
    const hide = (isHidden) => page.evaluate((isHidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
      document.dispatchEvent(new Event("visibilitychange"));
      return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(globalThis.drawn))));
    }, isHidden);
    const before = await hide(true);
    server.change = trouble;
    await server.send(5, 20);
    await page.waitForFunction(() => document.title.includes("blocked"));
    assert.equal(await page.evaluate(() => globalThis.drawn), before);
    await hide(false);
    await says(page, "fault", "blocked");
    await plotted(page, "5 s");
    assert.ok(await page.evaluate(() => globalThis.drawn) > before);
    // Who wants no motion sees plots that move each five seconds. When the second figures are there, the plots of the first would be, too.
    await page.emulateMedia({ reducedMotion: "reduce" });
    for (const uptime of ["7 s", "8 s"]) {
      await server.send(1);
      await reached(page, uptime);
    }
    await plotted(page, "5 s");
  });

  test("a real server tells that Python is blocked while it is, and that it has restarted", async (t) => {
    const [port, admin, standstill] = [await freePort(), await freePort(), join(profile, "standstill")];
    const served = await new Served(port, fileURLToPath(new URL("dashboard_served.py", import.meta.url)), String(port), String(admin), standstill).start();
    t.after(() => served.stop());
    const reader = await fetch(`http://127.0.0.1:${port}/api/v1/stream/ticks`);
    const { page } = await begin(t, { expected: /ERR_/, url: `http://127.0.0.1:${admin}/dashboard` });
    await page.waitForFunction(() => /^ticks1[1-9]/.test(document.querySelector("#channels tbody tr")?.textContent));
    await writeFile(standstill, "");
    await says(page, "fault", "Python: it is blocked.");
    await rm(standstill);
    await reader.body.cancel();
    await served.stop();
    await page.getByText(/^Not reachable since/).waitFor();
    await served.start();
    await page.getByText(`is now ${served.process.pid}. The plots begin anew.`).waitFor();
  });
});

test("the page fits and is accessible, wide and on a phone, light and dark, calm and in trouble", async (t) => {
  const { page, server } = await begin(t);
  for (const [width, scheme, name, change] of [[1440, "light", "calm", () => {}], [360, "dark", "trouble", trouble]]) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: scheme });
    // What is wrong in one row is so in all, and axe-core takes its time for each.
    server.change = (it) => { change(it); it.channels.length = 3; };
    await server.send(3);
    await says(page, "fault", name === "calm" ? "Neither." : "blocked");
    await plotted(page, name === "calm" ? "3 s" : "6 s");
    assert.deepEqual(await defects(page), []);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${overflow} pixels wider than the window`);
    await picture(page, `${name}-${width}-${scheme}`);
  }
});

test("a thousand snapshots leave nothing behind, and none takes long", async (t) => {
  const { page, server } = await begin(t);
  const developer = await page.context().newCDPSession(page);
  await developer.send("Performance.enable", { timeDomain: "threadTicks" });
  const heap = async () => {
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    await developer.send("HeapProfiler.collectGarbage");
    return (await developer.send("Runtime.getHeapUsage")).usedSize;
  };
  // First all that is kept is full, and the code compiled.
  await server.send(1000);
  await reached(page, "16 min 41 s");
  const before = await heap();
  await server.send(1000);
  await reached(page, "33 min 21 s");
  const grown = (await heap()) - before;
  assert.ok(grown < 0.1 * before, `${grown} bytes more than ${before}`);
  // The time of the page's thread, and not of the clock: the machine may do other things. All that a snapshot takes is less than what one
  // task may take, which is 50 ms.
  const spent = async () => 1000 * (await developer.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value;
  const costs = [];
  for (let second = 22; second < 33; second += 1) {
    const begun = await spent();
    await server.send(1);
    await reached(page, `33 min ${second} s`);
    costs.push((await spent()) - begun);
  }
  assert.ok(costs.sort((one, other) => one - other)[5] < 50, `milliseconds: ${costs.map(Math.round).join(" ")}`);
});
