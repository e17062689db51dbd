// OpenAI's interface over one model: requests become `chat`, `complete` and `embed`, answers become objects and chunks
// of the shapes that OpenAI documents.

import { refuse } from "./options.js";
import { chatOptionsOf, checkRequest, samplingOf } from "./openai-request.js";

/** A client with OpenAI's interface; see firelight.d.ts. */
export class OpenAI {
  constructor(model) {
    this.chat = { completions: { create: (body, options) => create(model, CHAT, body, options) } };
    this.completions = { create: (body, options) => create(model, TEXT, body, options) };
    this.embeddings = { create: (body, options) => embed(model, body, options) };
    const entry = () => ({ id: model.info.name, object: "model", created: 0, owned_by: "firelight" });
    this.models = {
      list: async () => ({ object: "list", data: [entry()] }),
      retrieve: async (id) => {
        if (id !== model.info.name) refuse(`There is no model ${JSON.stringify(id)}.`, `Ask for ${model.info.name}.`);
        return entry();
      },
    };
  }
}

// The two kinds of request differ in how they start and in how text and log-probabilities are wrapped.

const CHAT = {
  name: "chat.completions.create",
  prefix: "chatcmpl",
  object: "chat.completion",
  chunkObject: "chat.completion.chunk",
  start: (model, body, options) => model.chat(body.messages, { ...options, ...chatOptionsOf(body) }),
  first: (index) => [choice(index, { delta: { role: "assistant", content: "" } })],
  delta: (event, body) => {
    if (event.index > 0 && body.parallel_tool_calls === false) return null;
    switch (event.type) {
      case "content":
        return { delta: { content: event.text } };
      case "reasoning":
        return { delta: { reasoning_content: event.text } };
      case "tool-call": {
        const { index, id, name } = event;
        return { delta: { tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] } };
      }
      case "tool-arguments":
        return { delta: { tool_calls: [{ index: event.index, function: { arguments: event.text } }] } };
      default:
        return null;
    }
  },
  last: () => ({ delta: {} }),
  whole: ({ tool_calls, ...message }, body) => {
    if (!tool_calls) return { message: { ...message, refusal: null } };
    const calls = body.parallel_tool_calls === false ? tool_calls.slice(0, 1) : tool_calls;
    return { message: { ...message, content: message.content || null, refusal: null, tool_calls: calls } };
  },
  logprobs: () => (tokens) => ({
    content: tokens.map((token) => ({ ...chatLogprob(token), top_logprobs: token.top.map(chatLogprob) })),
    refusal: null,
  }),
};

const TEXT = {
  name: "completions.create",
  prefix: "cmpl",
  object: "text_completion",
  chunkObject: "text_completion",
  start(model, body, options) {
    if (typeof body.prompt !== "string") refuse("prompt must be a text.", "For several, send several requests.");
    if (body.echo && body.logprobs != null) refuse("echo excludes logprobs: the prompt's are not computed.");
    return model.complete(body.prompt, { ...options, logprobs: body.logprobs ?? undefined });
  },
  first: (index, body) => (body.echo ? [choice(index, { text: body.prompt })] : []),
  delta: (event) => (event.type === "content" ? { text: event.text } : null),
  last: () => ({ text: "" }),
  whole: ({ content }, body) => ({ text: body.echo ? body.prompt + content : content }),
  logprobs: () => {
    let offset = 0;
    return (tokens) => ({
      tokens: tokens.map((token) => token.text),
      token_logprobs: tokens.map((token) => token.logprob),
      top_logprobs: tokens.map((token) => Object.fromEntries(token.top.map((other) => [other.text, other.logprob]))),
      text_offset: tokens.map((token) => (offset += token.text.length) - token.text.length),
    });
  },
};

async function create(model, kind, body, options = {}) {
  checkRequest(kind.name, body, options);
  const signal = options?.signal;
  signal?.throwIfAborted();
  const controller = new AbortController();
  const signals = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
  const how = { ...samplingOf(body), signal: signals };
  const head = { id: `${kind.prefix}-${randomId()}`, created: Math.floor(Date.now() / 1000), model: model.info.name };
  const runs = Array.from({ length: body.n ?? 1 }, (_, index) => run(model, kind, body, how, index));
  if (body.stream) return new Stream(chunks(kind, body, head, runs, controller), controller);
  return await whole(kind, body, head, runs, controller);
}

/** Starts one choice. Its `take` returns the log-probabilities since the last call. */
function run(model, kind, body, options, index) {
  const tokens = [];
  const wanted = body.logprobs != null && body.logprobs !== false;
  const shape = kind.logprobs();
  const take = () => (wanted ? shape(tokens.splice(0)) : null);
  const seed = options.seed == null ? undefined : options.seed + index;
  const onToken = wanted ? (token) => tokens.push({ top: [], ...token }) : undefined;
  return { index, answer: kind.start(model, body, { ...options, seed, onToken }), take };
}

async function whole(kind, body, head, runs, controller) {
  const read = async ({ index, answer, take }) => {
    const message = await answer.message();
    const stats = await answer.stats;
    return { stats, choice: choice(index, kind.whole(message, body), finish(stats), take()) };
  };
  try {
    const done = await Promise.all(runs.map(read));
    const choices = done.map((each) => each.choice);
    return { ...head, object: kind.object, choices, usage: usage(done.map((each) => each.stats)) };
  } catch (error) {
    controller.abort(error); // One failed: cancel the others.
    throw error;
  }
}

async function* chunks(kind, body, head, runs, controller) {
  const withUsage = body.stream_options?.include_usage;
  const chunk = (choices, usage) => ({
    ...head,
    object: kind.chunkObject,
    choices,
    ...(withUsage ? { usage: usage ?? null } : {}),
  });
  const all = [];
  const one = async function* ({ index, answer, take }) {
    yield* kind.first(index, body);
    for await (const event of answer.events()) {
      const delta = kind.delta(event, body);
      if (delta) yield choice(index, delta, null, take());
    }
    const stats = await answer.stats;
    all.push(stats);
    yield choice(index, kind.last(), finish(stats), take());
  };
  try {
    for await (const each of merge(runs.map(one))) yield chunk([each]);
    if (withUsage) yield chunk([], usage(all));
  } finally {
    controller.abort(); // Leaving the loop ends every choice.
  }
}

/** Merges several iterators, in order of arrival. */
async function* merge(iterators) {
  const next = async (iterator) => ({ iterator, result: await iterator.next() });
  const pending = new Map(iterators.map((iterator) => [iterator, next(iterator)]));
  while (pending.size > 0) {
    const { iterator, result } = await Promise.race(pending.values());
    if (result.done) {
      pending.delete(iterator);
    } else {
      yield result.value;
      pending.set(iterator, next(iterator));
    }
  }
}

/** A streamed answer; see firelight.d.ts. */
class Stream {
  #chunks;
  constructor(chunks, controller) {
    this.#chunks = chunks;
    this.controller = controller;
  }
  [Symbol.asyncIterator]() {
    return this.#chunks;
  }
  toReadableStream() {
    const chunks = this.#chunks;
    return new ReadableStream({
      async pull(controller) {
        const { value, done } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => {
        this.controller.abort();
        await chunks.return();
      },
    });
  }
}

const choice = (index, content, finish_reason = null, logprobs = null) => ({
  index,
  ...content,
  finish_reason,
  logprobs,
});

const finish = ({ finish }) =>
  finish === "length" || finish === "context" ? "length" : finish === "tool-calls" ? "tool_calls" : "stop";

/** The prompt is the same for all choices; it is counted once. */
function usage(all) {
  const prompt_tokens = all[0].promptTokens;
  const completion_tokens = all.reduce((sum, stats) => sum + stats.generatedTokens, 0);
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens: all[0].reusedTokens },
    completion_tokens_details: { reasoning_tokens: all.reduce((sum, stats) => sum + stats.reasoningTokens, 0) },
  };
}

const chatLogprob = ({ text, logprob }) => ({ token: text, logprob, bytes: [...new TextEncoder().encode(text)] });

const randomId = () => crypto.randomUUID().replaceAll("-", "");

async function embed(model, body, options = {}) {
  checkRequest("embeddings.create", body, options);
  const { input, encoding_format: format = "float", dimensions } = body;
  if (!["float", "base64"].includes(format)) refuse(`encoding_format cannot be ${format}.`, "Use float or base64.");
  const isList = Array.isArray(input) && typeof input[0] !== "number";
  const embedded = await model.embed(isList ? input : [input], { signal: options?.signal });
  const [{ vector: { length } } = { vector: [] }] = embedded;
  if (dimensions != null && dimensions !== length) {
    refuse(`dimensions cannot be ${dimensions}: this model makes vectors of ${length} numbers.`, "Leave it out.");
  }
  const tokens = embedded.reduce((sum, each) => sum + each.tokens, 0);
  return {
    object: "list",
    data: embedded.map(({ vector }, index) => ({
      object: "embedding",
      index,
      embedding: format === "base64" ? base64(vector) : Array.from(vector),
    })),
    model: model.info.name,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  };
}

const base64 = ({ buffer }) => btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""));
