// OpenAI's interface over one model: requests become `chat` and `complete`, answers become objects and chunks of the
// shapes that OpenAI documents. Unsupported parameters are "bad-argument" errors; none is ignored silently.

import { FirelightError } from "./errors.js";

/** A client with OpenAI's interface; see firelight.d.ts. */
export class OpenAI {
  constructor(model) {
    this.chat = { completions: { create: (body, options) => create(model, CHAT, body, options) } };
    this.completions = { create: (body, options) => create(model, TEXT, body, options) };
    const entry = () => ({ id: model.info.name, object: "model", created: 0, owned_by: "firelight" });
    this.models = {
      list: async () => ({ object: "list", data: [entry()] }),
      retrieve: async (id) => {
        if (id !== model.info.name)
          refuse(`there is no model ${JSON.stringify(id)} here`, `ask for ${model.info.name}`);
        return entry();
      },
    };
  }
}

// The two kinds of request differ in how they start and in how text and log-probabilities are wrapped.

const CHAT = {
  prefix: "chatcmpl",
  object: "chat.completion",
  chunkObject: "chat.completion.chunk",
  check(body) {
    if (!Array.isArray(body.messages)) refuse("messages is not an array", 'pass [{ role: "user", content: "..." }]');
    if (body.top_logprobs != null && !body.logprobs) refuse("top_logprobs without logprobs", "set logprobs: true");
  },
  start: (model, body, options) =>
    model.chat(body.messages, {
      ...options,
      maxTokens: body.max_completion_tokens ?? options.maxTokens,
      logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
      tools: body.tools,
      toolChoice: toolChoice(body.tool_choice),
      reasoning: body.reasoning_effort == null ? undefined : body.reasoning_effort !== "none",
      responseFormat: responseFormat(body.response_format),
      templateVariables: body.chat_template_kwargs,
    }),
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
  prefix: "cmpl",
  object: "text_completion",
  chunkObject: "text_completion",
  check(body) {
    if (typeof body.prompt !== "string")
      refuse("prompt is not a string", "pass one text; for several, send several requests");
    if (body.echo && body.logprobs != null)
      refuse("echo with logprobs: the prompt's are not computed", "leave one out");
    if (body.suffix) refuse("suffix: text cannot be inserted", "leave it out");
  },
  start: (model, body, options) => model.complete(body.prompt, { ...options, logprobs: body.logprobs ?? undefined }),
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

async function create(model, kind, body, { signal } = {}) {
  check(kind, body);
  signal?.throwIfAborted();
  const controller = new AbortController();
  const signals = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
  const options = { ...sampling(body), signal: signals };
  const head = { id: `${kind.prefix}-${randomId()}`, created: Math.floor(Date.now() / 1000), model: model.info.name };
  const runs = Array.from({ length: body.n ?? 1 }, (_, index) => run(model, kind, body, options, index));
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

function check(kind, body) {
  if (body === null || typeof body !== "object") refuse("the request is not an object", "pass { messages: [...] }");
  kind.check(body);
  if (body.functions || body.function_call) refuse("functions are deprecated", "use tools");
  if (body.n != null && !(Number.isInteger(body.n) && body.n >= 1 && body.n <= 128)) {
    refuse(`n is ${body.n}`, "use an integer from 1 to 128");
  }
}

function sampling(body) {
  const of = (value) => value ?? undefined;
  return {
    temperature: of(body.temperature),
    topP: of(body.top_p),
    topK: of(body.top_k),
    minP: of(body.min_p),
    repetitionPenalty: of(body.repetition_penalty),
    frequencyPenalty: of(body.frequency_penalty),
    presencePenalty: of(body.presence_penalty),
    seed: of(body.seed),
    maxTokens: of(body.max_tokens),
    stop: of(body.stop),
    logitBias: of(body.logit_bias),
    ignoreEnd: of(body.ignore_eos),
  };
}

function toolChoice(choice) {
  if (choice == null || typeof choice === "string") return choice ?? undefined;
  return { name: choice.function?.name ?? refuse("tool_choice names no function", 'pass "auto" or a function') };
}

function responseFormat(format) {
  if (format == null) return undefined;
  if (format.type === "text" || format.type === "json_object") return { type: format.type };
  if (format.type !== "json_schema")
    refuse(`response_format is ${format.type}`, "use text, json_object or json_schema");
  const schema = format.json_schema?.schema;
  if (schema == null) refuse("response_format has no json_schema.schema", "pass a JSON schema");
  return { type: "json_schema", schema };
}

const chatLogprob = ({ text, logprob }) => ({ token: text, logprob, bytes: [...new TextEncoder().encode(text)] });

const randomId = () => crypto.randomUUID().replaceAll("-", "");

function refuse(message, hint) {
  throw new FirelightError("bad-argument", message, hint);
}
