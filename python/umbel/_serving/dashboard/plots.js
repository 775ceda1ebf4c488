// The plots of the last minutes: lines by uPlot, and the heat strip. All show the same seconds, and the same moment when somebody looks back.

import { quantile, SPAN } from "./history.js";
import { bytes, count, moment, percent, short, span, times, write } from "./text.js";

/**
 * Each figure: its title, how values are written, and its lines: column, name, and whether the area below is filled. What is written in
 * another way has no line.
 */
const FIGURES = [
  ["Connections and sessions", count, [["connections", "open", true], ["away", "sessions away"], ["blocked", "not reading"]]],
  ["Into Umbel, per second", short, [["publications", "publications", true], ["received", "messages from clients"]]],
  ["Out of Umbel, per second", short, [["delivered", "updates", true], ["frames", "frames"]]],
  ["Lost, per second", short, [["lost", "publications", true], ["gaps", "gaps"], ["refused", "connections refused"]]],
  ["Tick, worst of 100", span, [["lag99", "lag", true], ["duration99", "duration"]]],
  ["Processor, of one core", percent, [["processor", "process", true], ["busiest", "busiest shard"], ["python", "Python"]]],
  ["Python’s queue", count, [["queue", "events that wait", true]]],
  ["Bytes to clients, per second", bytes, [["payload", "as JSON", true], ["sent", "on the network"], ["ratio", "compression", false, times]]],
  ["Memory", bytes, [["memory", "process", true], ["logs", "logs"]]],
];

const COLOURS = ["a", "b", "c"];

/** CSS pixels: left of the plots for the labels, right of them, and their height. */
const GUTTER = 52;
const EDGE = 16;
const HEIGHT = 132;

/** Milliseconds, bounds of buckets: what is above is a matter for concern, or is seen by everybody. */
const CONCERN = 132;
const SEEN = 1049;

/** The least that is shown, so that the first seconds do not jump. */
const SHORTEST = 60;

export function createPlots(place, strip, onLook) {
  const palette = {};
  const readPalette = () => {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["a", "b", "c", "soft", "grid", "card", "ok", "warn", "bad"]) palette[name] = style.getPropertyValue(`--${name}`).trim();
  };
  readPalette();

  let history = null;
  /** Seconds before the newest, where somebody looks; `null` for now. */
  let back = null;
  const range = () => {
    const last = history?.at.at(-1) ?? 0;
    const first = history?.at[0] ?? 0;
    return [last - Math.min(SPAN, Math.max(SHORTEST, last - first)), last];
  };
  /** With so few minutes the labels have seconds, and one at the end would not fit. */
  const isShort = () => range()[1] - range()[0] < 240;
  const hour = (tick) => {
    if (!isShort()) return tick % 60 ? "" : moment(tick * 1000).slice(0, 5);
    const [from, to] = range();
    return to - tick < (to - from) / 12 ? "" : moment(tick * 1000);
  };
  const at = (index) => history.at[index];
  /** The index that is looked at. */
  const looked = () => {
    const { length } = history.at;
    if (back === null) return length - 1;
    const wanted = history.at[length - 1] - back;
    const index = history.at.findIndex((moment) => moment >= wanted - 0.5);
    return index < 0 ? length - 1 : index;
  };
  const lookAt = (left, width) => {
    if (!history?.at.length) return;
    const [from, to] = range();
    back = left === null ? null : (to - from) * (1 - Math.min(1, Math.max(0, left / width)));
    show();
  };
  const follow = (element, begin = 0, end = 0) => {
    element.addEventListener("pointermove", (event) => lookAt(event.offsetX - begin, element.clientWidth - begin - end));
    element.addEventListener("pointerleave", () => lookAt(null));
  };

  const figures = FIGURES.map(([title, words, lines], number) => {
    const figure = build("figure", "plot");
    const caption = build("figcaption", "", figure);
    write(build("h3", "", caption), title);
    const legend = build("p", "legend", caption);
    const values = lines.map(([, name], index) => {
      const entry = build("span", lines[index][3] ? "" : COLOURS[index], legend);
      entry.append(`${name} `);
      return build("b", "", entry);
    });
    const canvas = build("div", "lines", figure);
    const summary = build("p", "unseen", figure);
    summary.id = `plot-${number}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-labelledby", summary.id);
    place.append(figure);
    return { title, words, lines, plot: null, canvas, values, summary };
  });

  /** Makes the plot of a figure, which takes some milliseconds. */
  function createPlot({ words, lines, canvas }) {
    const axis = { stroke: () => palette.soft, grid: { stroke: () => palette.grid, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const plot = new uPlot({
      width: Math.max(200, canvas.clientWidth), height: HEIGHT, legend: { show: false }, padding: [8, EDGE, 0, 0],
      // The moment is set for all plots at once, also by the keyboard.
      cursor: { x: true, y: false, drag: { x: false, y: false }, points: { size: 6 }, bind: Object.fromEntries(["mousedown", "mouseup", "mousemove", "mouseenter", "mouseleave", "click", "dblclick"].map((name) => [name, () => null])) },
      scales: { x: { range }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, words === percent ? 0.1 : 2) * 1.05] } },
      axes: [
        { ...axis, size: 24, space: () => (isShort() ? 64 : 40), values: (_, ticks) => ticks.map(hour) },
        { ...axis, size: GUTTER, space: 34, gap: 6, values: (_, ticks) => ticks.map(words === count ? short : words) },
      ],
      series: [{}, ...lines.map(([,, isFilled], index) => ({
        show: !lines[index][3], stroke: () => palette[COLOURS[index]], width: 1.5, points: { show: false },
        fill: isFilled ? () => `${palette[COLOURS[index]]}22` : undefined,
      }))],
    }, [[], ...lines.map(() => [])], canvas);
    follow(plot.over);
    new ResizeObserver(() => {
      if (canvas.clientWidth && canvas.clientWidth !== plot.width) plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
    }).observe(canvas);
    return plot;
  }

  const paper = strip.querySelector("canvas").getContext("2d");
  follow(paper.canvas, GUTTER, EDGE);
  new ResizeObserver(() => history && drawStrip()).observe(paper.canvas);

  // -------------------------------------------------------------------------------------------------------- the heat strip

  function drawStrip() {
    const { canvas } = paper;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    paper.setTransform(scale, 0, 0, scale, 0, 0);
    paper.clearRect(0, 0, width, height);
    const { bounds, heat } = history;
    if (!bounds.length) return;
    const [from, to] = range();
    const x = (moment) => GUTTER + ((moment - from) / (to - from)) * (width - GUTTER - EDGE);
    const rows = bounds.length + 1;
    const tall = height / rows;
    heat.forEach((counts, index) => {
      const total = counts?.reduce((all, value) => all + value, 0);
      if (!total || at(index) < from) return;
      const left = x(Math.max(from, index ? at(index - 1) : from));
      counts.forEach((value, row) => {
        if (!value) return;
        const bound = bounds[Math.min(row, bounds.length - 1)];
        paper.fillStyle = palette[bound <= CONCERN ? "ok" : bound <= SEEN ? "warn" : "bad"];
        // Rare ones must be seen: a few late deliveries among thousands are what somebody looks for.
        paper.globalAlpha = 0.3 + 0.7 * Math.sqrt(value / total);
        paper.fillRect(left, height - (row + 1) * tall, Math.max(1, x(at(index)) - left - (width > 900 ? 0.5 : 0)), tall - 0.5);
      });
    });
    paper.globalAlpha = 1;
    paper.font = "11px system-ui, sans-serif";
    paper.textAlign = "right";
    paper.textBaseline = "middle";
    paper.lineWidth = 1;
    for (const mark of [1, 10, 100, 1000, 10_000]) {
      const row = bounds.findIndex((bound) => bound >= mark);
      if (row < 0) continue;
      const y = Math.round(height - (row + 1) * tall) + 0.5;
      paper.fillStyle = palette.soft;
      paper.fillText(span(mark), GUTTER - 6, Math.max(6, y));
      paper.strokeStyle = palette.grid;
      paper.beginPath(); paper.moveTo(GUTTER, y); paper.lineTo(width - EDGE, y); paper.stroke();
    }
    if (back !== null) {
      paper.strokeStyle = palette.soft;
      const here = Math.round(x(at(looked()))) + 0.5;
      paper.beginPath(); paper.moveTo(here, 0); paper.lineTo(here, height); paper.stroke();
    }
  }

  // ------------------------------------------------------------------------------------------------------------ all of them

  /** Shows the values of the moment that is looked at. */
  function show() {
    const index = looked();
    for (const { plot, lines, words, values } of figures) {
      lines.forEach(([column,,, say = words], line) => write(values[line], say(history.columns[column][index])));
      const left = back === null ? -10 : plot?.valToPos(at(index), "x");
      plot?.setCursor({ left, top: back === null ? -10 : 1 }, false);
    }
    const counts = history.heat[index];
    const of = (part) => span(quantile({ bounds: history.bounds, counts }, part));
    const isAny = counts?.some((value) => value > 0);
    write(strip.querySelector("b"), isAny ? `half within ${of(0.5)}, 95 % within ${of(0.95)}, 99 % within ${of(0.99)}` : "nothing was delivered");
    drawStrip();
    onLook(1000 * at(index), back === null ? null : history.at.at(-1) - at(index));
  }

  function drawFigure(figure) {
    const { lines, words, title, summary } = figure;
    figure.plot ??= createPlot(figure);
    const columns = lines.map(([column]) => history.columns[column]);
    // At once, and not after all other figures.
    figure.plot.batch(() => figure.plot.setData([history.at, ...columns]));
    const says = lines.map(([, name,, say = words], line) => {
      const known = columns[line].filter((value) => value !== null);
      return known.length ? `${name} now ${say(known.at(-1))}, from ${say(Math.min(...known))} to ${say(Math.max(...known))}` : `${name} unknown`;
    });
    write(summary, `${title}, last ${span(1000 * (history.at.at(-1) - history.at[0]))}: ${says.join("; ")}.`);
  }

  return {
    /** What there is to do to draw it: steps of a few milliseconds. */
    steps(of) {
      history = of;
      return [...figures.map((figure) => () => drawFigure(figure)), () => {
        write(strip.querySelector(".unseen"), summaryOf(history));
        show();
      }];
    },
    /** Look at so many seconds before now; `null` for now. */
    look(seconds) {
      back = seconds;
      if (history?.at.length) show();
    },
    recolour() {
      readPalette();
      for (const { plot } of figures) plot?.redraw(false);
      if (history?.at.length) drawStrip();
    },
  };
}

function summaryOf({ heat, bounds, columns }) {
  const slowest = Math.max(...heat.map((counts) => counts?.findLastIndex((value) => value > 0) ?? -1));
  if (slowest < 0) return "Time from publish to the write to the socket: nothing was delivered.";
  const halves = columns.late50.filter((value) => value !== null);
  const within = slowest < bounds.length ? `within ${span(bounds[slowest])}` : `after more than ${span(bounds.at(-1))}`;
  return `Time from publish to the write to the socket: half of the deliveries within ${span(halves.at(-1) ?? NaN)} now; the slowest of all shown ${within}.`;
}

function build(kind, className, into) {
  const element = document.createElement(kind);
  if (className) element.className = className;
  into?.append(element);
  return element;
}
