// The browsers' Prompt API (`LanguageModel`) over a model of your choice. A session is a list of messages; the engine
// caches prefixes, so a prompt costs only its new tokens. Errors are DOMExceptions with the names of the specification
// (webmachinelearning.github.io/prompt-api).

import { cache } from "./cache.js";
import { FirelightError } from "./errors.js";
import { absolute } from "./files.js";
import { onHub } from "./hub.js";
import { Firelight } from "./model.js";
import { check } from "./options.js";

const DEFAULTS = { defaultTopK: 40, maxTopK: 1024, defaultTemperature: 0.8, maxTemperature: 2 };
const MODES = {
  "most-predictable": { temperature: 0, topK: 1 },
  predictable: { temperature: 0.4, topK: 20 },
  balanced: { temperature: 0.8, topK: 40 },
  creative: { temperature: 1, topK: 100 },
  "most-creative": { temperature: 1.3, topK: 0 },
};
const CREATE = {
  model: "any",
  load: "object",
  topK: "any",
  temperature: "any",
  samplingMode: "any",
  expectedInputs: "list",
  expectedOutputs: "list",
  tools: "list",
  signal: "signal",
  monitor: "function",
  initialPrompts: "any",
};
const PROMPT = {
  signal: "signal",
  responseConstraint: "any",
  omitResponseConstraintInput: "flag",
  maxTokens: "count",
  seed: "count",
};
/** The fraction of the context that is kept free for an answer when old exchanges are dropped. */
const ANSWER_SHARE = 0.25;
/** The models that `create` loaded, by source: their promises and numbers of sessions. */
const shared = new Map();
const SECRET = Symbol();

/** A session; see firelight.d.ts. */
export class LanguageModel extends EventTarget {
  #model;
  #release;
  #messages;
  #sampling;
  #usage = 0;
  #ended = new AbortController();
  /** The end of the last prompt: a session answers its prompts in order, as each needs the answer before. */
  #last = Promise.resolve();
  oncontextoverflow = null;
  onquotaoverflow = null;

  static async availability(options = {}) {
    checked("availability", options, CREATE);
    if (!understands(options)) return "unavailable";
    if (options.model instanceof Firelight) return "available";
    if (!(await Firelight.support()).webgpu) return "unavailable";
    const source = sourceOf(options.model);
    if (shared.has(source)) return shared.get(source).ready ? "available" : "downloading";
    if (typeof source !== "string") return "available";
    const url = await onHub(source, { ...options.load, offline: true }).catch(() => null);
    const kept = (await cache.list().catch(() => [])).find((model) => model.url === (url ?? source));
    return kept?.complete ? "available" : "downloadable";
  }

  static async params() {
    return { ...DEFAULTS };
  }

  static async create(options = {}) {
    checked("create", options, CREATE);
    options.signal?.throwIfAborted();
    if (!understands(options)) fail("NotSupportedError", "only text input and output are supported, without tools");
    const sampling = samplingOf(options);
    const messages = messagesOf(options.initialPrompts ?? []);
    const { model, release } = await acquire(options);
    try {
      const session = new LanguageModel(SECRET, { model, release, messages, sampling });
      await session.#measure(options.signal);
      return session;
    } catch (error) {
      release();
      throw error;
    }
  }

  constructor(secret, { model, release, messages, sampling } = {}) {
    if (secret !== SECRET) throw new TypeError("Illegal constructor: use LanguageModel.create()");
    super();
    this.#model = model;
    this.#release = release;
    this.#messages = messages;
    this.#sampling = sampling;
  }

  get contextUsage() {
    return this.#usage;
  }
  get contextWindow() {
    return this.#model.info.context;
  }
  get inputUsage() {
    return this.#usage;
  }
  get inputQuota() {
    return this.contextWindow;
  }
  get topK() {
    return this.#sampling.topK;
  }
  get temperature() {
    return this.#sampling.temperature;
  }
  get samplingMode() {
    return this.#sampling.mode;
  }

  async prompt(input, options) {
    let text = "";
    for await (const piece of this.#answer(input, options)) text += piece;
    return text;
  }

  promptStreaming(input, options = {}) {
    const left = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    const pour = async (controller) => {
      try {
        for await (const piece of this.#answer(input, { ...options, signal })) controller.enqueue(piece);
        controller.close();
      } catch (error) {
        controller.error(error);
      }
    };
    // The answer is generated even if it is not read: the next prompt waits for its end.
    return new ReadableStream({ start: (controller) => void pour(controller), cancel: (reason) => left.abort(reason) });
  }

  async append(input, { signal } = {}) {
    const added = messagesOf(input, this.#messages.length > 0);
    await this.#inTurn(signal, async (signal) => {
      const kept = await this.#fit(added, 0, signal);
      this.#messages = [...kept, ...added];
      await this.#measure(signal);
    });
  }

  async measureContextUsage(input, { signal } = {}) {
    this.#check(signal);
    const added = messagesOf(input);
    const [before, after] = await Promise.all([
      this.#count(this.#messages),
      this.#count([...this.#messages, ...added]),
    ]);
    signal?.throwIfAborted();
    return after - before;
  }

  measureInputUsage(input, options) {
    return this.measureContextUsage(input, options);
  }

  async clone({ signal } = {}) {
    this.#check(signal);
    const copy = new LanguageModel(SECRET, {
      model: this.#model,
      release: this.#release.again(),
      messages: [...this.#messages],
      sampling: this.#sampling,
    });
    copy.#usage = this.#usage;
    return copy;
  }

  destroy() {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort(new DOMException("the session was destroyed", "AbortError"));
    this.#release();
  }

  /** The pieces of the answer to `input`. Only a complete answer becomes part of the conversation. */
  async *#answer(input, options = {}) {
    checked("prompt", options, PROMPT);
    const { responseConstraint, maxTokens, seed } = options;
    const responseFormat = formatOf(responseConstraint);
    const added = messagesOf(input, this.#messages.length > 0);
    const { signal, turn } = this.#enter(options.signal);
    try {
      await turn.before;
      signal.throwIfAborted();
      const reserve = Math.min(maxTokens ?? Infinity, this.contextWindow * ANSWER_SHARE);
      const kept = await this.#fit(added, reserve, signal);
      const { temperature, topK } = this.#sampling;
      const messages = [...kept, ...added];
      const answer = this.#model.chat(messages, { signal, temperature, topK, maxTokens, seed, responseFormat });
      let text = "";
      for await (const piece of answer) {
        text += piece;
        yield piece;
      }
      this.#messages = [...messages, { role: "assistant", content: text }];
      await this.#measure(signal);
    } catch (error) {
      throw translated(error, this.contextWindow);
    } finally {
      turn.leave();
    }
  }

  async #inTurn(outer, work) {
    const { signal, turn } = this.#enter(outer);
    try {
      await turn.before;
      signal.throwIfAborted();
      return await work(signal);
    } finally {
      turn.leave();
    }
  }

  #enter(outer) {
    this.#check(outer);
    const signal = outer ? AbortSignal.any([outer, this.#ended.signal]) : this.#ended.signal;
    const before = this.#last;
    let leave;
    this.#last = new Promise((resolve) => (leave = resolve));
    return { signal, turn: { before, leave } };
  }

  #check(signal) {
    if (this.#ended.signal.aborted) fail("InvalidStateError", "the session was destroyed");
    signal?.throwIfAborted();
  }

  /** The messages so far, without the oldest exchanges if `added` and `reserve` tokens would not fit with them. */
  async #fit(added, reserve, signal) {
    let kept = this.#messages;
    for (;;) {
      const needed = (await this.#count([...kept, ...added])) + reserve;
      signal.throwIfAborted();
      if (needed <= this.contextWindow) break;
      const shorter = withoutOldest(kept);
      if (shorter === null) {
        // Nothing is left to drop: the prompt may use the reserve, but not exceed the context.
        if (needed - reserve < this.contextWindow) break;
        throw tooMuch(needed - reserve, this.contextWindow);
      }
      kept = shorter;
    }
    if (kept !== this.#messages) for (const name of ["contextoverflow", "quotaoverflow"]) this.#fire(name);
    return kept;
  }

  #fire(name) {
    const event = new Event(name);
    this[`on${name}`]?.(event);
    this.dispatchEvent(event);
  }

  async #measure(signal) {
    const usage = await this.#count(this.#messages);
    signal?.throwIfAborted();
    if (usage > this.contextWindow) throw tooMuch(usage, this.contextWindow);
    this.#usage = usage;
  }

  async #count(messages) {
    if (messages.length === 0) return 0;
    // Some templates put the system message into the first user message: without one it would not be counted.
    const alone = messages.every((message) => message.role === "system");
    const counted = alone ? [...messages, { role: "user", content: "" }] : messages;
    return (await this.#model.tokenize(counted, { addGenerationPrompt: false })).length;
  }
}

/** The messages without the oldest exchange; null if there is none. The system message stays. */
function withoutOldest(messages) {
  const start = messages.findIndex((message) => message.role !== "system");
  if (start < 0) return null;
  const next = messages.findIndex((message, i) => i > start && message.role === "user");
  const end = next < 0 ? messages.length : next;
  return [...messages.slice(0, start), ...messages.slice(end)];
}

/** The engine's form of messages. A system message must be the first. */
function messagesOf(input, begun = false) {
  if (typeof input === "string") return [{ role: "user", content: input }];
  if (!Array.isArray(input)) throw new TypeError("a prompt is a text or a list of messages");
  return input.map(({ role, content, prefix }, i) => {
    if (!["system", "user", "assistant"].includes(role))
      throw new TypeError(`there is no role ${JSON.stringify(role)}`);
    if (role === "system" && i > 0) throw new TypeError("a system message must be the first message");
    if (role === "system" && begun) fail("NotSupportedError", "a system message must be in initialPrompts");
    if (prefix) fail("NotSupportedError", "prefix: continuing an answer is not supported");
    return { role, content: textOf(content) };
  });
}

function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw new TypeError("a message's content is a text or a list of parts");
  const other = content.find((part) => part.type !== "text");
  if (other) fail("NotSupportedError", `only text input is supported, not ${other.type}`);
  return content.map((part) => part.value).join("");
}

/** The format that a `responseConstraint` asks for: a JSON schema, or a regular expression. */
function formatOf(constraint) {
  if (constraint === undefined) return undefined;
  if (constraint instanceof RegExp) {
    if (/[imsuvy]/.test(constraint.flags)) fail("NotSupportedError", `responseConstraint with the flags ${constraint.flags}`);
    return { type: "regex", pattern: constraint.source.replace(/^\^/, "").replace(/(?<!\\)\$$/, "") };
  }
  if (constraint === null || typeof constraint !== "object")
    throw new TypeError("responseConstraint is a JSON schema or a regular expression");
  return { type: "json_schema", schema: constraint };
}

function understands({ expectedInputs = [], expectedOutputs = [], tools = [] }) {
  return tools.length === 0 && [...expectedInputs, ...expectedOutputs].every((expected) => expected.type === "text");
}

function samplingOf({ topK, temperature, samplingMode }) {
  if (samplingMode !== undefined) {
    if (!Object.hasOwn(MODES, samplingMode))
      throw new TypeError(`there is no samplingMode ${JSON.stringify(samplingMode)}`);
    if (topK !== undefined || temperature !== undefined)
      fail("NotSupportedError", "samplingMode with topK or temperature");
    return { mode: samplingMode, ...MODES[samplingMode] };
  }
  for (const [name, value] of Object.entries({ topK, temperature })) {
    if (value !== undefined && !(value >= (name === "topK" ? 1 : 0))) throw new RangeError(`${name} is ${value}`);
  }
  return {
    mode: null,
    topK: Math.min(Math.floor(topK ?? DEFAULTS.defaultTopK), DEFAULTS.maxTopK),
    temperature: Math.min(temperature ?? DEFAULTS.defaultTemperature, DEFAULTS.maxTemperature),
  };
}

/** The key of a source: an address, a name on the hub, or the file itself. */
const sourceOf = (model) => (model instanceof ArrayBuffer || Array.isArray(model) ? model : absolute(model));

/** Checks options, with the errors of Web interfaces. */
function checked(what, options, known) {
  try {
    check(what, options, known);
  } catch (error) {
    throw new TypeError(`${error.message} ${error.hint}`, { cause: error });
  }
}

/** A loaded model and the function that releases it; `release.again()` is for another session of the model. */
async function acquire({ model, load, signal, monitor }) {
  const target = new EventTarget();
  monitor?.(target);
  const report = (loaded) =>
    target.dispatchEvent(new ProgressEvent("downloadprogress", { loaded, total: 1, lengthComputable: true }));
  if (model instanceof Firelight) {
    const release = () => {};
    release.again = () => release;
    return { model, release };
  }
  const source = sourceOf(model);
  let entry = shared.get(source);
  if (!entry) {
    entry = { sessions: 0, reports: new Set(), ready: false, stop: new AbortController() };
    const onProgress = (progress) => {
      load?.onProgress?.(progress);
      if (progress.total > 0) entry.reports.forEach((report) => report(progress.loaded / progress.total));
    };
    entry.loading = Firelight.load(source, { ...load, signal: entry.stop.signal, onProgress });
    entry.loading.then(
      () => (entry.ready = true),
      () => shared.get(source) === entry && shared.delete(source),
    );
    shared.set(source, entry);
  }
  const release = hold(source, entry);
  entry.reports.add(report);
  report(0);
  try {
    const loaded = await abortable(entry.loading, signal);
    report(1);
    return { model: loaded, release };
  } catch (error) {
    release();
    throw error instanceof FirelightError ? translated(error, 0) : error;
  } finally {
    entry.reports.delete(report);
  }
}

/** Adds a session to a model. The last one that is released destroys the model, or aborts its loading. */
function hold(source, entry) {
  entry.sessions += 1;
  let held = true;
  const release = () => {
    if (!held) return;
    held = false;
    entry.sessions -= 1;
    if (entry.sessions > 0) return;
    if (shared.get(source) === entry) shared.delete(source);
    entry.stop.abort();
    entry.loading.then(
      (model) => model.destroy(),
      () => {},
    );
  };
  release.again = () => hold(source, entry);
  return release;
}

function abortable(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/** Converts a Firelight error to the specification's DOMException; leaves other errors unchanged. */
function translated(error, window) {
  if (!(error instanceof FirelightError)) return error;
  if (error.code === "context-full") return tooMuch(undefined, window, error);
  const name = { "no-webgpu": "NotSupportedError", "no-adapter": "NotSupportedError", destroyed: "InvalidStateError" };
  const dom = new DOMException(`${error.message} (${error.hint})`, name[error.code] ?? "OperationError");
  return Object.assign(dom, { cause: error });
}

function tooMuch(requested, quota, cause) {
  const text = `the conversation needs ${requested ?? "more"} tokens, the context holds ${quota}`;
  const error = new DOMException(text, "QuotaExceededError");
  return Object.assign(error, { requested, quota, cause });
}

function fail(name, message) {
  throw new DOMException(message, name);
}
