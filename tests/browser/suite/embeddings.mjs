// Embeddings, by the package's API and OpenAI's.

import assert from "node:assert/strict";

const TEXTS = ["Lily was happy", "The dog ran to the park and played", "Once"];
const near = (a, b) => a.every((value, i) => Math.abs(value - b[i]) < 1e-4);

export default [
  {
    name: "embeddings: vectors of texts, alone, together and during an answer",
    async run(context) {
      const { page } = await context.stories();
      const result = await page.evaluate(async (texts) => {
        const plain = ({ vector, tokens }) => ({ vector: Array.from(vector), tokens });
        const alone = [];
        for (const text of texts) alone.push(plain(await t.model.embed(text)));
        const together = (await t.model.embed(texts)).map(plain);
        const tokens = await t.model.tokenize(texts[0]);
        const answer = t.model.complete("Once upon a time", { temperature: 0, maxTokens: 60 });
        const during = plain(await t.model.embed(texts[0]));
        const stop = new AbortController();
        const aborted = t.error(() => t.model.embed(texts, { signal: stop.signal }));
        stop.abort();
        return {
          alone,
          together,
          byTokens: plain(await t.model.embed(tokens)),
          none: await t.model.embed([]),
          count: tokens.length,
          during,
          text: await answer.text(),
          direct: await t.model.complete("Once upon a time", { temperature: 0, maxTokens: 60 }).text(),
          aborted: await aborted,
          kind: (await t.model.embed("x")).vector.constructor.name,
          tooLong: await t.error(() => t.model.embed("word ".repeat(600))),
          wrong: await t.error(() => t.model.embed({ text: "x" })),
        };
      }, TEXTS);
      const [first, second] = result.alone;
      assert.equal(first.vector.length, 64);
      const dot = (a, b) => a.vector.reduce((sum, value, i) => sum + value * b.vector[i], 0);
      for (const each of result.alone) assert.ok(Math.abs(dot(each, each) - 1) < 1e-4, "of length 1");
      assert.ok(dot(first, second) < 0.999, "texts differ");
      result.together.forEach((each, i) => {
        assert.ok(near(each.vector, result.alone[i].vector), `text ${i}`);
        assert.equal(each.tokens, result.alone[i].tokens);
      });
      assert.deepEqual([result.byTokens.tokens, first.tokens], [result.count, result.count]);
      assert.ok(near(result.byTokens.vector, first.vector) && near(result.during.vector, first.vector));
      assert.deepEqual([result.none, result.kind, result.text], [[], "Float32Array", result.direct]);
      assert.equal(result.aborted.name, "AbortError");
      assert.deepEqual([result.tooLong.code, result.wrong.code], ["context-full", "bad-argument"]);
    },
  },
  {
    name: "embeddings: OpenAI's interface, as numbers and as base64",
    async run(context) {
      const { page } = await context.stories();
      const result = await page.evaluate(async (texts) => {
        const { create } = t.model.client.embeddings;
        const direct = await t.model.embed(texts);
        return {
          list: await create({ input: texts, model: "any", dimensions: direct[0].vector.length }),
          one: await create({ input: texts[0] }),
          coded: await create({ input: texts[0], encoding_format: "base64" }),
          tokens: direct.map((each) => each.tokens),
          direct: Array.from(direct[0].vector),
        };
      }, TEXTS);
      assert.deepEqual(
        result.list.data.map(({ object, index }) => [object, index]),
        TEXTS.map((_, i) => ["embedding", i]),
      );
      const sum = result.tokens.reduce((a, b) => a + b);
      assert.deepEqual(result.list.usage, { prompt_tokens: sum, total_tokens: sum });
      const bytes = Buffer.from(result.coded.data[0].embedding, "base64");
      const coded = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
      for (const vector of [result.list.data[0].embedding, result.one.data[0].embedding, coded]) {
        assert.equal(vector.length, 64);
        assert.ok(near(vector, result.direct));
      }
    },
  },
];
