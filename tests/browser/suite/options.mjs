// Options and fields: what is unknown, misspelt, of the wrong kind or not supported is an error that names it.

import assert from "node:assert/strict";

/** Calls that are refused, in the page, and what the message says. */
const REFUSED = {
  load: [() => Firelight.load("model.gguf", { contxt: 512 }), /load has no option contxt; did you mean context\?/],
  kind: [() => Firelight.load("model.gguf", { cache: "yes" }), /cache must be true or false, not "yes"/],
  source: [() => Firelight.load(5), /A source must be a URL/],
  chat: [() => t.model.chat(user, { max_tokens: 3 }).text(), /chat has no option max_tokens; did you mean maxTokens\?/],
  typing: [() => t.model.chat(user, { temprature: 1 }).message(), /temprature; did you mean temperature\?/],
  unlike: [() => t.model.chat(user, { mirostat: 2 }).text(), /chat has no option mirostat\.$/],
  number: [() => t.model.chat(user, { temperature: "0.5" }).text(), /temperature must be a number, not "0\.5"/],
  nan: [() => t.model.complete("x", { topP: NaN }).text(), /topP must be a number, not NaN/],
  tools: [() => t.model.complete("x", { tools: [] }).text(), /complete has no option tools/],
  empty: [() => t.model.chat([]).text(), /messages is an empty list/],
  role: [() => t.model.chat([{ role: "alien", content: "x" }]).text(), /the role "alien"/],
  content: [() => t.model.chat([{ role: "user", contents: "x" }]).text(), /messages\[0\] has no content/],
  prompt: [() => t.model.complete(undefined).text(), /prompt must be a text, not undefined/],
  tokenize: [() => t.model.tokenize("x", { tools: [] }), /tokenize has no option tools/],
  embed: [() => t.model.embed("x", { dimension: 3 }), /embed has no option dimension/],
  openai: [() => create({ messages: user, max_token: 3 }), /chat\.completions\.create has no option max_token; did you mean max_tokens\?/],
  request: [() => create({ messages: user }, { timeout: 3 }), /has no option timeout/],
  stream: [() => create({ messages: user, stream_options: { usage: true } }), /stream_options has no option usage/],
  audio: [() => create({ messages: user, audio: { voice: "x" } }), /audio is not supported/],
  search: [() => create({ messages: user, web_search_options: {} }), /web_search_options is not supported/],
  modalities: [() => create({ messages: user, modalities: ["text", "audio"] }), /modalities cannot be/],
  verbosity: [() => create({ messages: user, verbosity: "low" }), /verbosity cannot be "low"/],
  custom: [() => create({ messages: user, tools: [{ type: "custom", custom: {} }] }), /tools: there is no type "custom"/],
  format: [() => create({ messages: user, response_format: { type: "xml" } }), /response_format cannot be of type "xml"/],
  choices: [() => create({ messages: user, n: 200 }), /n cannot be 200/],
  best: [() => t.model.client.completions.create({ prompt: "x", best_of: 3 }), /best_of cannot be 3/],
  suffix: [() => t.model.client.completions.create({ prompt: "x", suffix: "y" }), /suffix is not supported/],
  dimensions: [() => t.model.client.embeddings.create({ input: "x", dimensions: 3 }), /dimensions cannot be 3/],
};
/** Of the Prompt API, with TypeErrors. */
const PROMPT_API = {
  create: [() => t.LanguageModel.create({ model: t.model, temprature: 1 }), /temprature; did you mean temperature\?/],
  prompt: [() => session.prompt("x", { responseContraint: {} }), /did you mean responseConstraint\?/],
};

/** Runs calls in a page, where functions of this file have no scope. */
const evaluate = (page, calls) =>
  page.evaluate(async (calls) => {
    const session = await t.LanguageModel.create({ model: t.model });
    const names = ["Firelight", "user", "create", "session"];
    const values = [
      t.Firelight,
      [{ role: "user", content: "x" }],
      (...args) => t.model.client.chat.completions.create(...args),
      session,
    ];
    const run = (call) => t.error(() => new Function(...names, `return (${call})()`)(...values));
    return Promise.all(calls.map(run));
  }, Object.values(calls).map(([call]) => String(call)));

export default [
  {
    name: "options: what is unknown, misspelt or not supported is refused by its name",
    async run(context) {
      const { page } = await context.stories();
      for (const [calls, property, value] of [
        [REFUSED, "code", "bad-argument"],
        [PROMPT_API, "name", "TypeError"],
      ]) {
        const errors = await evaluate(page, calls);
        Object.entries(calls).forEach(([name, [, words]], i) => {
          assert.equal(errors[i][property], value, `${name}: ${JSON.stringify(errors[i])}`);
          assert.match(errors[i].message, words);
        });
      }
    },
  },
  {
    name: "options: what changes nothing is accepted",
    async run(context) {
      const { page } = await context.stories();
      const result = await page.evaluate(async () => {
        const create = (body) => t.model.client.chat.completions.create(body);
        const messages = [{ role: "user", content: "Lily was happy" }];
        const rain = (name) => ({ type: "function", function: { name, parameters: { type: "object", properties: {} } } });
        const body = { messages, temperature: 0, max_tokens: 12, ignore_eos: true };
        const neutral = {
          user: "me", metadata: {}, store: false, service_tier: "auto", safety_identifier: "x", prompt_cache_key: "x",
          prediction: null, audio: null, function_call: "none", functions: [], modalities: ["text"], verbosity: "medium",
          n: 1, top_logprobs: null, stop: null, tools: null, tool_choice: null, response_format: null,
        };
        const allowed_tools = { mode: "required", tools: [{ type: "function", function: { name: "rain" } }] };
        const tools = [rain("snow"), rain("rain")];
        const called = await create({ ...body, max_tokens: 60, tools, tool_choice: { type: "allowed_tools", allowed_tools } });
        return {
          plain: (await create(body)).choices[0].message.content,
          neutral: (await create({ ...body, ...neutral })).choices[0].message.content,
          called: called.choices[0].message.tool_calls[0].function.name,
          direct: await t.model.chat(messages, { temperature: 0, maxTokens: 12, ignoreEnd: true, seed: null, stop: undefined }).text(),
        };
      });
      assert.deepEqual([result.neutral, result.direct], [result.plain, result.plain]);
      assert.equal(result.called, "rain");
    },
  },
];
