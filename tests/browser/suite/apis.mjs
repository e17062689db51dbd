// OpenAI's interface and the Prompt API's shape.

import assert from "node:assert/strict";
import { stories, tellsStories } from "./stories.mjs";

const STORY = ", there was a little girl named Lily.";

export default [
  {
    name: "OpenAI: completions",
    async run(context) {
      const { page } = await context.stories();
      const whole = await page.evaluate(async () => {
        const client = new t.OpenAI(t.model);
        const body = { model: "any", prompt: "Once upon a time", temperature: 0, max_tokens: 60 };
        const pieces = [];
        const stream = await client.completions.create({
          ...body,
          stop: "She",
          stream: true,
          stream_options: { include_usage: true },
        });
        for await (const chunk of stream) pieces.push(chunk);
        return {
          whole: await client.completions.create({ ...body, stop: ["She"] }),
          echo: await client.completions.create({ ...body, max_tokens: 3, echo: true }),
          logprobs: await client.completions.create({ ...body, max_tokens: 4, logprobs: 2 }),
          two: await client.completions.create({ ...body, temperature: 1, seed: 5, max_tokens: 20, n: 2 }),
          again: await client.completions.create({ ...body, temperature: 1, seed: 6, max_tokens: 20 }),
          models: await client.models.list(),
          name: t.model.info.name,
          pieces,
        };
      });
      const [choice] = whole.whole.choices;
      assert.deepEqual(
        [choice.text, choice.finish_reason, choice.logprobs, choice.index],
        [`${STORY} `, "stop", null, 0],
      );
      assert.equal(whole.whole.object, "text_completion");
      assert.equal(
        whole.whole.usage.total_tokens,
        whole.whole.usage.prompt_tokens + whole.whole.usage.completion_tokens,
      );
      assert.ok(whole.whole.usage.prompt_tokens_details.cached_tokens > 0, "the prompt is in the prefix cache");
      assert.ok(whole.echo.choices[0].text.startsWith("Once upon a time,"));
      assert.equal(whole.echo.choices[0].finish_reason, "length");
      const { tokens, token_logprobs, top_logprobs, text_offset } = whole.logprobs.choices[0].logprobs;
      assert.deepEqual([tokens.length, token_logprobs.length, top_logprobs.length], [4, 4, 4]);
      assert.equal(tokens.join(""), whole.logprobs.choices[0].text);
      assert.deepEqual(text_offset.slice(0, 2), [0, tokens[0].length]);
      assert.deepEqual(
        whole.two.choices.map((each) => each.index),
        [0, 1],
      );
      assert.notEqual(whole.two.choices[0].text, whole.two.choices[1].text);
      assert.equal(whole.two.choices[1].text, whole.again.choices[0].text, "choice i is sampled with seed + i");
      assert.equal(whole.two.usage.completion_tokens, 40);
      assert.deepEqual(
        whole.models.data.map((each) => each.id),
        [whole.name],
      );
      const texts = whole.pieces.flatMap((chunk) => chunk.choices.map((each) => each.text));
      assert.equal(texts.join(""), `${STORY} `);
      assert.ok(texts.length > 5, "it streams");
      assert.equal(whole.pieces.at(-2).choices[0].finish_reason, "stop");
      assert.deepEqual(whole.pieces.at(-1).choices, []);
      assert.equal(whole.pieces.at(-1).usage.completion_tokens, whole.whole.usage.completion_tokens);
      assert.ok(whole.pieces.slice(0, -1).every((chunk) => chunk.usage === null));
      assert.equal(new Set(whole.pieces.map((chunk) => chunk.id)).size, 1);
    },
  },
  {
    name: "OpenAI: chat completions",
    async run(context) {
      const { page } = await context.stories();
      const result = await page.evaluate(async () => {
        const { client, chat } = { client: t.model.client, chat: t.model.client.chat.completions };
        const messages = [
          { role: "developer", content: "Tell a story." },
          {
            role: "user",
            content: [
              { type: "text", text: "Lily " },
              { type: "text", text: "was happy" },
            ],
          },
        ];
        const body = { messages, temperature: 0, max_completion_tokens: 12, ignore_eos: true };
        const direct = await t.model
          .chat(
            [
              { role: "system", content: "Tell a story." },
              { role: "user", content: "Lily was happy" },
            ],
            { temperature: 0, maxTokens: 12, ignoreEnd: true },
          )
          .text();
        const stream = await chat.create({ ...body, stream: true, logprobs: true, top_logprobs: 1, n: 2 });
        const chunks = [];
        for await (const chunk of stream) chunks.push(chunk);
        const readable = (await chat.create({ ...body, stream: true })).toReadableStream().getReader();
        const { value } = await readable.read();
        await readable.cancel();
        const left = await chat.create({ ...body, max_completion_tokens: 400, stream: true });
        for await (const _ of left) break;
        const stop = new AbortController();
        const aborted = t.error(() => chat.create({ ...body, max_completion_tokens: 400 }, { signal: stop.signal }));
        setTimeout(() => stop.abort(), 100);
        return {
          direct,
          whole: await chat.create({ ...body, logprobs: true, top_logprobs: 2 }),
          chunks,
          first: value,
          leftAborted: left.controller.signal.aborted,
          aborted: await aborted,
          refused: await Promise.all([
            t.error(() => chat.create({ ...body, response_format: { type: "xml" } })),
            t.error(() => chat.create({ messages: "hello" })),
            t.error(() => chat.create({ ...body, n: 0 })),
            t.error(() => chat.create({ ...body, top_logprobs: 2 })),
            t.error(() => chat.create({ messages: [{ role: "user", content: [{ type: "image_url" }] }] })),
            t.error(() => client.completions.create({ prompt: ["a", "b"] })),
            t.error(() => client.models.retrieve("gpt-4")),
          ]),
        };
      });
      const [choice] = result.whole.choices;
      assert.equal(result.whole.object, "chat.completion");
      assert.deepEqual(
        [choice.message.role, choice.message.content, choice.finish_reason],
        ["assistant", result.direct, "length"],
      );
      assert.equal(choice.logprobs.content.length, 12);
      for (const { token, logprob, bytes, top_logprobs } of choice.logprobs.content) {
        assert.ok(typeof token === "string" && logprob <= 0 && Array.isArray(bytes) && top_logprobs.length === 2);
      }
      for (const index of [0, 1]) {
        const mine = result.chunks.flatMap((chunk) => chunk.choices).filter((each) => each.index === index);
        assert.deepEqual(mine[0].delta, { role: "assistant", content: "" });
        assert.equal(mine.map((each) => each.delta.content ?? "").join(""), result.direct);
        assert.equal(mine.flatMap((each) => each.logprobs?.content ?? []).length, 12);
        assert.deepEqual(mine.map((each) => each.finish_reason).filter(Boolean), ["length"]);
      }
      assert.equal(result.chunks[0].object, "chat.completion.chunk");
      assert.equal(result.first.choices[0].delta.role, "assistant");
      assert.equal(result.leftAborted, true);
      assert.equal(result.aborted.name, "AbortError");
      for (const error of result.refused) assert.equal(error.code, "bad-argument", JSON.stringify(error));
      await tellsStories(context, page);
    },
  },
  {
    name: "tool calls, by the package's API and OpenAI's",
    async run(context) {
      const { page } = await context.stories();
      const result = await page.evaluate(async () => {
        const place = { type: "object", properties: { place: { enum: ["Rome", "Oslo"] } }, required: ["place"] };
        const parameters = { ...place, additionalProperties: false };
        const tools = [{ type: "function", function: { name: "rain", description: "Tells whether it rains", parameters } }];
        const messages = [{ role: "user", content: "Does it rain?" }];
        const answer = t.model.chat(messages, { tools, toolChoice: "required", temperature: 0 });
        const events = [];
        for await (const event of answer.events()) events.push(event);
        const said = await answer.message();
        messages.push(said, { role: "tool", tool_call_id: said.tool_calls[0].id, content: "No." });
        const after = await t.model.chat(messages, { tools, temperature: 0, maxTokens: 5 }).text();
        const { create } = t.model.client.chat.completions;
        const body = { messages: messages.slice(0, 1), tools, tool_choice: "required", temperature: 0 };
        const chunks = [];
        for await (const chunk of await create({ ...body, stream: true })) chunks.push(chunk);
        return {
          events,
          said,
          after,
          text: await answer.text(),
          // Firefox's protocol does not serialize shared objects.
          calls: structuredClone(await answer.toolCalls()),
          stats: await answer.stats,
          whole: await create(body),
          chunks,
          none: await t.model.chat(messages, { tools, toolChoice: "none", temperature: 0, maxTokens: 5 }).toolCalls(),
          unknown: await t.error(() => t.model.chat(messages, { tools, toolChoice: { name: "snow" } }).text()),
        };
      });
      const [call] = result.calls;
      assert.equal(call.function.name, "rain");
      assert.ok(["Rome", "Oslo"].includes(JSON.parse(call.function.arguments).place), call.function.arguments);
      assert.match(call.id, /^[0-9a-zA-Z]{9}$/);
      assert.deepEqual([result.text, result.stats.finish], ["", "tool-calls"]);
      assert.deepEqual(result.said.tool_calls, result.calls);
      assert.deepEqual(result.events[0], { type: "tool-call", index: 0, id: call.id, name: "rain" });
      assert.deepEqual(result.events.at(-1), { type: "tool-call-end", index: 0, complete: true });
      const pieces = result.events.filter((event) => event.type === "tool-arguments");
      assert.equal(pieces.map((event) => event.text).join(""), call.function.arguments);
      assert.equal(typeof result.after, "string");
      assert.deepEqual(result.none, []);
      assert.equal(result.unknown.code, "bad-argument");
      const [choice] = result.whole.choices;
      assert.deepEqual([choice.finish_reason, choice.message.content], ["tool_calls", null]);
      assert.equal(choice.message.tool_calls[0].function.arguments, call.function.arguments);
      const deltas = result.chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
      assert.equal(deltas[0].function.name, "rain");
      assert.equal(deltas.map((delta) => delta.function.arguments).join(""), call.function.arguments);
      assert.equal(result.chunks.at(-1).choices[0].finish_reason, "tool_calls");
    },
  },
  {
    name: "answers have the requested format",
    async run(context) {
      const { page } = await context.stories();
      const result = await page.evaluate(async () => {
        const options = { temperature: 0, maxTokens: 60 };
        const schema = {
          type: "object",
          properties: { name: { type: "string", maxLength: 5 }, age: { type: "integer", minimum: 1, maximum: 9 } },
          required: ["name", "age"],
          additionalProperties: false,
        };
        const ask = (responseFormat) => t.model.complete("Once", { ...options, responseFormat }).text();
        const messages = [{ role: "user", content: "Who?" }];
        const response_format = { type: "json_schema", json_schema: { name: "who", schema } };
        const openai = await t.model.client.chat.completions.create({ messages, response_format, temperature: 0 });
        const session = await t.LanguageModel.create({ model: t.model, temperature: 0, topK: 1 });
        return {
          json: await ask({ type: "json_schema", schema }),
          regex: await ask({ type: "regex", pattern: "[a-c]{3}-[0-9]{2}" }),
          choice: await ask({ type: "choice", choices: ["yes", "no"] }),
          lark: await ask({ type: "lark", grammar: 'start: "(" start ")" | "x"' }),
          openai: openai.choices[0].message.content,
          promptApi: await session.prompt("Who?", { responseConstraint: schema, maxTokens: 60 }),
          promptRegex: await session.prompt("Well?", { responseConstraint: /^(yes|no)$/ }),
          wrong: await t.error(() => ask({ type: "json_schema", schema: { type: "strnig" } })),
          unknown: await t.error(() => ask({ type: "xml" })),
        };
      });
      for (const text of [result.json, result.openai, result.promptApi]) {
        const { name, age } = JSON.parse(text);
        assert.ok(name.length <= 5 && age >= 1 && age <= 9, text);
      }
      assert.match(result.regex, /^[a-c]{3}-[0-9]{2}$/);
      assert.match(result.choice, /^(yes|no)$/);
      assert.match(result.lark, /^\(*x\)*$/);
      assert.match(result.promptRegex, /^(yes|no)$/);
      assert.deepEqual([result.wrong.code, result.unknown.code], ["bad-argument", "bad-argument"]);
      assert.match(result.wrong.message, /responseFormat.*strnig/);
    },
  },
  {
    name: "Prompt API: a session",
    async run(context) {
      const { page } = await context.stories();
      const result = await page.evaluate(async () => {
        const { LanguageModel, model } = t;
        const before = await LanguageModel.availability({ model });
        const session = await LanguageModel.create({
          model,
          temperature: 0,
          topK: 1,
          initialPrompts: [{ role: "system", content: "Tell a story." }],
        });
        const usage = [session.contextUsage];
        const first = await session.prompt("Lily was happy", { maxTokens: 12 });
        usage.push(session.contextUsage);
        const copy = await session.clone();
        const measured = await session.measureContextUsage("And then?");
        let streamed = "";
        for await (const piece of session.promptStreaming("And then?", { maxTokens: 12 })) streamed += piece;
        usage.push(session.contextUsage);
        const cloned = await copy.prompt("And then?", { maxTokens: 12 });
        const direct = await model
          .chat(
            [
              { role: "system", content: "Tell a story." },
              { role: "user", content: "Lily was happy" },
              { role: "assistant", content: first },
              { role: "user", content: "And then?" },
            ],
            { temperature: 0, maxTokens: 12 },
          )
          .text();
        await copy.append([
          { role: "user", content: "The end." },
          { role: "assistant", content: "Yes." },
        ]);
        usage.push(copy.contextUsage);
        // Concurrent prompts of a session are answered one after the other.
        const both = await Promise.all([copy.prompt("One", { maxTokens: 3 }), copy.prompt("Two", { maxTokens: 3 })]);
        const stop = new AbortController();
        const aborted = t.error(() => session.prompt("Go on", { signal: stop.signal }));
        stop.abort();
        const error = await aborted;
        const usageAfterAbort = session.contextUsage;
        session.destroy();
        return {
          before,
          usage,
          first,
          streamed,
          cloned,
          direct,
          measured,
          both,
          error,
          usageAfterAbort,
          window: session.contextWindow,
          quota: session.inputQuota,
          destroyed: await t.error(() => session.prompt("x")),
          alive: await t.error(() => copy.prompt("x", { maxTokens: 1 })),
          refused: await Promise.all([
            t.error(() => LanguageModel.create({ model, expectedInputs: [{ type: "image" }] })),
            t.error(() => copy.prompt("x", { responseConstraint: /a/i })),
            t.error(() => copy.prompt([{ role: "system", content: "late" }])),
            t.error(() => LanguageModel.create({ model, samplingMode: "wild" })),
            t.error(() => new LanguageModel()),
            t.error(() =>
              LanguageModel.create({ model, initialPrompts: [{ role: "system", content: "word ".repeat(600) }] }),
            ),
          ]),
        };
      });
      assert.equal(result.before, "available");
      assert.equal(result.streamed, result.direct);
      assert.equal(result.cloned, result.direct);
      assert.ok(
        result.usage.every((each, i) => i === 0 || each > result.usage[i - 1]),
        `usage grows: ${result.usage}`,
      );
      assert.ok(result.measured > 0);
      assert.equal(result.both.length, 2);
      assert.equal(result.error.name, "AbortError");
      assert.equal(result.usageAfterAbort, result.usage[2], "an aborted exchange is not part of the conversation");
      assert.deepEqual([result.window, result.quota], [512, 512]);
      assert.equal(result.destroyed.name, "InvalidStateError");
      assert.equal(result.alive, "nothing");
      assert.deepEqual(
        result.refused.map((each) => each.name),
        ["NotSupportedError", "NotSupportedError", "NotSupportedError", "TypeError", "TypeError", "QuotaExceededError"],
      );
    },
  },
  {
    name: "Prompt API: old exchanges are dropped when the context is full",
    async run(context) {
      const { page } = await stories(context, { context: 128 });
      const result = await page.evaluate(async () => {
        const session = await t.LanguageModel.create({
          model: t.model,
          initialPrompts: [{ role: "system", content: "A." }],
        });
        const events = [];
        session.oncontextoverflow = (event) => events.push(event.type);
        session.addEventListener("quotaoverflow", (event) => events.push(event.type));
        const usage = [];
        for (let i = 0; i < 8; i++) {
          await session.prompt(`Number ${i} was a happy girl`, { maxTokens: 10, seed: 1 });
          usage.push(session.contextUsage);
        }
        return { events, usage, tooMuch: await t.error(() => session.prompt("word ".repeat(200))) };
      });
      assert.ok(
        result.events.includes("contextoverflow") && result.events.includes("quotaoverflow"),
        `${result.events}`,
      );
      assert.ok(
        result.usage.every((each) => each <= 128),
        `${result.usage}`,
      );
      assert.equal(result.tooMuch.name, "QuotaExceededError");
    },
  },
  {
    name: "Prompt API: sessions load, share and release a model",
    async run(context) {
      const page = await context.page();
      const site = context.site();
      const result = await page.evaluate(async (url) => {
        const { LanguageModel } = t;
        const before = await LanguageModel.availability({ model: url });
        const progress = [];
        const monitor = (target) => target.addEventListener("downloadprogress", (event) => progress.push(event.loaded));
        const creating = LanguageModel.create({ model: url, monitor });
        const during = await LanguageModel.availability({ model: url });
        const second = LanguageModel.create({ model: url });
        const sessions = [await creating, await second];
        const loaded = await LanguageModel.availability({ model: url });
        const text = await sessions[1].prompt("Once", { maxTokens: 4 });
        sessions.forEach((session) => session.destroy());
        const after = await LanguageModel.availability({ model: url });
        const stop = new AbortController();
        const stopped = LanguageModel.create({ model: "nowhere.gguf", signal: stop.signal });
        stop.abort();
        return {
          before,
          during,
          loaded,
          after,
          progress,
          text,
          stopped: await t.error(() => stopped),
          missing: await t.error(() => LanguageModel.create({ model: "nowhere.gguf" })),
        };
      }, site.url("model.gguf"));
      assert.deepEqual(
        [result.before, result.during, result.loaded, result.after],
        ["downloadable", "downloading", "available", "available"],
      );
      assert.deepEqual([result.progress[0], result.progress.at(-1)], [0, 1]);
      assert.ok(
        result.progress.every((each, i) => i === 0 || each >= result.progress[i - 1]),
        `${result.progress}`,
      );
      assert.ok(result.text.length > 0);
      assert.ok(site.served < 1.2 * 1054432, "loaded once");
      assert.equal(result.stopped.name, "AbortError");
      assert.equal(result.missing.name, "OperationError");
    },
  },
];
