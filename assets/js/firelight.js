// The package's public side: starts the engine where it shall run, sends it commands, and turns its events into answers.
// Types and the meaning of every option are in firelight.d.ts.

import { available } from "./cache.js";
import { FirelightError, fromWire } from "./errors.js";
import { OpenAI } from "./openai.js";

export { cache } from "./cache.js";
export { FirelightError } from "./errors.js";
export { OpenAI } from "./openai.js";
export { LanguageModel } from "./prompt-api.js";

const here = () => globalThis.document?.baseURI ?? globalThis.location?.href;

/** A source as the host gets it: absolute URLs and Blobs, in order. */
function filesOf(source) {
  if (source == null) return [new URL("demo.gguf", import.meta.url).href];
  const file = (part) => {
    if (part instanceof Blob) return part;
    if (part instanceof ArrayBuffer || ArrayBuffer.isView(part)) return new Blob([part]);
    if (typeof part === "string" || part instanceof URL) {
      if (URL.canParse(part, here())) return new URL(part, here()).href;
    }
    throw new FirelightError("bad-argument", `A source cannot be ${String(part)}: a URL, File, Blob or ArrayBuffer is wanted.`);
  };
  const files = Array.isArray(source) ? source.map(file) : [file(source)];
  if (files.length === 0) throw new FirelightError("bad-argument", "A source without parts is no model.");
  return files;
}

// Three places for the engine, one shape: {where, send(message), close()}, and `receive` is called with its messages.

async function inPage(receive) {
  const { Connection } = await import("./host.js");
  const connection = new Connection((message) => queueMicrotask(() => receive(message)));
  return { where: "main", send: (message) => void connection.receive(message), close: () => connection.close() };
}

function inWorker(receive, failed) {
  const worker = newWorker();
  worker.onmessage = ({ data }) => receive(data);
  worker.onerror = (event) => {
    event.preventDefault();
    failed(new FirelightError("internal", `The worker failed: ${event.message ?? "its script could not be loaded"}`));
  };
  return { where: "worker", send: (message) => worker.postMessage(message), close: () => worker.terminate() };
}

function newWorker() {
  const url = new URL("./worker.js", import.meta.url);
  if (url.origin === globalThis.location.origin) {
    // In this very form bundlers know it for a worker.
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "firelight" });
  }
  // A worker's script must be of the page's origin, what it imports need not be.
  const shim = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  const address = URL.createObjectURL(shim);
  const worker = new Worker(address, { type: "module", name: "firelight" });
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  return worker;
}

async function inSharedWorker(receive, failed) {
  const worker = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name: "firelight" });
  worker.onerror = () => failed(new FirelightError("internal", "The shared worker's script could not be loaded."));
  worker.port.onmessage = ({ data }) => receive(data);
  let letGo = () => {};
  if (navigator.locks) {
    const lock = `firelight-page-${crypto.randomUUID()}`;
    await new Promise((held) => {
      navigator.locks.request(lock, () => new Promise((resolve) => held((letGo = resolve))));
    });
    worker.port.postMessage({ command: "alive", lock });
  }
  const close = () => {
    letGo();
    worker.port.close();
  };
  return { where: "shared", send: (message) => worker.port.postMessage(message), close };
}

/** Where to try, in this order, and what to say of a place where it does not work. */
function places(where, notice) {
  const foreign = new URL(import.meta.url).origin !== globalThis.location?.origin;
  const shared = typeof SharedWorker === "function" && !foreign;
  if (where === "shared" && !shared) notice("This page cannot have a shared worker: the tab has a worker of its own.");
  const all = [
    ["shared", inSharedWorker, "shared workers have no GPU in this browser: the tab has a worker of its own"],
    ["worker", inWorker, "workers have no GPU in this browser: the engine runs in the page itself"],
    ["main", inPage, ""],
  ];
  const first = { shared: shared ? 0 : 1, worker: 1, main: 2 }[where];
  if (first === undefined) throw new FirelightError("bad-argument", `where cannot be ${JSON.stringify(where)}.`);
  return all.slice(typeof Worker === "function" ? first : 2);
}

/** Commands that were sent and are not answered, over one connection. */
class Link {
  #connection = null;
  #listeners = new Map();
  #last = 0;
  #broken = null;

  static async open(start) {
    const link = new Link();
    link.#connection = await start(
      (message) => link.#listeners.get(message.id)?.(message),
      (error) => link.close(error),
    );
    return link;
  }

  get where() {
    return this.#connection.where;
  }

  /** Sends a command; `listener` hears every message about it. Returns its number and how to stop listening. */
  send(command, listener) {
    if (this.#broken) throw this.#broken;
    const id = ++this.#last;
    if (listener) this.#listeners.set(id, listener);
    this.#connection.send({ id, ...command });
    return { id, done: () => this.#listeners.delete(id) };
  }

  /** Sends a command and waits for its result. */
  ask(command, other = () => {}) {
    return new Promise((resolve, reject) => {
      const sent = this.send(command, (message) => {
        if (message.event === "result") resolve(message.value);
        else if (message.event === "error") reject(fromWire(message.error));
        else return other(message);
        if (command.command !== "load") sent.done();
      });
    });
  }

  /** Ends the connection; whatever still waits fails with `error`. */
  close(error) {
    if (this.#broken) return;
    this.#broken = error;
    this.#connection?.close();
    const wire = { event: "error", error: { code: error.code ?? "internal", message: error.message, hint: error.hint } };
    for (const listener of [...this.#listeners.values()]) listener(wire);
    this.#listeners.clear();
  }
}

const SECRET = Symbol();

/** A model on a GPU; see firelight.d.ts. */
export class Firelight {
  #link;
  #notices;
  #client;
  #closing = null;

  constructor(secret, link, info, notices) {
    if (secret !== SECRET) throw new TypeError("Use Firelight.load().");
    this.#link = link;
    this.#notices = notices;
    this.info = Object.freeze({ ...info, where: link.where });
  }

  static async load(source = null, options = {}) {
    const { signal, onProgress, onNotice, where = "worker", cache = true, headers = {}, ...engine } = options;
    signal?.throwIfAborted();
    const files = filesOf(source);
    if (!navigator.gpu) throw new FirelightError("no-webgpu", noWebGpu());
    const notices = [];
    const notice = (text) => {
      notices.push(text);
      onNotice?.(text);
    };
    if (where === "shared") engine.sequences ??= 2;
    // In a shared worker the same model is the same for all; a Blob is nobody else's.
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
        if (place === "main" || !elsewhere) throw error;
        notice(otherwise);
      }
    }
  }

  static async support() {
    const opfs = available();
    try {
      if (!navigator.gpu) return { webgpu: false, reason: noWebGpu(), opfs };
      const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
      if (!adapter) return { webgpu: false, reason: "The browser has WebGPU, but no GPU that it would use.", opfs };
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

  chat(messages, options = {}) {
    const { tools, templateVariables, ...rest } = options;
    return new Answer(this.#link, { messages, tools, templateVariables: templateVariables ?? {}, date: today() }, rest);
  }

  complete(prompt, options = {}) {
    return new Answer(this.#link, { prompt }, options);
  }

  async tokenize(input, { special, tools, addGenerationPrompt } = {}) {
    const chat = { messages: input, tools, addGenerationPrompt, date: today() };
    const request = typeof input === "string" ? { prompt: input, special } : chat;
    return this.#link.ask({ command: "tokenize", request });
  }

  async detokenize(tokens) {
    return this.#link.ask({ command: "detokenize", tokens: [...tokens] });
  }

  /** Loses the device, for tests. */
  async _lose() {
    return this.#link.ask({ command: "lose" });
  }

  destroy() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close() {
    const error = new FirelightError("destroyed", "The model was destroyed.");
    // A worker that hangs is ended all the same.
    const patience = new Promise((resolve) => setTimeout(resolve, 1000));
    const asked = (async () => this.#link.ask({ command: "destroy" }))();
    await Promise.race([asked.catch(() => {}), patience]);
    this.#link.close(error);
  }

  [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    return this.destroy();
  }
}

/** Loads a model in one place. An abort, like any other failure, ends that place. */
async function loadAt(start, command, signal, listener) {
  const link = await Link.open(start);
  let stop;
  const aborted = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
  });
  try {
    return { link, info: await Promise.race([link.ask(command, listener), aborted]) };
  } catch (error) {
    aborted.catch(() => {});
    link.send({ command: "destroy" });
    // A shared worker must still read the command; closing a dedicated one ends it at once.
    if (link.where === "shared") await new Promise((resolve) => setTimeout(resolve, 50));
    link.close(new FirelightError("destroyed", "Loading was ended."));
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** An answer on its way; see firelight.d.ts. */
class Answer {
  #pieces = [];
  #text = "";
  #ended = false;
  #error = null;
  #wake = () => {};
  #cancel = () => {};
  #whole;

  constructor(link, ask, { signal, onToken, stop, seed, ...options }) {
    this.stats = new Promise((resolve, reject) => {
      this.#whole = new Promise((all, failed) => {
        this.#start(link, { ...ask, ...options, stop, seed }, signal, onToken, {
          finished: (stats) => {
            resolve(stats);
            all(this.#text);
          },
          failed: (error) => {
            reject(error);
            failed(error);
          },
          aborted: failed,
        });
      });
    });
    // Whoever does not look at them must not be told of their failure.
    this.stats.catch(() => {});
    this.#whole.catch(() => {});
  }

  #start(link, ask, signal, onToken, tell) {
    const abort = () => {
      if (this.#ended) return;
      this.#pieces.length = 0;
      this.#end(signal.reason);
      tell.aborted(signal.reason);
      this.#cancel();
    };
    const listener = (message) => {
      switch (message.event) {
        case "text":
          if (this.#ended) return;
          this.#text += message.text;
          this.#pieces.push(message.text);
          this.#wake();
          return;
        case "token":
          if (!this.#ended) onToken?.(message.token);
          return;
        case "finished":
          this.#end(null);
          tell.finished(message.stats);
          break;
        case "error": {
          const error = fromWire(message.error);
          this.#end(error);
          tell.failed(error);
          break;
        }
      }
      signal?.removeEventListener("abort", abort);
      sent?.done();
    };
    let sent;
    try {
      signal?.throwIfAborted();
      sent = link.send({ command: "submit", request: requestOf(ask) }, listener);
      this.#cancel = () => link.send({ command: "cancel", target: sent.id });
      signal?.addEventListener("abort", abort);
    } catch (error) {
      this.#end(error);
      tell.failed(error);
    }
  }

  #end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  text() {
    return this.#whole;
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        if (this.#pieces.length > 0) yield this.#pieces.shift();
        else if (this.#error) throw this.#error;
        else if (this.#ended) return;
        else await new Promise((resolve) => (this.#wake = resolve));
      }
    } finally {
      if (!this.#ended) this.#cancel();
    }
  }
}

/** A request as the engine reads it: JSON knows neither NaN nor undefined, so they are found here. */
function requestOf({ stop, seed, ...rest }) {
  const request = {
    ...rest,
    stop: stop == null ? [] : [stop].flat(),
    seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0],
  };
  for (const [name, value] of Object.entries(request)) {
    if (typeof value === "number" && !Number.isFinite(value)) {
      throw new FirelightError("bad-argument", `${name} is ${value}; it must be a number.`);
    }
    if (value === undefined) delete request[name];
  }
  return request;
}

function noWebGpu() {
  return globalThis.isSecureContext === false
    ? "WebGPU is only for pages served by https, or from localhost."
    : "This browser has no WebGPU, or it is turned off.";
}

/** For templates that tell the model the date. */
function today() {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19);
}
