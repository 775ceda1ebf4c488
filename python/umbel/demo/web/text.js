// What is written on the page: numbers as people read them.

export const $ = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const count = (value) => whole.format(value);
export const short = (value) => (value < 1e6 ? count(value) : value < 1e9 ? `${(value / 1e6).toFixed(2)}M` : `${(value / 1e9).toFixed(2)}G`);
export const millis = (value) => (value < 10 ? value.toFixed(1) : count(value));
export const percent = (value) => `${Math.round(value * 100)} %`;
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 999.5 && unit < 4) { value /= 1000; unit += 1; }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
export function quantiles(values, ...wanted) {
  const sorted = Float64Array.from(values).sort();
  return wanted.map((part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]);
}
export function write(id, text) {
  const element = typeof id === "string" ? $(id) : id;
  if (element.textContent !== text) element.textContent = text;
}

/** The page has grown above the place that its address names. */
export const keepPlace = () => { if (location.hash) $(location.hash.slice(1))?.scrollIntoView(); };

let toastTimer = 0;
export function toast(text) {
  write("toast", text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => write("toast", ""), 5000);
}
