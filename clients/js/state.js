/**
 * Shared state: a map that all subscribers of a channel have. umbel.js loads this file when a page asks for a state; docs/states.md
 * describes how it is used.
 *
 * @module
 */

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * The value that a JSON merge patch (RFC 7396) makes of another one. Neither of the two is changed. Objects are made of entries:
 * `__proto__` is a name as others.
 *
 * @type {(target: unknown, patch: unknown) => unknown}
 */
export const mergePatch = (target, patch) => {
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name);
    else merged.set(name, mergePatch(merged.get(name), value));
  }
  return Object.fromEntries(merged);
};
