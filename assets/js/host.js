// Owns engines: in a worker, in a shared worker, or in the page itself. Commands come in as plain objects
// {id, command, ...}, events go out as {id, event, ...}; they are the same in all three places.

import init, { Engine, fit, onPanic } from "./engine.js";
import { devices, keepDevices } from "./cache.js";
import { FirelightError, fromEngine, toWire } from "./errors.js";
import { openFiles } from "./source.js";

/** Milliseconds between two reports of progress, and the interval over which the rate is measured. */
const TELL = 100;
const LATELY = 3000;

let ready = null;
const victims = new Set();

/** Loads the wasm, once. A panic ends all engines that run on it. */
function engineReady() {
  ready ??= init({ module_or_path: new URL("./firelight.wasm", import.meta.url) }).then(() => {
    onPanic((message) => {
      const error = new FirelightError("internal", message);
      for (const fail of [...victims]) fail(error);
      ready = Promise.reject(error);
      ready.catch(() => {});
      // The next page loads a new instance.
      if (globalThis.SharedWorkerGlobalScope) setTimeout(() => globalThis.close(), TELL);
    });
  });
  return ready;
}

/** The promise `work`, rejected by a panic: after one the engine never answers. */
function unlessPanic(work) {
  let fail;
  const panic = new Promise((_, reject) => (fail = reject));
  victims.add(fail);
  return Promise.race([work, panic]).finally(() => victims.delete(fail));
}

/** Measures the progress of loading, over all files of a model. */
class Meter {
  #tell;
  #loaded = 0;
  #total = 0;
  #recent = [];
  #told = 0;

  constructor(tell) {
    this.#tell = tell;
  }

  set total(bytes) {
    this.#total = bytes;
  }

  add(stage, bytes) {
    const now = performance.now();
    this.#loaded += bytes;
    this.#recent.push([now, bytes]);
    while (now - this.#recent[0][0] > LATELY) this.#recent.shift();
    if (now - this.#told >= TELL) this.say(stage);
  }

  say(stage, loaded = this.#loaded, kernels = undefined) {
    const now = performance.now();
    this.#told = now;
    const bytes = this.#recent.reduce((sum, [, bytes]) => sum + bytes, 0);
    const seconds = this.#recent.length > 1 ? (now - this.#recent[0][0]) / 1000 : 0;
    const rate = seconds > 0 ? bytes / seconds : 0;
    const report = { stage, loaded: Math.min(loaded, this.#total), total: this.#total, rate };
    this.#tell(kernels ? { ...report, kernels } : report);
  }

  done() {
    this.say("ready", this.#total);
  }
}

/** A loaded model and its unfinished answers. */
class Running {
  /** Called with events that are not about one request. */
  listeners = new Set();
  #engine = null;
  #stop = new AbortController();
  #answers = new Map();
  #pumping = false;
  #free = () => {};
  /** Whether the engine has failed or was destroyed. */
  ended = false;

  constructor(files, options) {
    this.loaded = this.#load(files, options);
    this.loaded.catch(() => {});
  }

  #broadcast(event) {
    for (const listener of this.listeners) listener(event);
  }

  async #load(files, options) {
    await engineReady();
    if (!navigator.gpu) throw new FirelightError("no-webgpu", "There is no WebGPU here.");
    const meter = new Meter((progress) => this.#broadcast({ event: "progress", progress }));
    const tell = {
      bytes: (stage, count) => meter.add(stage, count),
      notice: (text) => this.#broadcast({ event: "notice", text }),
    };
    const sources = await openFiles(files, { ...options, signal: this.#stop.signal }, tell);
    meter.total = sources.reduce((sum, source) => sum + source.length, 0);
    let keeping;
    const report = (json) => {
      const { compiling, kernels, notice, devices } = JSON.parse(json);
      if (compiling || kernels) meter.say("compile", undefined, kernels);
      if (notice) tell.notice(notice);
      if (devices && options.cache) keeping = keepDevices(devices);
    };
    const settings = { ...options.engine, devices: options.cache ? await devices() : null };
    try {
      this.#engine = await unlessPanic(Engine.open(sources, JSON.stringify(settings), report));
    } catch (thrown) {
      const error = fromEngine(thrown);
      // Don't cache files that are not models.
      if (error.code === "bad-file") await Promise.all(sources.map((source) => source.forget?.()));
      throw error;
    }
    await keeping;
    // From here on, a reloaded page finds the whole model in the cache.
    await Promise.all(sources.map((source) => source.settled?.()));
    if (this.#stop.signal.aborted) {
      this.#engine.destroy();
      this.#stop.signal.throwIfAborted();
    }
    meter.done();
    return this.info();
  }

  info() {
    return JSON.parse(this.#engine.info());
  }

  #open() {
    if (!this.#engine) throw new FirelightError("destroyed", "The model was destroyed.");
    return this.#engine;
  }

  /** Starts an answer; `tell` is called with its events. Returns its number. */
  submit(ask, tell) {
    return this.#add(call(() => this.#open().submit(JSON.stringify(ask))), tell);
  }

  /** Starts an embedding, in the same way. Its one event is the result. */
  embed(ask, tell) {
    return this.#add(call(() => this.#open().embed(JSON.stringify(ask))), tell);
  }

  #add(number, tell) {
    this.#answers.set(number, tell);
    this.#pump();
    return number;
  }

  /** Ends an answer, whose last event says so, or an embedding, which has no event then. */
  cancel(number) {
    if (this.#answers.has(number) && this.#engine?.cancel(number)) this.#answers.delete(number);
  }

  tokenize(ask) {
    return Array.from(call(() => this.#open().tokenize(JSON.stringify(ask))));
  }

  detokenize(tokens) {
    return call(() => this.#open().detokenize(Uint32Array.from(tokens)));
  }

  /** Polls the engine while there are unfinished answers. */
  async #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#answers.size > 0 && this.#engine) {
        const events = await unlessPanic(this.#engine.next());
        for (const event of JSON.parse(events ?? "[]")) this.#hand(event);
      }
    } catch (thrown) {
      this.#failAll(fromEngine(thrown));
      // The device or the source is gone.
      this.#end();
    } finally {
      this.#pumping = false;
      this.#free();
    }
  }

  #hand({ id, piece, token, finished, vector, tokens, error }) {
    const tell = this.#answers.get(id);
    if (!tell) return;
    if (finished || vector || error) this.#answers.delete(id);
    if (piece) tell({ event: "answer", piece });
    else if (token) tell({ event: "token", token });
    else if (finished) tell({ event: "finished", stats: finished });
    else if (vector) tell({ event: "result", value: { vector: Float32Array.from(vector), tokens } });
    else tell({ event: "error", error: toWire(new FirelightError(error.code, error.message)) });
  }

  #failAll(error) {
    const wire = toWire(error);
    const answers = [...this.#answers.values()];
    this.#answers.clear();
    for (const tell of answers) tell({ event: "error", error: wire });
  }

  /** Frees everything: the device at once, the engine's memory as soon as no call is running in it. */
  #end() {
    const engine = this.#engine;
    if (!engine) return;
    this.#engine = null;
    this.ended = true;
    this.#free = () => evenAfterPanic(() => engine.free());
    evenAfterPanic(() => engine.destroy());
    if (!this.#pumping) this.#free();
  }

  destroy() {
    this.#stop.abort();
    this.#failAll(new FirelightError("destroyed", "The model was destroyed."));
    this.#end();
  }
}

/** After a panic an engine does not work, and there is nothing to free. */
function evenAfterPanic(work) {
  try {
    work();
  } catch {
    // See above.
  }
}

function call(work) {
  try {
    return work();
  } catch (thrown) {
    throw fromEngine(thrown);
  }
}

/** Whether a model fits the GPU, from its header. */
async function fitOf({ files, options }) {
  await engineReady();
  if (!navigator.gpu) throw new FirelightError("no-webgpu", "There is no WebGPU here.");
  const { signal } = new AbortController();
  const sources = await openFiles(files, { ...options, signal }, { bytes: () => {}, notice: () => {} });
  try {
    return JSON.parse(await unlessPanic(fit(sources, JSON.stringify(options.engine))));
  } catch (thrown) {
    const error = fromEngine(thrown);
    if (error.code === "bad-file") await Promise.all(sources.map((source) => source.forget?.()));
    throw error;
  }
}

/** The loaded models by key; pages that load the same model share it. */
const models = new Map();

/** A connection to one page. `send` sends it messages; `receive` takes its messages. */
export class Connection {
  #send;
  #model = null;
  #key = null;
  #listener = null;
  /** Maps the page's request ids to the engine's. */
  #answers = new Map();

  constructor(send) {
    this.#send = send;
  }

  async receive({ id, command, ...rest }) {
    try {
      const value = await this.#do(command, id, rest);
      if (value !== undefined) this.#send({ id, event: "result", value });
    } catch (error) {
      this.#send({ id, event: "error", error: toWire(error) });
    }
  }

  #do(command, id, rest) {
    switch (command) {
      case "load":
        return this.#load(id, rest);
      case "fit":
        return fitOf(rest);
      case "submit":
      case "embed":
        return this.#submit(command, id, rest.request);
      case "cancel":
        this.#here().cancel(this.#answers.get(rest.target));
        return undefined;
      case "tokenize":
        return this.#here().tokenize(rest.request);
      case "detokenize":
        return this.#here().detokenize(rest.tokens);
      case "destroy":
        this.close();
        return true;
      default:
        throw new FirelightError("internal", `There is no command ${command}.`);
    }
  }

  #here() {
    if (!this.#model) throw new FirelightError("destroyed", "The model was destroyed.");
    return this.#model;
  }

  async #load(id, { key, files, options }) {
    let model = models.get(key);
    if (!model || model.ended) {
      model = new Running(files, options);
      models.set(key, model);
      model.loaded.catch(() => models.get(key) === model && models.delete(key));
    }
    this.#model = model;
    this.#key = key;
    this.#listener = (event) => this.#send({ id, ...event });
    model.listeners.add(this.#listener);
    await model.loaded;
    return model.info();
  }

  #submit(command, id, request) {
    const tell = (event) => {
      if (["finished", "result", "error"].includes(event.event)) this.#answers.delete(id);
      this.#send({ id, ...event });
    };
    this.#answers.set(id, this.#here()[command](request, tell));
    return undefined;
  }

  /** Called when the page has closed the connection or is gone. The last page's model is destroyed. */
  close() {
    const model = this.#model;
    if (!model) return;
    this.#model = null;
    model.listeners.delete(this.#listener);
    if (model.listeners.size === 0) {
      if (models.get(this.#key) === model) models.delete(this.#key);
      model.destroy();
    } else {
      for (const number of this.#answers.values()) model.cancel(number);
    }
  }
}
