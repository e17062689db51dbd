// Connections to the engine: chooses where it runs, sends commands and receives their results.

import { foreignWorker, isForeign } from "./address.js";
import { FirelightError, fromWire } from "./errors.js";

// The three places share one shape: {where, send(message), close()}; `receive` is called with the engine's messages.

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
  // Bundlers recognize this form.
  if (!isForeign) return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "firelight" });
  // A worker's script must have the page's origin; its imports need not.
  const shim = new Blob([`import ${JSON.stringify(foreignWorker())};`], { type: "text/javascript" });
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

/** The places to try, in order, and the notice if one does not work. */
export function places(where, notice) {
  const shared = typeof SharedWorker === "function" && !isForeign;
  if (where === "shared" && !shared) notice("This page cannot have a shared worker: the tab uses its own worker.");
  const all = [
    ["shared", inSharedWorker, "shared workers have no GPU in this browser: the tab uses its own worker"],
    ["worker", inWorker, "workers have no GPU in this browser: the engine runs in the page itself"],
    ["main", inPage, ""],
  ];
  const first = { shared: shared ? 0 : 1, worker: 1, main: 2 }[where];
  if (first === undefined) throw new FirelightError("bad-argument", `where cannot be ${JSON.stringify(where)}.`);
  return all.slice(typeof Worker === "function" ? first : 2);
}

/** The pending commands of one connection. */
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

  /** Sends a command; `listener` gets every message about it. Returns its number and how to stop listening. */
  send(command, listener) {
    if (this.#broken) throw this.#broken;
    const id = ++this.#last;
    if (listener) this.#listeners.set(id, listener);
    this.#connection.send({ id, ...command });
    return { id, done: () => this.#listeners.delete(id) };
  }

  /** Sends a command and waits for its result. An abort cancels it. */
  ask(command, { other = () => {}, signal } = {}) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const abort = () => {
        this.send({ command: "cancel", target: sent.id });
        sent.done();
        reject(signal.reason);
      };
      const sent = this.send(command, (message) => {
        if (message.event === "result") resolve(message.value);
        else if (message.event === "error") reject(fromWire(message.error));
        else return other(message);
        signal?.removeEventListener("abort", abort);
        if (command.command !== "load") sent.done();
      });
      signal?.addEventListener("abort", abort);
    });
  }

  /** Closes the connection; the commands that still wait fail with `error`. */
  close(error) {
    if (this.#broken) return;
    this.#broken = error;
    this.#connection?.close();
    const { code = "internal", message, hint } = error;
    const wire = { event: "error", error: { code, message, hint } };
    for (const listener of [...this.#listeners.values()]) listener(wire);
    this.#listeners.clear();
  }
}

/** Loads a model in one place. An abort closes that place, like any other failure. */
export async function loadAt(start, command, signal, listener) {
  const link = await Link.open(start);
  let stop;
  const aborted = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
  });
  try {
    return { link, info: await Promise.race([link.ask(command, { other: listener }), aborted]) };
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
