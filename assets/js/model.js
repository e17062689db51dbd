// A loaded model: starts the engine and sends it commands. firelight.d.ts documents all types and options.

import { Answer } from "./answer.js";
import { available } from "./cache.js";
import { FirelightError } from "./errors.js";
import { fetchOver } from "./fetch.js";
import { filesOf, isDemo } from "./files.js";
import { loadAt, places } from "./link.js";
import { OpenAI } from "./openai.js";
import { check, refuse } from "./options.js";

/** The engine's options. */
const ENGINE = { context: "count", kv: "text", tier: "text", tune: "flag", sequences: "count", runAhead: "count" };
const LOAD = {
  ...ENGINE,
  onProgress: "function",
  onNotice: "function",
  signal: "signal",
  where: "text",
  cache: "flag",
  headers: "object",
  hub: "text",
};
const FIT = { context: "count", kv: "text", sequences: "count", signal: "signal", cache: "flag", headers: "object", hub: "text" };
const COMPLETE = {
  signal: "signal",
  temperature: "number",
  topK: "count",
  topP: "number",
  minP: "number",
  repetitionPenalty: "number",
  frequencyPenalty: "number",
  presencePenalty: "number",
  seed: "count",
  maxTokens: "count",
  stop: "texts",
  logitBias: "object",
  logprobs: "count",
  ignoreEnd: "flag",
  responseFormat: "object",
  onToken: "function",
};
const CHAT = {
  ...COMPLETE,
  tools: "list",
  toolChoice: "any",
  reasoning: "flag",
  onReasoning: "function",
  templateVariables: "object",
};

const SECRET = Symbol();

/** A model on a GPU; see firelight.d.ts. */
export class Firelight {
  #link;
  #notices;
  #client;
  #fetch;
  #closing = null;

  constructor(secret, link, info, notices) {
    if (secret !== SECRET) throw new TypeError("Use Firelight.load().");
    this.#link = link;
    this.#notices = notices;
    this.info = Object.freeze({ ...info, where: link.where });
  }

  static async load(source, options) {
    const given = check("load", options, LOAD);
    const { signal, onProgress, onNotice, where = "worker", cache = true, headers = {}, hub, ...engine } = given;
    signal?.throwIfAborted();
    if (!gpu()) throw new FirelightError("no-webgpu", noWebGpu());
    const files = await filesOf(source, { hub, headers, signal });
    const notices = [];
    const notice = (text) => {
      notices.push(text);
      onNotice?.(text);
    };
    if (where === "shared") engine.sequences ??= 2;
    // In a shared worker, pages share models with the same URLs; a Blob belongs to one page.
    const named = files.every((file) => typeof file === "string");
    const key = named ? JSON.stringify([files, engine, cache, headers]) : crypto.randomUUID();
    const command = { command: "load", key, files, options: { cache, headers, engine } };
    for (const [place, start, otherwise] of places(where, notice)) {
      try {
        const { link, info } = await loadAt(start, command, signal, (message) => {
          if (message.event === "progress") onProgress?.(message.progress);
          if (message.event === "notice") notice(message.text);
        });
        const { notices: more, ...facts } = info;
        more.forEach(notice);
        return new Firelight(SECRET, link, facts, notices);
      } catch (error) {
        const elsewhere = error.code === "no-webgpu" || (place === "shared" && error.code === "no-adapter");
        if (place === "main" || !elsewhere) throw isDemo(source) ? withoutDemo(error) : error;
        notice(otherwise);
      }
    }
  }

  static async fit(source, options) {
    const { signal, cache = true, headers = {}, hub, ...engine } = check("fit", options, FIT);
    signal?.throwIfAborted();
    if (!gpu()) throw new FirelightError("no-webgpu", noWebGpu());
    const files = await filesOf(source, { hub, headers, signal });
    const command = { command: "fit", files, options: { cache, headers, engine } };
    for (const [place, start] of places("worker", () => {})) {
      try {
        const { link, info } = await loadAt(start, command, signal, () => {});
        link.close(new FirelightError("destroyed", "The question was answered."));
        return info;
      } catch (error) {
        if (place === "main" || error.code !== "no-webgpu") throw error;
      }
    }
  }

  static async support() {
    const opfs = available();
    try {
      if (!gpu()) return { webgpu: false, reason: noWebGpu(), opfs };
      const adapter = await gpu().requestAdapter({ powerPreference: "high-performance" });
      if (!adapter) return { webgpu: false, reason: "The browser has WebGPU, but no usable GPU.", opfs };
      const { description, vendor, architecture } = adapter.info ?? {};
      const name = description || `${vendor ?? ""} ${architecture ?? ""}`.trim() || "the browser's GPU";
      const tier = adapter.features.has("subgroups") ? "subgroups" : "baseline";
      return { webgpu: true, adapter: name, tier, opfs };
    } catch (error) {
      return { webgpu: false, reason: error.message, opfs };
    }
  }

  get notices() {
    return this.#notices;
  }

  /** The model behind OpenAI's interface. */
  get client() {
    return (this.#client ??= new OpenAI(this));
  }

  /** OpenAI's HTTP interface, answered in the page: for libraries that take a `fetch`. */
  get fetch() {
    return (this.#fetch ??= fetchOver(this.client));
  }

  chat(messages, options) {
    return new Answer(this.#link, options, () => {
      check("chat", options, CHAT);
      // Tools that must not be called are not described to the model.
      const none = options?.toolChoice === "none" && { tools: null, toolChoice: null };
      return { messages: conversation(messages), date: today(), ...none };
    });
  }

  complete(prompt, options) {
    return new Answer(this.#link, options, () => {
      check("complete", options, COMPLETE);
      if (typeof prompt !== "string") refuse(`The prompt must be a text, not ${String(prompt)}.`);
      return { prompt };
    });
  }

  async embed(input, options) {
    const { signal } = check("embed", options, { signal: "signal" });
    const isTokens = (value) => Array.isArray(value) && value.length > 0 && value.every(Number.isInteger);
    const embed = (text) => {
      if (typeof text !== "string" && !isTokens(text)) refuse("embed takes a text, or a list of texts.");
      const request = typeof text === "string" ? { prompt: text } : { tokens: text };
      return this.#link.ask({ command: "embed", request }, { signal });
    };
    if (!Array.isArray(input) || isTokens(input)) return embed(input);
    return Promise.all(input.map(embed));
  }

  async tokenize(input, options) {
    const isText = typeof input === "string";
    const known = isText ? { special: "flag" } : { tools: "list", addGenerationPrompt: "flag" };
    const given = check("tokenize", options, known);
    const request = isText ? { prompt: input } : { messages: conversation(input), date: today() };
    return this.#link.ask({ command: "tokenize", request: { ...request, ...given } });
  }

  async detokenize(tokens) {
    return this.#link.ask({ command: "detokenize", tokens: [...tokens] });
  }

  destroy() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close() {
    const error = new FirelightError("destroyed", "The model was destroyed.");
    // A worker that does not respond is terminated after a second.
    const patience = new Promise((resolve) => setTimeout(resolve, 1000));
    const asked = (async () => this.#link.ask({ command: "destroy" }))();
    await Promise.race([asked.catch(() => {}), patience]);
    this.#link.close(error);
  }

  [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    return this.destroy();
  }
}

const gpu = () => globalThis.navigator?.gpu;

function noWebGpu() {
  if (!globalThis.location) return "There is no WebGPU outside of browsers.";
  return globalThis.isSecureContext === false
    ? "WebGPU is only for pages served by https, or from localhost."
    : "This browser has no WebGPU, or it is turned off.";
}

/** The error of loading the demo model. If it was not found, the hint says how to get it into a bundle. */
function withoutDemo(error) {
  if (!["http", "network", "bad-file"].includes(error.code)) return error;
  const hint = 'In a bundle, pass its address: `import demo from "firelight/demo"`, `Firelight.load(demo)`.';
  return new FirelightError(error.code, error.message, hint, { cause: error });
}

function conversation(messages) {
  const example = 'Pass [{ role: "user", content: "..." }].';
  if (!Array.isArray(messages)) refuse("messages must be a list of messages.", example);
  if (messages.length === 0) refuse("messages is an empty list.", example);
  const isEmpty = (message) => ["system", "developer", "user"].includes(message?.role) && message.content == null;
  if (messages.some(isEmpty)) refuse(`messages[${messages.findIndex(isEmpty)}] has no content.`, example);
  return messages;
}

/** The date, for chat templates that include it. */
function today() {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19);
}
