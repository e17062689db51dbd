// Checks options by name. An unknown one is an error that names the nearest known one; so is one of the wrong kind.

import { FirelightError } from "./errors.js";

/** Kinds of values: a test, and what to pass. */
const KINDS = {
  number: [Number.isFinite, "a number"],
  count: [(value) => Number.isSafeInteger(value) && value >= 0, "an integer that is not negative"],
  flag: [(value) => typeof value === "boolean", "true or false"],
  text: [(value) => typeof value === "string", "a text"],
  texts: [(value) => [value].flat().every((text) => typeof text === "string"), "a text or a list of texts"],
  list: [Array.isArray, "a list"],
  object: [(value) => typeof value === "object" && !Array.isArray(value), "an object"],
  function: [(value) => typeof value === "function", "a function"],
  signal: [(value) => typeof value.addEventListener === "function", "an AbortSignal"],
  any: [() => true, ""],
};

/**
 * Checks `options` of `what` against `known`, which maps names to kinds. Null and undefined count as absent. Returns
 * the options that are given.
 * @throws "bad-argument", for the first option that is unknown or of another kind.
 */
export function check(what, options, known) {
  options ??= {};
  if (typeof options !== "object" || Array.isArray(options)) refuse(`The options of ${what} must be an object.`);
  const given = Object.entries(options).filter(([, value]) => value != null);
  for (const [name, value] of given) {
    if (!Object.hasOwn(known, name)) unknown(what, name, Object.keys(known));
    const [fits, kind] = KINDS[known[name]];
    if (!fits(value)) refuse(`${name} must be ${kind}, not ${shown(value)}.`);
  }
  return Object.fromEntries(given);
}

/** @throws "bad-argument" */
export function refuse(message, hint) {
  throw new FirelightError("bad-argument", message, hint);
}

function unknown(what, name, known) {
  const near = nearest(name, known);
  const end = near ? `; did you mean ${near}?` : ".";
  refuse(`${what} has no option ${name}${end}`, `The options are ${known.join(", ")}.`);
}

/** The known name that is most like `name`, or begins with it; null if none does. */
function nearest(name, known) {
  const plain = (text) => text.toLowerCase().replaceAll("_", "");
  const edits = (other) => (other.startsWith(plain(name)) ? 1 : distance(plain(name), other));
  const ranked = known.map((other) => [edits(plain(other)), other]).sort(([a], [b]) => a - b);
  const [least, other] = ranked[0];
  return least <= Math.max(1, name.length / 3) ? other : null;
}

/** The number of characters to insert, delete or replace. */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min(row[j + 1] + 1, next[j] + 1, row[j] + (a[i] === b[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}

function shown(value) {
  if (typeof value === "string") return JSON.stringify(value);
  return Array.isArray(value) ? "a list" : typeof value === "object" ? "an object" : String(value);
}
