// The plots: lines of what was measured, and bars of what has arrived.

import { count } from "./text.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

const colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["a", "b", "c", "d", "e", "f", "fold", "bad", "grid", "faint", "soft", "line", "card"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
}
dark.addEventListener("change", readColours);
readColours();
export const palette = ["a", "b", "c", "d", "e", "f"];

class Surface {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.width = this.height = 0;
    new ResizeObserver(() => this.fit()).observe(canvas);
    this.fit();
  }
  fit() {
    const scale = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    this.width = clientWidth;
    this.height = clientHeight;
    this.canvas.width = Math.round(clientWidth * scale);
    this.canvas.height = Math.round(clientHeight * scale);
    this.scale = scale;
  }
  begin() {
    if (this.scale !== (window.devicePixelRatio || 1)) this.fit();
    const { context } = this;
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    return context;
  }
  grid(context, top, bottom, labels) {
    context.lineWidth = 1;
    labels.forEach(([part, label], index) => {
      const y = Math.round(bottom - part * (bottom - top)) + 0.5;
      context.strokeStyle = index === 0 ? colours.line : colours.grid;
      context.beginPath(); context.moveTo(0, y); context.lineTo(this.width, y); context.stroke();
      if (label) { context.fillStyle = colours.faint; context.textAlign = "left"; context.fillText(label, 16, y - 4); }
    });
  }
}

// A number that follows another without jumps.
class Eased {
  constructor(value) { this.value = value; }
  to(target, elapsed) {
    this.value = calm.matches ? target : this.value + (target - this.value) * (1 - Math.exp(-elapsed / 180));
    return this.value;
  }
}

const SPAN = 20000;
export class Lines extends Surface {
  constructor(canvas, { least, label, from = 0, fixed = null, zoom = false }) {
    super(canvas);
    Object.assign(this, { least, label, fixed, zoom, series: new Map() });
    this.low = new Eased(from);
    this.high = new Eased(least);
  }
  push(name, at, value) {
    let points = this.series.get(name);
    if (!points) this.series.set(name, points = []);
    points.push(at, value);
    if (points.length > 4000) points.splice(0, 2000);
  }
  hole() { for (const points of this.series.values()) points.push(points[points.length - 2] ?? 0, NaN); }
  draw(now, elapsed) {
    const context = this.begin();
    const [top, bottom, left, right] = [18, this.height - 6, 0, this.width];
    let [low, high] = [Infinity, -Infinity];
    for (const points of this.series.values()) {
      for (let index = points.length - 2; index >= 0 && points[index] > now - SPAN; index -= 2) {
        low = Math.min(low, points[index + 1] || low);
        high = Math.max(high, points[index + 1] || high);
      }
    }
    if (!Number.isFinite(high)) [low, high] = [0, this.least];
    if (this.zoom) {
      const room = Math.max(this.least - (high - low), (high - low) * 0.2) / 2;
      [low, high] = [low - room, high + room];
    } else [low, high] = [0, this.fixed ?? Math.max(this.least, high * 1.1)];
    low = this.low.to(low, elapsed);
    high = this.high.to(high, elapsed);
    this.grid(context, top, bottom, [[0, ""], [0.5, ""], [1, this.label(high)]]);
    const x = (at) => left + (right - left) * (1 - (now - at) / SPAN);
    const y = (value) => bottom - (bottom - top) * Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
    context.lineJoin = context.lineCap = "round";
    const many = this.series.size > 8;
    let number = 0;
    for (const points of this.series.values()) {
      const colour = colours[palette[number % palette.length]];
      number += 1;
      let first = points.length - 2;
      while (first > 0 && points[first] > now - SPAN) first -= 2;
      if (first < 0) continue;
      const path = new Path2D();
      let [pen, start, end] = [false, 0, 0];
      for (let index = first; index < points.length; index += 2) {
        if (Number.isNaN(points[index + 1])) { pen = false; continue; }
        const at = x(points[index]);
        if (pen) path.lineTo(at, y(points[index + 1]));
        else { path.moveTo(at, y(points[index + 1])); if (!start) start = at; }
        pen = true;
        end = at;
      }
      context.globalAlpha = many ? 0.45 : 1;
      context.strokeStyle = colour;
      context.lineWidth = many ? 1 : 1.6;
      context.stroke(path);
      if (number === 1 && !many && points.length > 3) {
        path.lineTo(end, bottom); path.lineTo(start, bottom);
        const fill = context.createLinearGradient(0, top, 0, bottom);
        fill.addColorStop(0, colour); fill.addColorStop(1, colours.card);
        context.globalAlpha = 0.14;
        context.fillStyle = fill;
        context.fill(path);
      }
      context.globalAlpha = 1;
    }
  }
}

const HERO_SPAN = 8000;
export class Bars extends Surface {
  constructor(canvas, bars) {
    super(canvas);
    this.bars = bars;
    this.high = new Eased(8);
  }
  draw(now, elapsed) {
    const context = this.begin();
    const { bars } = this;
    const [top, bottom] = [22, this.height - 8];
    let first = bars.length;
    let high = 6;
    while (first > 0 && bars[first - 1].at > now - HERO_SPAN - 100) {
      first -= 1;
      const bar = bars[first];
      if (!bar.gap) high = Math.max(high, bar.machine + bar.load + bar.folded);
    }
    high = this.high.to(high * 1.08, elapsed);
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((size) => high / size <= 4) ?? 20000;
    const labels = [[0, ""]];
    for (let value = step; value <= high; value += step) labels.push([value / high, count(value)]);
    this.grid(context, top, bottom, labels);
    const wide = bars.length - first < 40 ? 6 : this.width < 500 ? 2 : 2.5;
    for (let index = first; index < bars.length; index += 1) {
      const bar = bars[index];
      const x = this.width * (1 - (now - bar.at) / HERO_SPAN);
      if (bar.gap) {
        context.fillStyle = colours.bad;
        context.fillRect(x - 1, top - 8, 2, bottom - top + 8);
        continue;
      }
      let y = bottom;
      for (const [part, colour] of [[bar.machine, colours.a], [bar.load, colours.b], [bar.folded, colours.fold]]) {
        const height = (part / high) * (bottom - top);
        if (height > 0) { context.fillStyle = colour; context.fillRect(x - wide / 2, y - height, wide, height); y -= height; }
      }
    }
  }
}

/** Draws all of them with each frame. */
export const plots = [];
let drawn = 0;
function frame(now) {
  const elapsed = now - drawn;
  if (!calm.matches || elapsed >= 500) {
    drawn = now;
    for (const plot of plots) plot.draw(now, Math.min(elapsed, 1000));
  }
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
