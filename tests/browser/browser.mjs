// One scenario in headless Chromium; prints its findings as one JSON object.
//
//     node browser.mjs SCENARIO URL OPTIONS

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [scenario, url, options] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];

// The browser's own background traffic is off: it would only wait for hosts that no test needs.
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

const scenarios = {
  // The page's own WebSocket: subscribe, publish, receive; the bytes on the wire come from the browser's protocol.
  async roundtrip(context) {
    const page = await context.newPage();
    const developer = await context.newCDPSession(page);
    await developer.send("Network.enable");
    const answers = [];
    developer.on("Network.webSocketHandshakeResponseReceived", ({ response }) => answers.push(response));
    await page.goto(options.page);
    const findings = await page.evaluate(roundtrip, { url, channel: options.channel, count: options.count });
    const headers = Object.fromEntries(
      Object.entries(answers[0].headers).map(([name, value]) => [name.toLowerCase(), value]),
    );
    return { ...findings, headers };
  },

  // The page's own EventSources, each until it has heard the marker: what each of them heard, in order.
  async follow(context) {
    const page = await context.newPage();
    await page.goto(options.page);
    return { streams: await page.evaluate(follow, { urls: options.urls, marker: options.marker }) };
  },

  // The recipe of the page about tickets, until it has shown the marker: what it has shown, loaded and asked for.
  async recipe(context) {
    const page = await context.newPage();
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(options.page);
    const seen = await page.evaluate(({ code, token, marker }) => new Promise((resolve) => {
      const [shown, loaded] = [[], []];
      const show = (channel, data) => {
        shown.push(data);
        if (data === marker) resolve({ shown, loaded });
      };
      const follow = new Function("token", "show", "load", "signIn", `${code}; return follow;`);
      follow(token, show, (channel) => loaded.push(channel), () => resolve("signed out"))();
    }), options);
    return { ...seen, asked };
  },

  // What a person sees of the demo: numbers that move, buttons that do something, an answer that streams in.
  async demo(context, complaints) {
    const page = await watched(context, complaints);
    await page.goto(url);
    const steps = { answer: null };
    steps.published = await grows(page, "published");
    steps.delivered = await grows(page, "delivered");
    steps.batches = await grows(page, "batches");
    await page.waitForFunction(hasDigit, "lateness");
    steps.lateness = await text(page, "lateness");
    steps.sources = await page.getByTestId("sources").locator("> *").count();

    const rate = page.getByTestId("rate");
    const [low, high] = [await rate.getAttribute("min"), await rate.getAttribute("max")];
    await slide(rate, low);
    steps.slow = await speed(page, "published");
    await slide(rate, high);
    steps.fast = await speed(page, "published");
    await slide(rate, String((Number(low) + Number(high)) / 4));

    steps.aloneDelivered = await speed(page, "delivered");
    await page.getByTestId("crowd").click();
    steps.crowdDelivered = 0;
    for (const end = Date.now() + 30_000; Date.now() < end;) {
      steps.crowdDelivered = await speed(page, "delivered");
      if (steps.crowdDelivered > 20 * Math.max(steps.aloneDelivered, 1)) break;
    }

    await page.getByTestId("slow").click();
    steps.publishedWhileSlow = await grows(page, "published");
    await page.getByTestId("slow").click();
    steps.batchesAfterSlow = await grows(page, "batches");

    await page.getByTestId("cut").click();
    steps.recovered = await grows(page, "recovered");
    await page.waitForFunction(() => document.getElementById("state").dataset.is === "live");
    steps.delivered = await grows(page, "delivered");
    steps.violations = await number(page, "violations");

    await page.getByTestId("ask").fill("What is a cursor?");
    await page.getByTestId("send").click();
    await page.waitForFunction(hasText, "answer");
    const first = (await text(page, "answer")).length;
    await page.waitForFunction(longer, ["answer", Math.max(first, 20)]);
    for (let before = ""; before !== steps.answer;) {
      before = steps.answer;
      await page.waitForTimeout(1000);
      steps.answer = await text(page, "answer");
    }
    if (options.screenshot) {
      await page.setViewportSize({ width: 1280, height: 866 }); // so that the answer is seen
      await page.evaluate(() => window.scrollTo(0, 0));
      await page.screenshot({ path: options.screenshot });
    }
    return steps;
  },

  // Two windows with the task board: what becomes of changes that were made without a connection, and what is seen of the others.
  async board(context, complaints) {
    const windows = [await watched(context, complaints), await watched(context, complaints)];
    // The plots of two windows take a processor of their own.
    for (const page of windows) await page.emulateMedia({ reducedMotion: "reduce" });
    context.setDefaultTimeout(60_000);
    await windows[0].goto(url);
    await windows[0].getByTestId("pane").last().waitFor();
    await windows[1].goto(new URL(await windows[0].getByRole("link", { name: "another window" }).getAttribute("href"), url).href);
    const sides = windows.flatMap((page) => [0, 1].map((number) => page.getByTestId("pane").nth(number)));
    const [ann, beside, ben] = sides;
    const task = (side, number) => side.getByTestId("task").nth(number - 1);
    const title = (side, number) => task(side, number).getByLabel("Title");
    const save = async (side, number, text, status) => {
      await title(side, number).fill(text);
      if (status) await task(side, number).getByLabel("Status").selectOption(status);
      await task(side, number).getByRole("button").click();
    };
    const shows = (side, number, text, status) => task(side, number).evaluate((form, [text, status]) => new Promise((resolve) => {
      const look = () => (form.elements.title.value === text && form.elements.status.value === status ? resolve() : setTimeout(look, 20));
      look();
    }), [text, status]);
    const news = async (number, says) => {
      const found = [];
      for (const side of sides) {
        const place = task(side, number).locator(".news").filter({ hasText: says });
        await place.waitFor();
        found.push(await place.textContent());
      }
      return found;
    };
    for (const side of sides) await side.locator(".members li").nth(3).waitFor();
    await windows[1].waitForFunction(() => {
      const { top, bottom } = document.getElementById("board").getBoundingClientRect();
      return top < 20 || bottom <= innerHeight + 1;
    });
    const names = await Promise.all([ann, ben].map((side) => side.getByRole("heading").textContent()));

    // It ends by itself, so it is seen while somebody goes on.
    const typing = task(ben, 3).getByText(`${names[0]} is typing…`);
    while (!await typing.isVisible()) {
      await title(ann, 3).press("x");
      await windows[0].waitForTimeout(100);
    }

    // Who is cut off is seen so for some seconds. Then nobody is there.
    await windows[0].evaluate(() => {
      window.members = new Set();
      const look = () => { for (const item of document.querySelectorAll(".members li")) window.members.add(item.textContent); };
      for (const list of document.querySelectorAll(".members")) new MutationObserver(look).observe(list, { childList: true });
    });
    await ben.getByRole("button", { name: "Cut off" }).click();
    await ben.getByRole("status").filter({ hasText: "Cut off" }).waitFor();
    await windows[0].waitForFunction((text) => window.members.has(text), `${names[1]} is cut off`);

    // Both change a task: the same of it, and then different things.
    await save(ann, 1, "A", "doing");
    await save(ben, 1, "B");
    await save(ann, 2, "changed");
    await save(ben, 2, await title(ben, 2).inputValue(), "done");
    const kept = await task(ben, 1).locator(".news").textContent();
    await shows(beside, 1, "A", "doing");
    await shows(beside, 2, "changed", "to do");
    await shows(ben, 1, "B", "to do");
    await ben.getByRole("button", { name: "Bring back" }).click();
    const same = await news(1, "at the same time");
    const different = await news(2, "at the same time");
    for (const side of sides) {
      await shows(side, 1, "B", "doing");
      await shows(side, 2, "changed", "done");
    }

    // A person who is at work is told of a change meanwhile, and keeps what is written.
    await title(ann, 3).fill("half-written");
    await save(ben, 3, "other");
    await task(ann, 3).locator(".news").filter({ hasText: `${names[1]} has made it “other” meanwhile` }).waitFor();
    const draft = await title(ann, 3).inputValue();
    await task(ann, 3).getByRole("button").click();
    for (const side of sides) await shows(side, 3, "half-written", "to do");

    await windows[1].close();
    await ann.locator(".members li").nth(2).waitFor({ state: "detached" });
    return { names, kept, same, different, draft, there: await ann.locator(".members li").count() };
  },

  // The page in one colour scheme and width: nothing wider than the window, readable contrast, no complaint.
  async look(context, complaints) {
    const page = await watched(context, complaints);
    await page.goto(url);
    await grows(page, "published");
    await page.getByTestId("task").last().waitFor();
    if (options.slow) await page.getByTestId("slow").click();
    const findings = await page.evaluate((slow) => {
      // What a reader sees that is seconds behind, at once.
      if (slow) document.getElementById("own-lateness").textContent = "12,345 / 23,456 / 34,567 ms";
      const outside = [...document.querySelectorAll(".figures dd")].filter((element) => {
        const range = document.createRange();
        range.selectNodeContents(element);
        return range.getBoundingClientRect().right > element.parentElement.getBoundingClientRect().right + 1;
      }).map((element) => element.textContent);
      const wide = [...document.querySelectorAll("body *")]
        .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 1)
        .map((element) => `${element.tagName.toLowerCase()}.${element.className}`);
      const style = getComputedStyle(document.body);
      return {
        overflow: document.documentElement.scrollWidth - innerWidth,
        wide: wide.slice(0, 5),
        outside,
        background: style.backgroundColor,
        color: style.color,
        root: getComputedStyle(document.documentElement).backgroundColor,
      };
    }, options.slow);
    if (options.screenshot) await page.screenshot({ path: options.screenshot, fullPage: true });
    return findings;
  },
};

// ---------------------------------------------------------------------------------------------------- inside the page

async function roundtrip({ url, channel, count }) {
  const socket = new WebSocket(url, ["umbel.v1"]);
  const inbox = [];
  let wake = () => {};
  socket.onmessage = ({ data }) => { inbox.push(JSON.parse(data)); wake(); };
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject(new Error("refused")); });
  const expect = async (type) => {
    for (;;) {
      while (!inbox.length) await new Promise((resolve) => { wake = resolve; });
      const message = inbox.shift();
      if (message.type === type) return message;
      if (message.type === "error" || message.type === "gap") throw new Error(JSON.stringify(message));
    }
  };
  const hello = await expect("connection_established");
  socket.send(JSON.stringify({ type: "subscribe_updates", channel, id: "s" }));
  const start = await expect("subscription_established");
  for (let number = 0; number < count; number += 1) {
    socket.send(JSON.stringify({ type: "publish", channel, data: { number, text: "Zürich 東京 ".repeat(20) } }));
  }
  let position = start.offset;
  const numbers = [];
  while (numbers.length < count) {
    for (const update of (await expect("batched_updates")).updates) {
      if ((update.from ?? update.offset - 1) !== position) throw new Error(`a hole after ${position}`);
      position = update.offset;
      numbers.push(update.data.number);
    }
  }
  const closed = new Promise((resolve) => { socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean }); });
  socket.close(1000, "enough");
  return { hello, start, numbers, protocol: socket.protocol, extensions: socket.extensions, ...(await closed) };
}

function hasDigit(id) {
  return /\d/.test(document.querySelector(`[data-testid="${id}"]`)?.textContent ?? "");
}

function hasText(id) {
  return Boolean(document.querySelector(`[data-testid="${id}"]`)?.textContent.trim());
}

function longer([id, length]) {
  return document.querySelector(`[data-testid="${id}"]`).textContent.trim().length > length;
}

function above([id, value]) {
  const shown = document.querySelector(`[data-testid="${id}"]`)?.textContent ?? "";
  return Number(shown.replace(/[^\d]/g, "")) > value;
}

// --------------------------------------------------------------------------------------------------- outside the page

function follow({ urls, marker }) {
  const names = [
    "connected", "subscription_established", "subscription_ended", "gap", "server_error", "heartbeat", "reconnect", "closed",
  ];
  return Promise.all(urls.map((url) => new Promise((resolve) => {
    const [source, heard] = [new EventSource(url), []];
    const end = () => {
      source.close();
      resolve({ heard, state: source.readyState });
    };
    const hear = ({ type, lastEventId, data }) => {
      heard.push([type, lastEventId, data]);
      if (data.includes(marker)) end();
    };
    for (const name of names) source.addEventListener(name, hear);
    source.onmessage = hear;
    // CLOSED: it never comes back by itself.
    source.onerror = () => {
      heard.push(["error", "", String(source.readyState)]);
      if (source.readyState === 2) end();
    };
  })));
}

async function watched(context, complaints) {
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("response", (response) => { if (response.status() >= 400) complaints.push(`${response.status()} ${response.url()}`); });
  return page;
}

const text = async (page, id) => (await page.getByTestId(id).textContent()).trim();

const number = async (page, id) => Number((await text(page, id)).replace(/[^\d]/g, ""));

// Wait until a counter has digits and then rises; return the difference.
async function grows(page, id) {
  await page.waitForFunction(hasDigit, id);
  const before = await number(page, id);
  await page.waitForFunction(above, [id, before]);
  return (await number(page, id)) - before;
}

// How much a counter rises per second, over about two seconds.
async function speed(page, id) {
  const [began, before] = [Date.now(), await number(page, id)];
  await page.waitForTimeout(2000);
  return ((await number(page, id)) - before) / ((Date.now() - began) / 1000);
}

async function slide(slider, value) {
  await slider.fill(value);
  await slider.dispatchEvent("change");
}

const profile = await mkdtemp(join(tmpdir(), "umbel-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: FLAGS,
  viewport: options.viewport ?? { width: 1280, height: 800 },
  colorScheme: options.scheme ?? "light",
  ignoreHTTPSErrors: options.insecure ?? false,
});
context.setDefaultTimeout(20_000);
const complaints = [];
try {
  const findings = await scenarios[scenario](context, complaints);
  process.stdout.write(JSON.stringify({ ...findings, complaints }));
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
