// A streamed answer: the engine's events, as text, reasoning and tool calls.

import { fromWire } from "./errors.js";

/** An unfinished answer; see firelight.d.ts. */
export class Answer {
  #events = [];
  #message = { role: "assistant", content: "" };
  #ended = false;
  #error = null;
  #wake = () => {};
  #cancel = () => {};
  #whole;

  /** `ask` checks the options and returns what is asked. */
  constructor(link, options, ask) {
    const { signal, onToken, onReasoning, ...how } = options ?? {};
    this.stats = new Promise((resolve, reject) => {
      this.#whole = new Promise((all, failed) => {
        this.#start(link, () => requestOf({ ...how, ...ask() }), signal, { onToken, onReasoning }, {
          finished: (stats) => {
            resolve(stats);
            all(this.#message);
          },
          failed: (error) => {
            reject(error);
            failed(error);
          },
          aborted: failed,
        });
      });
    });
    // Not awaiting them must not cause "unhandled rejection" errors.
    this.stats.catch(() => {});
    this.#whole.catch(() => {});
  }

  #start(link, request, signal, { onToken, onReasoning }, tell) {
    const abort = () => {
      if (this.#ended) return;
      this.#events.length = 0;
      this.#end(signal.reason);
      tell.aborted(signal.reason);
      this.#cancel();
    };
    const listener = (message) => {
      switch (message.event) {
        case "answer":
          if (this.#ended) return;
          if (message.piece.type === "reasoning") onReasoning?.(message.piece.text);
          this.#add(message.piece);
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
      const asked = request();
      signal?.throwIfAborted();
      sent = link.send({ command: "submit", request: asked }, listener);
      this.#cancel = () => link.send({ command: "cancel", target: sent.id });
      signal?.addEventListener("abort", abort);
    } catch (error) {
      this.#end(error);
      tell.failed(error);
    }
  }

  /** Adds an event to the message and to the event streams. */
  #add(piece) {
    const message = this.#message;
    switch (piece.type) {
      case "content":
        message.content += piece.text;
        break;
      case "reasoning":
        message.reasoning_content = (message.reasoning_content ?? "") + piece.text;
        break;
      case "tool-call":
        message.tool_calls ??= [];
        piece = { ...piece, index: message.tool_calls.length };
        message.tool_calls.push({ id: piece.id, type: "function", function: { name: piece.name, arguments: "" } });
        break;
      case "tool-arguments":
        message.tool_calls.at(-1).function.arguments += piece.text;
        piece = { ...piece, index: message.tool_calls.length - 1 };
        break;
      case "tool-call-end":
        piece = { ...piece, index: message.tool_calls.length - 1 };
        break;
    }
    this.#events.push(piece);
    this.#wake();
  }

  #end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  message() {
    return this.#whole;
  }

  async text() {
    return (await this.#whole).content;
  }

  async reasoning() {
    return (await this.#whole).reasoning_content ?? "";
  }

  async toolCalls() {
    return (await this.#whole).tool_calls ?? [];
  }

  async *events() {
    try {
      for (;;) {
        if (this.#events.length > 0) yield this.#events.shift();
        else if (this.#error) throw this.#error;
        else if (this.#ended) return;
        else await new Promise((resolve) => (this.#wake = resolve));
      }
    } finally {
      if (!this.#ended) this.#cancel();
    }
  }

  async *[Symbol.asyncIterator]() {
    for await (const event of this.events()) if (event.type === "content") yield event.text;
  }
}

/** The engine's form of a request. */
function requestOf({ stop, seed, ...rest }) {
  const given = Object.entries(rest).filter(([, value]) => value != null);
  return {
    ...Object.fromEntries(given),
    stop: stop == null ? [] : [stop].flat(),
    seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0],
  };
}
