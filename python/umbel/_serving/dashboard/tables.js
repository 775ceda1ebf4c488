// The tables. Rows are used again, and cells written only when they change.

import { GAPS, limits } from "./answers.js";
import { sum } from "./history.js";
import { $, bytes, count, name, NONE, percent, plural, short, span, write } from "./text.js";

/** Puts rows into the body of a table; the first cell of each is its header. A cell is a text, or `{ name }` from outside. */
function fill(id, rows, empty) {
  const body = $(id).tBodies[0];
  const wide = $(id).tHead.rows[0].cells.length;
  if (!rows.length) rows = [[empty]];
  rows.forEach((cells, index) => {
    let row = body.rows[index];
    if (row?.cells.length !== cells.length) {
      const fresh = document.createElement("tr");
      cells.forEach((_, column) => {
        const cell = document.createElement(column || cells.length === 1 ? "td" : "th");
        if (cells.length === 1) cell.colSpan = wide;
        else if (!column) cell.scope = "row";
        fresh.append(cell);
      });
      if (row) row.replaceWith(fresh); else body.append(fresh);
      row = fresh;
    }
    cells.forEach((text, column) => write(row.cells[column], text));
  });
  while (body.rows.length > rows.length) body.deleteRow(-1);
}

/** Puts values into a list of facts, in the order of the page. */
function facts(id, values) {
  const places = $(id).querySelectorAll("dd");
  values.forEach((value, index) => write(places[index], value));
}

const words = (label) => label.replaceAll("_", " ");

export function showTables(view) {
  const { now, kept, lately } = view;
  fill("channels", (now.channels ?? []).map((it) => [name(it.name), count(it.readers), short(it.rate), bytes(it.bytes)]), "No channel has a log.");
  fill("slowest", (now.slow ?? []).map((it) => [
    name(it.subject || it.client), it.subject ? name(it.client) : NONE, it.channels > 1 ? `${name(it.channel)} and ${plural(it.channels - 1, "other")}` : name(it.channel),
    count(it.lag), span(it.age), span(it.stalled), bytes(it.buffered),
  ]), "Nobody is behind.");
  fill("gaps", Object.keys({ ...GAPS, ...now.gaps }).map((reason) => [
    words(reason), count(lately.gaps?.[reason] ?? 0), count(kept.gaps?.[reason] ?? 0), count(now.gaps?.[reason] ?? 0), GAPS[reason] ?? "",
  ]));
  const ends = [["refused", "refused"], ["closed", "closed"]].flatMap(([key, what]) => Object.entries(now[key] ?? {})
    .filter(([, value]) => value > 0)
    .map(([reason, value]) => [words(reason), what, kept[key]?.[reason] ?? 0, value]));
  ends.sort((one, other) => other[2] - one[2] || other[3] - one[3]);
  fill("ends", ends.map(([reason, what, few, all]) => [reason, what, count(few), count(all)]), "No connection has ended.");
  const rest = now.shardsLeftOut ? [[`And ${count(now.shardsLeftOut)} more.`]] : [];
  fill("shards", [...view.shards.map((it, index) => [
    String(index), count(it.connections), short(it.rates?.delivered), short(it.rates?.frames), bytes(it.rates?.bytesSent),
    percent(it.busy), span(it.lag),
  ]), ...rest], "Unknown.");
  const functions = [...(now.python?.slowest ?? [])].sort((one, other) => other.seconds - one.seconds);
  fill("functions", functions.map((it) => [
    name(it.name), count(it.calls), span((1000 * it.seconds) / Math.max(1, it.calls)), span(it.max), span(1000 * it.seconds),
  ]), "No function has been called.");

  const python = now.python ?? {};
  facts("python", [
    count(python.queueEvents), bytes(python.queueBytes), span(python.queueAge), count(python.running), count(python.called), percent(view.python),
  ]);
  facts("back", [
    count(now.python?.runs), count(now.sessionsAway), count(kept.recovered), count(kept.unrecovered), count(now.recovered), count(now.unrecovered),
    `${count(sum(kept.gaps))} (${count(kept.lost)})`, count(now.trimmed),
  ]);
  fill("limits", limits(now).map(({ what, used, of, part, setting, write: say }) => [what, say(used), say(of), percent(part), setting]), "Unknown.");
  facts("process", [
    now.version ?? NONE, String(now.pid ?? NONE), span(1000 * now.uptimeSeconds), bytes(now.process?.residentBytes), percent(view.processor),
    count(now.logs), count(now.logLinesDropped), count(now.panics),
  ]);
}
