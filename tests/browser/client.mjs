// The JavaScript client in Chromium, in one browser: as every server serves it, and its React hooks.
//
//     node --test client.mjs        (test_client.py does so; CHROMIUM names the browser)

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { Network, numbers, Served, until } from "../../clients/js/test/place.mjs";

const PACKAGE = fileURLToPath(new URL("../../clients/js/", import.meta.url));
const inPackage = createRequire(join(PACKAGE, "package.json"));
const CUTS = Number(process.env.CHAOS_CUTS ?? 60);

let served;
let network;
let context;
let profile;
let bundle;

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "umbel-client-"));
  const file = join(profile, "test.html");
  await writeFile(file, HTML);
  // Pages come from a server, and not from the driver: a page from nowhere may not connect to this machine.
  const pages = { "/test.html": file };
  served = await Served.start({ settings: { heartbeat: 1, reconnect_window: 0.02 }, rate: 100, channels: 2, pages });
  network = await Network.to(served.port);
  context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
  });
  context.setDefaultTimeout(20_000);
  const { buildSync } = inPackage("esbuild");
  const options = {
    bundle: true, write: false, absWorkingDir: PACKAGE, define: { "process.env.NODE_ENV": '"development"' },
    alias: { "umbel/react": "./react.js" }, nodePaths: [join(PACKAGE, "node_modules")],
  };
  const page = fileURLToPath(new URL("react_page.mjs", import.meta.url));
  bundle = buildSync({ ...options, entryPoints: [page], format: "iife" }).outputFiles[0].text;
});
after(async () => {
  await context?.close();
  await network?.close();
  await served?.stop();
  await rm(profile, { recursive: true, force: true });
});

const HTML = '<!doctype html><link rel="icon" href="data:,"><div id="root"></div>';

const http = (path) => `http://127.0.0.1:${served.port}${path}`;

/** A page of the server's origin, or another one. What it complains about fails the test that has opened it. */
async function open(t, url = http("/test.html")) {
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
  t.after(async () => {
    await page.close();
    assert.deepEqual(complaints.filter((text) => !/WebSocket connection to/.test(text)), []);
  });
  await page.goto(url);
  return page;
}

/** What a page sends, by type. */
function wire(page) {
  const sockets = [];
  const batches = [];
  page.on("websocket", (socket) => {
    const sent = [];
    sockets.push(sent);
    socket.on("framereceived", ({ payload }) => {
      const { type, updates } = JSON.parse(payload);
      if (type === "batched_updates") batches.push(updates);
    });
    socket.on("framesent", ({ payload }) => sent.push(JSON.parse(payload)));
  });
  return {
    sockets,
    batches,
    count: (type, ...names) => sockets.flat().filter((message) => message.type === type
      && names.every((name) => message.channel === name || message.channels?.includes(name))).length,
  };
}

// ---- the client

test("a page imports the client from its server", async (t) => {
  const page = await open(t);
  const found = await page.evaluate(async () => {
    const { connect } = await import("/umbel/client.js");
    const umbel = connect();
    const first = umbel.subscribe("page:a")[Symbol.asyncIterator]();
    await umbel.request("counts");
    const place = await umbel.publish("page:a", { n: 1 });
    const { value } = await first.next();
    umbel.close();
    return { place, value, state: umbel.connection.state };
  });
  assert.deepEqual(found.value, { ...found.place, data: { n: 1 } });
  assert.equal(found.state, "closed");
});

test("an isolated page of another origin may, too, and reaches the server of the file", async (t) => {
  const headers = {
    "Content-Type": "text/html", "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin",
  };
  const elsewhere = createServer((_, response) => response.writeHead(200, headers).end(HTML)).listen(0, "localhost");
  await once(elsewhere, "listening");
  t.after(() => elsewhere.close());
  const page = await open(t, `http://localhost:${elsewhere.address().port}/`);
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  const answer = await page.evaluate(async (url) => {
    const { connect } = await import(url);
    const umbel = connect();
    const { offset } = await umbel.publish("page:b", 1);
    umbel.close();
    return [crossOriginIsolated, offset];
  }, http("/umbel/client.js"));
  assert.deepEqual(answer, [true, 1]);
  assert.deepEqual(sockets, [served.url()]);
});

test("a worker has it, too", async (t) => {
  const page = await open(t);
  const program = `
    import { connect } from ${JSON.stringify(http("/umbel/client.js"))};
    const umbel = connect();
    umbel.publish("page:worker", 1).then(({ offset }) => { umbel.close(); postMessage(offset); });
  `;
  const offset = await page.evaluate((source) => new Promise((resolve, reject) => {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  }), program);
  assert.equal(offset, 1);
});

test("two tabs have two sessions, and neither takes the other's", async (t) => {
  const start = () => import("/umbel/client.js").then(async ({ connect }) => {
    globalThis.umbel = connect();
    await umbel.request("counts");
    return umbel.connection.clientId;
  });
  const pages = [await open(t), await open(t)];
  const ids = [await pages[0].evaluate(start), await pages[1].evaluate(start)];
  assert.notEqual(ids[0], ids[1]);
  assert.deepEqual(await Promise.all(pages.map((page) => page.evaluate(() => umbel.connection.state))), ["connected", "connected"]);
});

test("a page comes back from the back/forward cache with what it had", async (t) => {
  const page = await open(t);
  await page.evaluate(async () => {
    const { connect } = await import("/umbel/client.js");
    Object.assign(globalThis, { umbel: connect(), read: [], persisted: null });
    addEventListener("pageshow", (event) => { globalThis.persisted = event.persisted; });
    umbel.subscribe("page:cache", ({ data }) => read.push(data));
    await umbel.publish("page:cache", 1);
  });
  await page.goto(http("/test.html?other"));
  const other = await open(t);
  await other.evaluate(async () => {
    const { connect } = await import("/umbel/client.js");
    const umbel = connect();
    await umbel.publish("page:cache", 2);
    umbel.close();
  });
  await page.goBack({ waitUntil: "commit" });
  await page.waitForFunction(() => globalThis.read?.length === 2);
  const found = await page.evaluate(() => [persisted, read, umbel.connection.resumed]);
  assert.deepEqual(found, [true, [1, 2], true]);
});

test("freezing a page costs no connection", async (t) => {
  const page = await open(t);
  const { sockets } = wire(page);
  await page.evaluate(async () => {
    const { connect } = await import("/umbel/client.js");
    globalThis.umbel = connect(undefined, { probeTimeout: 300, answerTimeout: 300 });
    await umbel.request("counts");
  });
  const session = await context.newCDPSession(page);
  for (let turn = 0; turn < 10; turn += 1) {
    await session.send("Page.setWebLifecycleState", { state: "frozen" });
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    await session.send("Page.setWebLifecycleState", { state: "active" });
    await page.evaluate(() => umbel.request("counts"));
  }
  assert.equal(sockets.length, 1);
});

test(`${CUTS} cuts among 20 clients of a page`, { timeout: 60_000 + CUTS * 300 }, async (t) => {
  const page = await open(t);
  const random = numbers(7);
  let cuts = 0;
  network.onlink = (link) => {
    if (cuts >= CUTS) return;
    if (random() < 0.1) setTimeout(() => link.stall(), random() * 400);
    else link.left = Math.floor(random() * (random() < 0.3 ? 1200 : 40_000));
    link.near.on("close", () => { cuts += 1; });
  };
  await page.evaluate(async (url) => {
    const { connect } = await import("/umbel/client.js");
    const quick = { window: 20, base: 20, cap: 200, attempts: 1000, attemptTimeout: 1500, answerTimeout: 600, fallback: false };
    globalThis.wrong = [];
    globalThis.clients = Array.from({ length: 20 }, (_, index) => {
      const umbel = connect(url, quick);
      let expected = 0;
      umbel.subscribe(`numbers:${index % 2}`, {
        onUpdate({ offset, data }) {
          if (data.n !== offset || (expected && offset !== expected)) wrong.push([index, expected, offset, data.n]);
          expected = offset + 1;
        },
        onGap(gap) { wrong.push([index, gap]); },
      });
      return umbel;
    });
  }, network.url());
  await until(() => cuts >= CUTS, `${CUTS} cuts`, 30_000 + CUTS * 250);
  network.onlink = () => {};
  network.cut();
  await page.waitForFunction(() => clients.every(({ connection }) => connection.state === "connected"));
  t.diagnostic(`${cuts} cuts`);
  assert.deepEqual(await page.evaluate(() => wrong), []);
  assert.equal(await page.evaluate(() => Promise.all(clients.map((umbel) => umbel.request("counts")))).then((all) => all.length), 20);
});

// ---- the examples

test("the chat shows what everybody says, with names and times of the server", async (t) => {
  const example = await Served.example("chatroom");
  t.after(() => example.stop());
  const pages = [];
  for (const name of ["ann", "bob"]) {
    const page = await context.newPage();
    page.on("dialog", (dialog) => dialog.accept(name));
    await page.goto(`http://127.0.0.1:${example.port}/`);
    pages.push(page);
    t.after(() => page.close());
  }
  const [ann, bob] = pages;
  for (const [page, words] of [[ann, "hello"], [bob, "hi"]]) {
    await page.fill("#text", words);
    await page.press("#text", "Enter");
    await bob.waitForFunction((words) => document.body.textContent.includes(`: ${words}`), words);
  }
  await ann.waitForFunction(() => document.querySelectorAll("li").length === 2);
  const lines = await ann.locator("li").allTextContents();
  assert.match(lines[0], /^\d.* ann: hello$/);
  assert.match(lines[1], /^\d.* bob: hi$/);
});

test("a board shows what several do, and who they are", async (t) => {
  const example = await Served.example("board");
  t.after(() => example.stop());
  const pages = [];
  for (const name of ["ann", "bob"]) {
    const page = await context.newPage();
    page.on("dialog", (dialog) => dialog.accept(name));
    await page.goto(`http://127.0.0.1:${example.port}/`);
    pages.push(page);
    t.after(() => page.close());
  }
  const [ann, bob] = pages;
  for (const page of pages) await page.waitForFunction(() => /ann.*bob|bob.*ann/.test(document.getElementById("here").textContent));
  await ann.fill("#title", "tea");
  await ann.press("#title", "Enter");
  const shows = (page, title, done) => page.waitForFunction(([title, done]) => {
    const [box, text] = document.querySelectorAll("#tasks input");
    return text && text.value === title && box.checked === done;
  }, [title, done]);
  await shows(bob, "tea", false);
  await bob.check("#tasks input[type=checkbox]");
  await shows(ann, "tea", true);
  await ann.fill("#tasks input:not([type])", "coffee");
  await ann.press("#tasks input:not([type])", "Enter");
  await shows(bob, "coffee", true);
  // Who types in a task goes on when another field of it is changed, and sees it when the same one is.
  await ann.focus("#tasks input:not([type])");
  await ann.keyboard.press("End");
  await ann.keyboard.type(" or");
  await bob.uncheck("#tasks input[type=checkbox]");
  await shows(ann, "coffee or", false);
  await ann.keyboard.type(" tea");
  await ann.keyboard.press("Enter");
  await shows(bob, "coffee or tea", false);
  await ann.keyboard.type("?");
  await bob.fill("#tasks input:not([type])", "milk");
  await bob.press("#tasks input:not([type])", "Enter");
  await shows(ann, "milk", false);
  // Two changes one after another, without an answer in between.
  await ann.evaluate(() => {
    const [box, text] = document.querySelectorAll("#tasks input");
    text.value = "water";
    text.dispatchEvent(new Event("change", { bubbles: true }));
    box.click();
  });
  await shows(bob, "water", true);
  await bob.close();
  await ann.waitForFunction(() => document.getElementById("here").textContent === "ann");
});

test("an answer goes on after a reload of its page, and can be stopped then", async (t) => {
  const example = await Served.example("answer");
  t.after(() => example.stop());
  const page = await context.newPage();
  t.after(() => page.close());
  await page.goto(`http://127.0.0.1:${example.port}/`);
  await page.fill("#question", `Why? ${"and ".repeat(100)}`);
  await page.press("#question", "Enter");
  const shows = (text) => page.waitForFunction((text) => document.getElementById("answer").textContent.startsWith(text), text);
  await shows("You asked: ");
  await page.reload();
  await shows("You asked: Why? and and ");
  await page.click("#cancel");
  await page.waitForFunction(() => document.getElementById("answer").textContent.endsWith("[cancelled]"));
});

test("a page has a state, and loads what it needs for that from beside the client", async (t) => {
  const page = await open(t);
  const loaded = [];
  page.on("request", (request) => { if (/state.*js$/.test(request.url())) loaded.push(request.url()); });
  assert.deepEqual(await page.evaluate(async () => {
    const { connect } = await import("/umbel/client.js");
    const umbel = connect();
    await umbel.request("counts");
    const before = performance.getEntriesByType("resource").filter(({ name }) => name.includes("state")).length;
    const board = await umbel.state("board:page");
    await board.set("a", [1]);
    const found = [...board];
    umbel.close();
    return [before, found];
  }), [0, [["a", [1]]]]);
  assert.deepEqual(loaded, [http("/umbel/state.js")]);
});

// ---- React

async function react(t) {
  const page = await open(t);
  const heard = wire(page);
  await page.addScriptTag({ content: bundle });
  return { page, ...heard };
}

const shown = (page, id, text) => page.waitForFunction(
  ([id, text]) => document.getElementById(id)?.textContent.includes(text), [id, text]);

test("strict mode: one socket, one subscribe, no unsubscribe until the last component is gone", async (t) => {
  const { page, sockets, count } = await react(t);
  await page.evaluate((url) => mount(url), served.url());
  await shown(page, "messages", "live 0");
  assert.equal(sockets.length, 1);
  assert.equal(count("subscribe_updates", "react:a"), 1);
  assert.equal(count("subscribe_updates", "latest:prices"), 1);
  assert.equal(count("unsubscribe_updates"), 0);
  await page.evaluate(() => unmount());
  await page.waitForFunction(() => notes.client.connection.state === "closed");
  assert.equal(sockets.length, 1);
});

test("of a thousand updates at once a component sees each once, and is rendered at most once for a batch", async (t) => {
  const { page, batches } = await react(t);
  await page.evaluate((url) => mount(url), served.url());
  await shown(page, "messages", "live 0");
  await page.evaluate(() => { notes.renders.length = 0; });
  await page.evaluate(() => notes.client.request("burst", { channel: "react:a", count: 1000 }));
  await shown(page, "messages", "live 1000");
  const { renders, seen } = await page.evaluate(() => notes);
  const start = seen[0][1];
  assert.deepEqual(seen, Array.from({ length: 1000 }, (_, index) => ["react:a", start + index]));
  const rendered = new Set(renders.map(([, , count]) => count)).size;
  assert.ok(rendered <= batches.length, `${rendered} for ${batches.length} batches`);
  assert.equal(await page.locator("#newest li").count(), 3);
});

test("another channel shows nothing of the former one", async (t) => {
  const { page, sockets } = await react(t);
  await page.evaluate((url) => mount(url), served.url());
  await shown(page, "messages", "live 0");
  await page.evaluate(() => notes.client.publish("react:a", { of: "react:a" }));
  await shown(page, "messages", "live 1");
  await page.evaluate(() => notes.set.channel("react:b"));
  await shown(page, "messages", "live 0");
  await page.evaluate(() => Promise.all([notes.client.publish("react:a", { of: "react:a" }), notes.client.publish("react:b", { of: "react:b" })]));
  await shown(page, "messages", "live 1");
  const renders = await page.evaluate(() => notes.renders);
  for (const [channel, last] of renders) assert.ok(last === null || last.of === channel, JSON.stringify([channel, last]));
  assert.equal(sockets.length, 1);
});

test("twenty hot updates and a thousand renders: one socket, one subscription", async (t) => {
  const { page, sockets, count } = await react(t);
  await page.evaluate((url) => mount(url), served.url());
  await shown(page, "messages", "live 0");
  await page.evaluate((url) => { for (let turn = 0; turn < 20; turn += 1) hotUpdate(url); }, served.url());
  await page.evaluate(() => renderAgain(1000));
  await page.evaluate(() => notes.client.publish("react:a", 1));
  await shown(page, "messages", "live 1");
  await page.waitForTimeout(300); // what is taken away is ended a little later
  assert.equal(sockets.length, 1);
  assert.equal(count("unsubscribe_updates"), 0);
});

test("two thousand updates a second: at most sixty renders a second, and each is seen", async (t) => {
  const { page } = await react(t);
  await page.evaluate((url) => mount(url), served.url());
  await shown(page, "messages", "live 0");
  const seconds = await page.evaluate(async () => {
    notes.renders.length = 0;
    notes.tasks = [];
    new PerformanceObserver((list) => notes.tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ entryTypes: ["longtask"] });
    const began = performance.now();
    for (let turn = 0; turn < 40; turn += 1) {
      await notes.client.request("burst", { channel: "react:a", count: 50 });
      await new Promise((resolve) => { setTimeout(resolve, Math.max(0, began + turn * 25 - performance.now())); });
    }
    return (performance.now() - began) / 1000;
  });
  await shown(page, "messages", "live 2000");
  const { renders, seen, tasks } = await page.evaluate(() => notes);
  t.diagnostic(`tasks over 50 ms: ${JSON.stringify(tasks)}`);
  assert.equal(seen.length, 2000);
  const shownCounts = new Set(renders.map(([, , count]) => count));
  assert.ok(shownCounts.size <= 60 * seconds + 2, `${shownCounts.size} in ${seconds} s`);
});

test("components show who is in a channel and who types", async (t) => {
  const pages = [];
  for (const name of ["ann", "ben"]) {
    const { page, count } = await react(t);
    await page.evaluate((url) => mount(url), `${served.url()}?user=${name}`);
    await shown(page, "messages", "live 0");
    await page.evaluate(() => notes.set.room("here:react"));
    pages.push({ page, count });
  }
  const [{ page: ann, count }, { page: ben }] = pages;
  for (const { page } of pages) await shown(page, "here", "live 2 ann:null,ben:null typing");
  assert.deepEqual(["here:react", "$presence:here:react"].map((name) => count("subscribe_updates", name)), [1, 1], "two hooks share one map");
  await ann.evaluate(() => notes.update({ currentTask: "t1" }));
  for (const { page } of pages) await shown(page, "here", "ann:t1");
  await ann.evaluate(() => { for (let key = 0; key < 20; key += 1) notes.type(); });
  await shown(ben, "here", "typing ann");
  assert.equal(count("presence_update", "here:react"), 2, "the task, and one for all keys");
  await ann.evaluate(() => notes.type(false));
  await ben.waitForFunction(() => document.getElementById("here").textContent.endsWith("typing "));
  assert.equal(count("presence_update", "here:react"), 3);
  await ann.evaluate(() => notes.type({ key: "a" }));
  await shown(ben, "here", "typing ann");
  assert.doesNotMatch(await ann.locator("#here").textContent(), /typing ann/, "oneself is not shown");
  await until(() => count("presence_update", "here:react") === 5, "who has stopped says so");
  await ben.waitForFunction(() => document.getElementById("here").textContent.endsWith("typing "));
  await ann.evaluate(() => notes.set.room(null));
  await shown(ben, "here", "live 1 ben:null");
  assert.match(await ann.evaluate(() => notes.update({ typing: true }).catch(({ code }) => code)), /not_subscribed/);
  await ben.evaluate(() => notes.set.room("plain:react"));
  await shown(ben, "here", "ended 0  typing  unknown_channel");
});

test("what is shown of the connection is only what is so now", async (t) => {
  const { page } = await react(t);
  await page.evaluate((url) => mount(url), network.url());
  await shown(page, "messages", "live 0");
  network.cut();
  await page.waitForFunction(() => notes.client.connection.resumed);
  await shown(page, "state", "connected");
  assert.deepEqual(Object.keys(JSON.parse(await page.locator("#state").textContent())).sort(), ["clientId", "resumed", "state", "subject", "transport"]);
});

test("newest values and runs are shown", async (t) => {
  const { page } = await react(t);
  await page.evaluate((url) => mount(url), served.url());
  await shown(page, "messages", "live 0");
  await page.evaluate(async () => {
    for (const [symbol, value] of [["a", 1], ["b", 2], ["a", 3]]) {
      await notes.client.publish("latest:prices", { symbol, value }, { key: symbol });
    }
  });
  await shown(page, "prices", "a=3 b=2");
  await page.evaluate(() => notes.set.ask(5));
  await shown(page, "answer", "complete: 0 1 2 3 4 ");
  await page.evaluate(() => notes.set.ask(1000));
  await shown(page, "answer", "running: 0 1 ");
  await page.evaluate(() => notes.set.cancel());
  await shown(page, "answer", "cancelled: 0 1 ");
});

test("components show a state with the changes of this page, and change it", async (t) => {
  const { page, count } = await react(t);
  await page.evaluate((url) => mount(url), served.url());
  await shown(page, "board", "live []");
  await page.evaluate(() => notes.board.set("a", { n: 1 }));
  await shown(page, "board", 'live [["a",{"n":1}]]');
  await page.evaluate(() => notes.set.same(true));
  await shown(page, "same", 'live [["a",{"n":1}]]');
  assert.equal(count("subscribe_updates", "board:react"), 1, "components share it");
  await page.evaluate(() => notes.client.publish("board:react", 5, { key: "n" }));
  await shown(page, "board", '["n",5]');
  await page.evaluate(() => Promise.all([
    notes.board.patch("a", { done: true }), notes.board.update("n", (n) => n + 1), notes.board.update("n", (n) => n + 1),
  ]));
  await shown(page, "board", 'live [["a",{"n":1,"done":true}],["n",7]]');
  const refused = page.evaluate(() => notes.board.patch("nothing", { a: 1 }).catch(({ code }) => code));
  assert.equal(await refused, "state_conflict");
  await page.evaluate(() => notes.board.remove("a"));
  for (const id of ["board", "same"]) await shown(page, id, 'live [["n",7]]');
  await page.evaluate(() => notes.set.board("board:other"));
  await shown(page, "board", "live []");
  await page.evaluate(() => notes.set.board("latest:prices"));
  await shown(page, "board", "ended [] not_a_state");
  await page.evaluate(() => notes.set.board(null));
  await shown(page, "board", "waiting []");
  assert.match(await page.evaluate(() => notes.board.set("a", 1).catch(({ message }) => message)), /nothing is followed/);
});

test("what a server has rendered is what a page renders first, and neither opens anything then", async (t) => {
  const { buildSync } = inPackage("esbuild");
  const source = `
    import { createElement } from "react";
    import { renderToString } from "react-dom/server";
    import { App } from ${JSON.stringify(fileURLToPath(new URL("react_page.mjs", import.meta.url)))};
    export const html = renderToString(createElement(App, { url: ${JSON.stringify(served.url())}, hydrating: true }));
  `;
  const file = join(profile, "server.cjs");
  buildSync({
    stdin: { contents: source, resolveDir: PACKAGE }, outfile: file, bundle: true, platform: "node", format: "cjs",
    absWorkingDir: PACKAGE, alias: { "umbel/react": "./react.js" }, nodePaths: [join(PACKAGE, "node_modules")], logLevel: "error",
  });
  let opened = 0;
  globalThis.WebSocket = class { constructor() { opened += 1; } };
  const { default: { html } } = await import(pathToFileURL(file));
  delete globalThis.WebSocket;
  assert.match(html, /idle.*waiting 0/s);
  assert.equal(opened, 0);
  const { page, sockets } = await react(t);
  await page.evaluate((html) => { document.getElementById("root").innerHTML = html; }, html);
  await page.evaluate((url) => hydrate(url), served.url());
  await shown(page, "messages", "live 0");
  assert.deepEqual(await page.evaluate(() => notes.renders.filter(([what]) => what === "mismatch")), []);
  assert.equal(sockets.length, 1);
});
