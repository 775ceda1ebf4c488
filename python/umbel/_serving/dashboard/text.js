// Numbers and names as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** What stands where nothing is known. */
export const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export const count = (value) => (isNumber(value) ? whole.format(value) : NONE);

/** Three digits are enough for a rate: 3.44, 512, 12.3k, 4.56M. */
function scaled(value, units) {
  if (!isNumber(value)) return NONE;
  let unit = 0;
  while (value >= 999.5 && unit < 4) { value /= 1000; unit += 1; }
  return digits.format(value) + units[unit];
}
export const short = (value) => scaled(value, ["", "k", "M", "G", "T"]);
export const bytes = (value) => scaled(value, [" B", " kB", " MB", " GB", " TB"]);

export const percent = (part) => (isNumber(part) ? `${part > 0 && part < 0.01 ? tenths.format(part * 100) : whole.format(part * 100)} %` : NONE);

export const times = (value) => (isNumber(value) ? `${tenths.format(value)}×` : NONE);

/** Milliseconds. */
export function span(value) {
  if (!isNumber(value)) return NONE;
  if (value < 9.95) return `${tenths.format(value)} ms`;
  if (value < 999.5) return `${whole.format(value)} ms`;
  const seconds = value / 1000;
  if (seconds < 99.5) return `${tenths.format(seconds)} s`;
  const parts = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]].filter(([size]) => seconds >= size);
  const [[size, unit], next] = parts;
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** The time of day here, of Unix milliseconds. */
export const moment = (time) => clock.format(time);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A name from outside: cut, and without characters that are not seen or turn the text around them. The server does both, too. */
export function name(value) {
  const all = String(value ?? NONE);
  const text = all.slice(0, 128).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (letter) => `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}`);
  return all.length > 128 ? `${text}…` : text;
}

/** Writes only what is different: the page stays still, and so do those who read it aloud. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const $ = (id) => document.getElementById(id);
