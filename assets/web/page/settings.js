// The settings, kept in localStorage: the system prompt, how tokens are chosen, and the last model.

import { $ } from "./dom.js";

const KEY = "firelight-settings";
/** The fields of the dialog, by their ids: their option of `chat`, or null. */
const NUMBERS = {
  temperature: "temperature",
  "top-k": "topK",
  "top-p": "topP",
  "min-p": "minP",
  "repetition-penalty": "repetitionPenalty",
  seed: "seed",
  "max-tokens": "maxTokens",
};
const FIELDS = ["system", "reasoning", "context", ...Object.keys(NUMBERS)];

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // there are none, or the browser keeps nothing here
  }
}

/** Changes some settings. */
export function keep(changes) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...read(), ...changes }));
  } catch {
    // They last until the page is left.
  }
}

/** The last model: `{source, name}`. */
export const lastModel = () => read().model;

/** Fills the dialog, and keeps what is changed in it. */
export function bindSettings() {
  const fill = (values) => FIELDS.forEach((id) => ($(id).value = values[id] ?? ""));
  fill(read());
  for (const id of FIELDS) {
    $(id).addEventListener("change", () => $(id).validity.valid && keep({ [id]: $(id).value || undefined }));
  }
  $("defaults").onclick = () => {
    keep(Object.fromEntries(FIELDS.map((id) => [id, undefined])));
    fill({});
  };
  // Another tab has changed them.
  addEventListener("storage", ({ key }) => key === KEY && fill(read()));
}

export const systemPrompt = () => $("system").value.trim();

/** The options of `chat`. Empty fields mean the defaults. */
export function chatOptions() {
  const options = {};
  for (const [id, option] of Object.entries(NUMBERS)) {
    const { value, valueAsNumber, validity } = $(id);
    if (value !== "" && validity.valid) options[option] = valueAsNumber;
  }
  const reasoning = $("reasoning").value;
  if (reasoning) options.reasoning = reasoning === "on";
  return options;
}

/** The options of `load`. */
export function loadOptions() {
  const { value, valueAsNumber, validity } = $("context");
  return value !== "" && validity.valid ? { context: valueAsNumber } : {};
}
