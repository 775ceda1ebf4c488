// The page: cards of what is measured, the figures of the server, controls and answers.

import { Bars, Lines, palette, plots } from "./plots.js";
import { $, bytes, count, keepPlace, millis, percent, quantiles, short, toast, write } from "./text.js";
import { bars, clock, cut, follow, followed, late, move, page, seen, slow, umbel } from "./wire.js";

plots.push(new Bars($("hero"), bars));

// -------------------------------------------------------------------------------------------------------- sources

const kinds = {
  "host:cpu": {
    title: "Processor", plot: { least: 1, fixed: 1, label: percent }, busy: new Map(),
    apply(card, { core, busy }, at) {
      this.busy.set(core, busy);
      card.plot.push(`Core ${core}`, at, busy);
      card.parts.set(`Core ${core}`, percent(busy));
      card.value = percent([...this.busy.values()].reduce((sum, value) => sum + value, 0) / this.busy.size);
    },
  },
  "host:memory": {
    title: "Memory", plot: { least: 64e6, zoom: true, label: bytes },
    apply(card, { used, total, cached, swap }, at) {
      card.plot.push("used", at, used);
      card.parts.set("used", percent(used / total));
      card.rest = `caches ${bytes(cached)}${swap ? ` · swap ${bytes(swap)}` : ""}`;
      card.value = `${bytes(used)} of ${bytes(total)}`;
    },
  },
  "host:network": {
    title: "Network", plot: { least: 10e3, label: (value) => `${bytes(value)}/s` }, sums: new Map(),
    apply(card, { interface: name, received, sent }, at) {
      this.sums.set(name, received + sent);
      card.plot.push(name, at, received + sent);
      card.parts.set(name, `${bytes(received)}/s in, ${bytes(sent)}/s out`);
      card.value = `${bytes([...this.sums.values()].reduce((sum, value) => sum + value, 0))}/s`;
    },
  },
  "host:disk": {
    title: "Disks", plot: { least: 100e3, label: (value) => `${bytes(value)}/s` },
    apply(card, { disks }, at) {
      const sum = (index) => Object.values(disks).reduce((total, values) => total + values[index], 0);
      card.plot.push("read", at, sum(0));
      card.plot.push("written", at, sum(1));
      card.parts.set("read", `${bytes(sum(0))}/s`);
      card.parts.set("written", `${bytes(sum(1))}/s`);
      card.rest = Object.keys(disks).join(", ");
      card.value = `${bytes(sum(0) + sum(1))}/s`;
    },
  },
};

const cards = new Map();
function addCard(channel, mode, missing) {
  if (cards.has(channel)) return;
  const kind = kinds[channel];
  const section = document.createElement("section");
  section.className = "card source";
  section.setAttribute("aria-label", kind.title);
  section.innerHTML = '<div class="head"><h2></h2><code></code><span class="tag"></span><span class="value"></span></div>';
  section.querySelector("h2").textContent = kind.title;
  section.querySelector("code").textContent = channel;
  section.querySelector(".tag").textContent = mode;
  section.querySelector(".tag").title = mode === "latest" ? "A reader that is behind gets the newest of each key" : "A reader that is behind gets everything the log still holds";
  $("sources").append(section);
  if (missing) {
    const text = document.createElement("p");
    text.className = "absent";
    text.textContent = `Not measured on this system (${missing}).`;
    section.append(text);
    cards.set(channel, null);
    return;
  }
  const chips = document.createElement("div");
  const canvas = document.createElement("canvas");
  const log = document.createElement("div");
  chips.className = "chips";
  log.className = "log";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${kind.title} over the last 20 seconds`);
  const frame = document.createElement("div");
  frame.className = "plot";
  frame.append(canvas);
  section.append(chips, frame, log);
  const card = { kind, section, chips, log, plot: new Lines(canvas, kind.plot), parts: new Map(), value: "", rest: "", marks: new Map() };
  plots.push(card.plot);
  cards.set(channel, card);
  follow(channel, (update, one) => {
    if (one.broken) { card.plot.hole(); one.broken = false; }
    kind.apply(card, update.data, update.data.at - clock.offset - performance.timeOrigin);
  });
}

function writeCard(channel, card) {
  write(card.section.querySelector(".value"), card.value);
  let number = 0;
  for (const [name, text] of card.parts) {
    let chip = card.marks.get(name);
    if (!chip) {
      if (number >= 8) break;
      chip = document.createElement("span");
      chip.style.setProperty("--mark", `var(--${palette[number % palette.length]})`);
      card.chips.append(chip);
      card.marks.set(name, chip);
    }
    number += 1;
    write(chip, `${name} ${text}`);
  }
  const { received, folded, lost, position } = followed.get(channel);
  const rate = received - (card.before ?? 0);
  card.before = received;
  card.rates = [...(card.rates ?? []), rate].slice(-4);
  const perSecond = Math.round(card.rates.reduce((sum, value) => sum + value, 0) / (card.rates.length * 0.5));
  const words = [`offset ${count(position?.offset ?? 0)}`, `${count(perSecond)} updates/s`];
  if (folded) words.push(`${count(folded)} folded`);
  if (lost) words.push(`${count(lost)} lost, announced`);
  if (card.rest) words.push(card.rest);
  write(card.log, words.join("  ·  "));
}

// -------------------------------------------------------------------------------------------------------- the server's figures

let stats = null;
function showStats(report) {
  stats = report;
  const { totals, rates, gauges, lateness, crowd } = report;
  write("published", count(totals.published));
  write("frames", count(totals.frames));
  write("delivered", count(totals.delivered));
  write("published-rate", short(rates.published));
  write("frames-rate", short(rates.frames));
  write("delivered-rate", short(rates.delivered));
  write("p50", millis(lateness[0]));
  write("p95", millis(lateness[1]));
  write("p99", millis(lateness[2]));
  write("connections", count(gauges.connections));
  write("per-update", rates.delivered ? count(rates.bytes_sent / rates.delivered) : "–");
  write("bytes", bytes(rates.bytes_sent));
  write("crowd-count", count(crowd.connected));
  $("crowd-remove").disabled = crowd.wanted === 0;
  $("crowd").disabled = info !== null && crowd.wanted + 1000 > info.limit;
  write("crowd-note", crowdNote(crowd));
  if (!sliding && Math.abs(fromSlider(Number($("rate").value)) - report.load) > 0.5 && performance.now() > settled) setSlider(toSlider(report.load));
  slowNote();
}

function crowdNote(crowd) {
  if (info && info.limit === 0) return `No room for a crowd: ${info.limitReason}.`;
  if (crowd.wanted && crowd.connected < crowd.wanted) return `Connecting: ${count(crowd.wanted - crowd.connected)} to go.`;
  if (crowd.wanted) return `${count(crowd.wanted / 1000)} ${crowd.wanted > 1000 ? "processes" : "process"} of 1,000 sockets got ${short(crowd.messages)} updates${crowd.lost ? ` and were told of ${short(crowd.lost)} lost` : ""}. ${info && crowd.wanted + 1000 > info.limit ? `${info.limitReason}.` : ""}`;
  return "Another process with real sockets, subscribed to what this page is subscribed to.";
}

function slowNote() {
  const rate = info ? `${info.slow / 1000} kB` : "a little";
  write("slow-note", slow
    ? `Reading ${rate}/s. The server sees ${stats?.gauges.blocked ?? 0} blocked, keeps no queue for it, and folds or announces what is missed.`
    : `Moves this page’s connection behind a relay that reads only ${rate}/s.`);
}

setInterval(() => {
  late.turn();
  const all = late.all;
  const recent = bars.filter((bar) => !bar.gap && bar.at > performance.now() - 2000);
  const updates = recent.reduce((sum, bar) => sum + bar.machine + bar.load, 0);
  write("own-size", recent.length ? (updates / recent.length).toFixed(1) : "–");
  write("own-rate", count(updates / 2));
  write("own-lateness", all.length ? `${quantiles(all, 0.5, 0.95, 0.99).map(millis).join(" / ")} ms` : "–");
  write("folded", short(seen.folded));
  write("gaps", count(seen.gaps));
  write("lost", count(seen.lost));
  write("violations", count(seen.violations));
  write("cuts", count(seen.cuts));
  write("recovered", count(seen.recovered));
  $("violations").classList.toggle("wrong", seen.violations > 0);
  for (const [channel, card] of cards) if (card) writeCard(channel, card);
}, 500);

// -------------------------------------------------------------------------------------------------------- controls

let info = null;
let greeting = null;
async function greet() {
  greeting ??= umbel.request("demo_info");
  if (!info) {
    try { info = await greeting; } catch { greeting = null; return; }
    if (followed.size) return;
    write("about", `${info.version} on ${info.machine} · ${count(info.tick)} ms tick`);
    write("readings", count(info.readings));
    write("ai-label", info.ai ? `${info.ai} at ${info.aiHost}` : "built-in text, no model");
    for (const [channel, mode] of Object.entries(info.sources)) addCard(channel, mode, info.missing[channel]);
    follow("demo:load", () => {});
    follow("demo:stats", (update) => showStats(update.data));
    slowNote();
    keepPlace();
  }
  for (let turn = 0; turn < 3 && !slow; turn += 1) await clock.ask();
}

const fromSlider = (place) => {
  const value = 2000 ** (place / 100);
  return value < 20 ? Math.round(value) : value < 200 ? Math.round(value / 5) * 5 : Math.round(value / 50) * 50;
};
const toSlider = (rate) => Math.round((Math.log(Math.max(rate, 1)) / Math.log(2000)) * 100);
let sliding = false;
let settled = 0;
function setSlider(place) {
  $("rate").value = place;
  $("rate").style.setProperty("--at", `${place}%`);
  const rate = fromSlider(place);
  $("rate-out").innerHTML = `${count(rate)} <small>/s</small>`;
  $("rate").setAttribute("aria-valuetext", `${rate} per second`);
}
let sent = null;
$("rate").addEventListener("input", () => {
  sliding = true;
  setSlider(Number($("rate").value));
  settled = performance.now() + 3000;
  clearTimeout(sent);
  sent = setTimeout(() => { sliding = false; act(() => umbel.request("set_rate", fromSlider(Number($("rate").value)))); }, 60);
});
setSlider(51);

async function act(action) {
  try { return await action(); } catch (error) { toast(error.message); return null; }
}
$("crowd").addEventListener("click", () => act(async () => {
  const { added, reason } = await umbel.request("add_subscribers");
  if (!added) toast(`${reason}.`);
}));
$("crowd-remove").addEventListener("click", () => act(() => umbel.request("remove_subscribers")));
$("slow").addEventListener("click", () => {
  move(!slow);
  $("slow").setAttribute("aria-pressed", String(slow));
  write("slow", slow ? "Read at full speed again" : "Make this page a slow reader");
  slowNote();
});
$("cut").addEventListener("click", () => {
  seen.cuts += 1;
  cut();
});

// -------------------------------------------------------------------------------------------------------- answers

let run = null;
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (run) return void run.cancel();
  const prompt = $("ask").value.trim() || $("ask").placeholder;
  act(() => answer(umbel.run("ai_chat_request", { conversationId: page, prompt })));
});

async function answer(started) {
  const box = $("answer");
  run = started;
  box.textContent = "";
  write("send", "Stop");
  box.classList.add("streaming");
  try {
    for await (const text of run) {
      const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
      box.append(text);
      if (atEnd) box.scrollTop = box.scrollHeight;
    }
    if (run.status === "cancelled") box.append(" [stopped]");
    else if (run.status !== "complete") box.append(run.incident ? ` [failed, incident ${run.incident}]` : ` [${run.status}]`);
  } finally {
    run = null;
    write("send", "Send");
    box.classList.remove("streaming");
  }
}

// -------------------------------------------------------------------------------------------------------- state

function show(is, text) {
  $("state").dataset.is = is;
  write("state", text);
}

umbel.on("connection", ({ state, code, reason, failing }) => {
  if (state === "connected") {
    show(slow ? "slow" : "live", slow ? "Reading slowly" : "Live");
    greet();
  } else if (state === "waiting") {
    show("off", failing ? "No server" : "Reconnecting");
  } else if (state === "closed") {
    show("off", `Closed: ${code}${reason ? `, ${reason}` : ""}`);
    toast("The server asked this page not to come back. Reload to try again.");
  } else if (!seen.updates) show("wait", "Connecting");
});
