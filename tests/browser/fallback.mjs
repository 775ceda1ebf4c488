// The JavaScript client in Chromium where no WebSocket gets through: behind proxies that refuse them, and that hold responses back.
//
//     node --test fallback.mjs        (test_client.py does so; CHROMIUM names the browser)

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Network, numbers, Served, until } from "../../clients/js/test/place.mjs";

const CUTS = Number(process.env.CHAOS_CUTS ?? 60);
const HTML = '<!doctype html><link rel="icon" href="data:,">';

let served;
let network;
let context;
let profile;
const proxies = [];

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "umbel-fallback-"));
  const file = join(profile, "test.html");
  await writeFile(file, HTML);
  served = await Served.start({ settings: { heartbeat: 1, reconnect_window: 0.02 }, rate: 100, channels: 2, pages: { "/test.html": file } });
  network = await Network.to(served.port);
  context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
  });
  context.setDefaultTimeout(20_000);
});
after(async () => {
  await context?.close();
  for (const proxy of proxies) {
    proxy.close();
    proxy.closeAllConnections();
  }
  await network?.close();
  await served?.stop();
  await rm(profile, { recursive: true, force: true });
});

/** A proxy that refuses WebSockets, or swallows them. One that holds responses back passes each on when it has ended. */
async function proxy({ holds = false, swallows = false } = {}) {
  const one = createServer((asked, answer) => {
    const { url, method, headers } = asked;
    const onward = request({ host: "127.0.0.1", port: served.port, path: url, method, headers }, async (response) => {
      try {
        const parts = [];
        if (holds) for await (const part of response) parts.push(part);
        answer.writeHead(response.statusCode, response.headers);
        for (const part of parts) answer.write(part);
        if (holds) answer.end();
        else response.pipe(answer);
      } catch (error) {
        answer.destroy();
      }
    });
    onward.on("error", () => answer.destroy());
    answer.on("close", () => onward.destroy());
    asked.pipe(onward);
  });
  one.on("upgrade", (_, socket) => {
    socket.on("error", () => {});
    if (!swallows) socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
  });
  one.on("clientError", (_, socket) => socket.destroy());
  proxies.push(one.listen(0, "127.0.0.1"));
  await once(one, "listening");
  return `http://127.0.0.1:${one.address().port}`;
}

/** A page. What it complains about, but for what can't be had here, fails the test that has opened it. */
async function open(t, url, expected = /WebSocket connection to/) {
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
  t.after(async () => {
    await page.close();
    assert.deepEqual(complaints.filter((text) => !expected.test(text)), []);
  });
  await page.goto(url);
  return page;
}

/** In a page: connects, reads, asks, publishes, and reads a run. Returns what it saw. */
const tryAll = async (file) => {
  const { connect } = await import(file);
  const umbel = connect(undefined, { attemptTimeout: 2000 });
  globalThis.umbel = umbel;
  const first = umbel.subscribe("fallback:all")[Symbol.asyncIterator]();
  const { life } = await umbel.request("counts");
  const place = await umbel.publish("fallback:all", { text: "é😀\n" });
  const { value } = await first.next();
  const run = umbel.run("recite", 20);
  for await (const _ of run);
  return { life, same: value.offset === place.offset && value.data.text === "é😀\n", run: [run.status, run.text], transport: umbel.connection.transport };
};

const check = ({ life, same, run, transport }) => {
  assert.ok(life);
  assert.deepEqual([same, transport], [true, "stream"]);
  assert.deepEqual(run, ["complete", Array.from({ length: 20 }, (_, number) => `${number} `).join("")]);
};

test("behind a proxy that refuses WebSockets all is as ever, with both names of the file", async (t) => {
  const url = await proxy();
  const tag = createHash("sha256").update(await readFile(new URL("../../clients/js/umbel.js", import.meta.url))).digest("hex").slice(0, 12);
  for (const file of ["/umbel/client.js", `/umbel/client-${tag}.js`]) {
    const page = await open(t, `${url}/test.html`);
    const loaded = [];
    page.on("request", (asked) => { if (/stream/.test(asked.url())) loaded.push(asked.url()); });
    check(await page.evaluate(tryAll, file));
    assert.deepEqual(loaded, [`${url}/umbel/stream.js`]);
  }
});

test("behind a proxy that holds responses back, too", async (t) => {
  const url = await proxy({ holds: true });
  const page = await open(t, `${url}/test.html`);
  const parts = [];
  page.on("request", (asked) => { if (asked.url() === `${url}/api/v1/session`) parts.push(asked.postDataJSON().part); });
  check(await page.evaluate(tryAll, "/umbel/client.js"));
  assert.deepEqual(parts.slice(0, 4), [undefined, 1, 2, 3]);
});

test("behind a proxy that swallows WebSockets, too", async (t) => {
  const url = await proxy({ swallows: true });
  const page = await open(t, `${url}/test.html`);
  check(await page.evaluate(tryAll, "/umbel/client.js"));
});

test("an isolated page of another origin has it, too", async (t) => {
  const url = await proxy();
  const headers = {
    "Content-Type": "text/html", "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin",
  };
  const elsewhere = createServer((_, response) => response.writeHead(200, headers).end(HTML)).listen(0, "localhost");
  await once(elsewhere, "listening");
  t.after(() => elsewhere.close());
  // Any page may connect to this server, so none may send cookies: the browser complains about the first request.
  const page = await open(t, `http://localhost:${elsewhere.address().port}/`, /WebSocket connection to|CORS policy|ERR_FAILED/);
  check(await page.evaluate(tryAll, `${url}/umbel/client.js`));
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
});

test("a worker has it, too", async (t) => {
  const url = await proxy();
  const page = await open(t, `${url}/test.html`);
  const program = `
    import { connect } from "${url}/umbel/client.js";
    const umbel = connect();
    umbel.publish("page:worker", 1).then(() => { postMessage(umbel.connection.transport); umbel.close(); });
  `;
  const transport = await page.evaluate((source) => new Promise((resolve, reject) => {
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  }), program);
  assert.equal(transport, "stream");
});

/** What the server knows of a client that has left: its close code. */
async function leftWith(t, url, id) {
  const page = await open(t, `${url}/test.html`);
  return page.evaluate(async (id) => {
    const { connect } = await import("/umbel/client.js");
    const umbel = connect();
    for (let turn = 0; turn < 250; turn += 1) {
      const { left } = await umbel.request("counts");
      if (id in left) return left[id];
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
    return "it is still there";
  }, id);
}

test("a page that is left for good, and one that is closed, end their sessions", async (t) => {
  const url = await proxy();
  const page = await open(t, `${url}/test.html`);
  for (const leave of [
    () => page.evaluate(() => { document.location = "about:blank"; }),
    () => page.close({ runBeforeUnload: true }),
  ]) {
    await page.goto(`${url}/test.html`);
    const id = await page.evaluate(async () => {
      const { connect } = await import("/umbel/client.js");
      // A page that may not enter the back/forward cache.
      addEventListener("unload", () => {});
      globalThis.umbel = connect();
      await umbel.request("counts");
      return umbel.connection.clientId;
    });
    await leave();
    assert.equal(await leftWith(t, url, id), 1000);
  }
});

test("a page comes back from the back/forward cache with what it had", async (t) => {
  const url = await proxy();
  const page = await open(t, `${url}/test.html`);
  await page.evaluate(async () => {
    const { connect } = await import("/umbel/client.js");
    Object.assign(globalThis, { umbel: connect(), read: [], persisted: null });
    addEventListener("pageshow", (event) => { globalThis.persisted = event.persisted; });
    umbel.subscribe("fallback:cache", ({ data }) => read.push(data));
    await umbel.publish("fallback:cache", 1);
  });
  await page.goto(`${url}/test.html?other`);
  const other = await open(t, `${url}/test.html`);
  await other.evaluate(async () => {
    const { connect } = await import("/umbel/client.js");
    const umbel = connect();
    await umbel.publish("fallback:cache", 2);
    umbel.close();
  });
  await page.goBack({ waitUntil: "commit" });
  await page.waitForFunction(() => globalThis.read?.length === 2);
  assert.deepEqual(await page.evaluate(() => [persisted, read, umbel.connection.resumed, umbel.connection.transport]), [true, [1, 2], true, "stream"]);
});

test(`${CUTS} cuts of the streams of a page`, { timeout: 60_000 + CUTS * 500 }, async (t) => {
  // What is posted after the end of its stream is refused.
  const page = await open(t, `http://127.0.0.1:${network.port}/test.html`, /ERR_|WebSocket|status of 40[49]/);
  const random = numbers(7);
  let cuts = 0;
  network.onlink = (link) => {
    if (cuts >= CUTS) return;
    if (random() < 0.1) setTimeout(() => link.stall(), random() * 400);
    else link.left = Math.floor(random() * (random() < 0.3 ? 2400 : 40_000));
    link.near.on("close", () => { cuts += 1; });
  };
  await page.evaluate(async () => {
    globalThis.WebSocket = class {
      constructor() { setTimeout(() => this.onclose?.({ code: 1006, reason: "" })); }
      close() {}
    };
    let connect;
    while (!connect) ({ connect } = await import(`/umbel/client.js?${Math.random()}`).catch(() => ({})));
    const quick = { window: 20, base: 20, cap: 200, attempts: 1000, attemptTimeout: 1500, answerTimeout: 600 };
    Object.assign(globalThis, { wrong: [], asked: [] });
    // A browser opens six connections to a host. Each client needs two.
    globalThis.clients = Array.from({ length: 3 }, (_, index) => {
      const umbel = connect("/ws", quick);
      let expected = 0;
      umbel.subscribe(`numbers:${index % 2}`, {
        onUpdate({ offset, data }) {
          if (data.n !== offset || (expected && offset !== expected)) wrong.push([index, expected, offset, data.n]);
          expected = offset + 1;
          if (offset % 20 === 0) asked.push(umbel.request("add", `${index}-${offset}`));
        },
        onGap(gap) { wrong.push([index, gap]); },
      });
      return umbel;
    });
  });
  await until(() => cuts >= CUTS, `${CUTS} cuts`, 30_000 + CUTS * 450);
  network.onlink = () => {};
  network.cut();
  await page.waitForFunction(() => clients.every(({ connection }) => connection.transport === "stream"));
  t.diagnostic(`${cuts} cuts`);
  assert.deepEqual(await page.evaluate(() => wrong), []);
  const [answers, twice] = await page.evaluate(async () => [(await Promise.all(asked)).length, (await clients[0].request("counts")).twice]);
  assert.ok(answers > 10);
  assert.deepEqual(twice, []);
});
