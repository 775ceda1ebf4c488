// The dashboard: puts the stream of snapshots, the answers, the plots and the tables together.

import { judge, settle, worst } from "./answers.js";
import { follow } from "./feed.js";
import { History, isSame, time } from "./history.js";
import { createPlots } from "./plots.js";
import { showTables } from "./tables.js";
import { $, moment, span, write } from "./text.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Seconds between two drawings of the plots for people who want no motion. */
const SELDOM = 5;

/** Milliseconds of a frame that may be used, and one step more. */
const FRAME = 6;

// Observers of sizes have complaints without an error.
addEventListener("error", ({ error }) => { if (error) write($("why"), `This page has a bug: ${error.message}`); });

let history = new History();
let view = null;
let shown = {};
let lost = null;
/** When the plots were drawn last: seconds of the server's clock. */
let drawn = -Infinity;

const slider = $("slider");
const plots = createPlots($("plots"), $("strip"), (at, back) => write($("moment"), back === null ? "now" : `${moment(at)}, ${span(1000 * Math.round(back))} ago`));
slider.addEventListener("input", () => {
  plots.look(slider.value === "0" ? null : -slider.value);
  // Not each second: it would be read aloud.
  slider.setAttribute("aria-valuetext", $("moment").textContent);
});
dark.addEventListener("change", plots.recolour);

// ------------------------------------------------------------------------------------------------------------ what comes

const feed = follow("stats", {
  onSnapshot(snapshot) {
    const before = history.last;
    if (before && !isSame(before, snapshot)) {
      history = new History();
      shown = {};
      drawn = -Infinity;
      notice(`The server has started again, at ${moment(snapshot.started)}: process ${before.pid} is now ${snapshot.pid}. The plots begin anew.`);
    }
    history.add(snapshot);
    view = history.view();
    for (const [question, found] of Object.entries(judge(view))) shown[question] = settle(shown[question], found, time(snapshot));
    title();
    draw();
  },
  onState({ is, why, wrong }) {
    document.body.dataset.is = is;
    $("ask").hidden = is !== "token";
    if (is === "token") {
      $("content").hidden = true;
      [history, view, shown, steps, isStale] = [new History(), null, {}, [], false];
    }
    if (is === "live" && lost) history.hole();
    if (is === "lost") lost ??= Date.now(); else if (is !== "connecting") lost = null;
    write($("state"), { connecting: "Connecting", live: "Live", token: "Token needed", lost: `Not reachable since ${moment(lost)}` }[is]);
    write($("why"), is === "lost" ? `${why[0].toUpperCase()}${why.slice(1)}. ${history.last ? "What is here was so then. " : ""}Asking again each second.` : "");
    if (is === "token") {
      write($("wrong"), wrong);
      $("token").value = "";
      $("token").focus();
    }
    title();
  },
});

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  feed.enter($("token").value);
});

function notice(text) {
  write($("notice"), text);
  setTimeout(() => { if ($("notice").textContent === text) write($("notice"), ""); }, 300_000);
}

/** The tab says it, too: it may be one of many. */
function title() {
  const answers = Object.values(shown);
  const level = worst(answers);
  const says = lost ? "Not reachable" : level === "good" ? "" : `${{ fault: "", slow: "Slow: ", lost: "Lost: " }[first(level)]}${shown[first(level)].verdict.replace(/\.$/, "")}`;
  document.title = says ? `${lost || level === "bad" ? "✕" : "!"} ${says} · Umbel` : "Umbel";
}

const first = (level) => ["fault", "lost", "slow"].find((question) => shown[question].level === level);

// ---------------------------------------------------------------------------------------------------------- what is seen

/** What is left to do of what is being drawn, and whether newer things have come. A step that returns `true` needs the rest of its frame. */
let steps = [];
/** Parts of the page that come into sight one after another: to lay out all of them takes too long for one frame. */
const parts = [...$("content").children];
let isStale = false;
let isDrawing = false;

/** Draws what has come until then, some of it in each frame. Nothing is drawn that nobody sees. */
function draw() {
  if (!view || document.hidden) return;
  isStale = true;
  if (!isDrawing) requestAnimationFrame(frame);
  isDrawing = true;
}

function frame() {
  isDrawing = false;
  if (document.hidden) return;
  const end = performance.now() + FRAME;
  if (!steps.length && isStale) {
    isStale = false;
    steps = [showFigures, ...parts.filter(({ hidden }) => hidden).map((part) => () => { part.hidden = false; return true; })];
    if (!(calm.matches && time(view.now) - drawn < SELDOM)) {
      drawn = time(view.now);
      steps.push(...plots.steps(history));
    }
  }
  while (steps.length && performance.now() < end && !steps.shift()());
  isDrawing = steps.length > 0 || isStale;
  if (isDrawing) requestAnimationFrame(frame);
}

function showFigures() {
  $("content").hidden = false;
  for (const [question, { level, verdict, detail, since }] of Object.entries(shown)) {
    const place = $(question);
    place.dataset.level = level;
    write(place.querySelector(".verdict"), verdict);
    write(place.querySelector(".detail"), detail);
    write(place.querySelector(".since"), level === "good" ? "" : `Since ${moment(since * 1000)}`);
  }
  const { version, pid, uptimeSeconds, draining } = view.now;
  write($("about"), `${version} · process ${pid} · ${draining ? "it is stopping" : `up ${span(1000 * uptimeSeconds)}`}`);
  showTables(view);
}
document.addEventListener("visibilitychange", draw);
