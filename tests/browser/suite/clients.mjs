// The official `openai` package, the AI SDK and LangChain.js over `model.fetch`, bundled by Vite.

import assert from "node:assert/strict";
import { join } from "node:path";
import { files, project, tool } from "../installed.mjs";

/** A page of clients/main.js with the stories model. */
async function open(context) {
  const source = join(context.paths.root, "tests/browser/clients");
  const folder = await project(context, source, tool("vite", "build", "--base=./"));
  const site = context.site({}, { ...(await files(join(folder, "dist"))), "model.gguf": context.storiesFile });
  const page = await context.page({ path: `${site.path}index.html` });
  await page.waitForFunction("window.ready", { timeout: 100_000 });
  const outside = [];
  page.on("request", (request) => outside.push(request.url()));
  return { page, outside };
}

/** What a client returns, after checks that are the same for all clients. */
async function ask(context, client) {
  const { page, outside } = await open(context);
  const direct = await page.evaluate(() => window.direct());
  const result = JSON.parse(await page.evaluate((client) => window.ask(client), client));
  assert.deepEqual([result.text, result.streamed, result.finish], [direct.text, direct.text, "length"]);
  const { name, age } = result.object;
  assert.ok(name.length <= 5 && Number.isInteger(age) && age >= 1 && age <= 9, JSON.stringify(result.object));
  assert.equal(result.vector.length, direct.length);
  direct.vector.forEach((value, i) => assert.ok(Math.abs(value - result.vector[i]) < 1e-6, `vector[${i}]`));
  assert.deepEqual(outside, [], "no request leaves the page");
  return result;
}

export default [
  {
    name: "client: the openai package",
    seconds: 300,
    async run(context) {
      const result = await ask(context, "openai");
      assert.ok(result.chunks > 5, "it streams");
      const [whole, streamed] = result.usage;
      assert.equal(whole.completion_tokens, 12);
      assert.equal(streamed.total_tokens, whole.total_tokens);
      assert.equal(result.call.name, "rain");
      assert.ok(["Rome", "Oslo"].includes(JSON.parse(result.call.arguments).place), result.call.arguments);
      assert.ok(result.completion.length > 0);
      assert.deepEqual(result.models, ["stories260K"]);
      const [audio, misspelt, empty, full, responses] = result.refused;
      for (const [error, status, words] of [
        [audio, 400, /audio is not supported/],
        [misspelt, 400, /temprature; did you mean temperature\?/],
        [empty, 400, /messages is an empty list/],
        [full, 400, /context/],
        [responses, 404, /\/responses; there are/],
      ]) {
        assert.equal(error.status, status, JSON.stringify(error));
        assert.match(error.message, words);
      }
      assert.equal(result.aborted.message, "Request was aborted.");
    },
  },
  {
    name: "client: the AI SDK",
    seconds: 300,
    async run(context) {
      const result = await ask(context, "aiSdk");
      assert.ok(result.usage[0] > 12 && result.usage[0] === result.usage[1], `${result.usage}`);
      assert.equal(result.call.name, "rain");
      assert.equal(result.result, `${result.call.input.place}: no`);
      assert.deepEqual(result.streamedObject, result.object);
      assert.equal(result.refused[0].status, 400, JSON.stringify(result.refused));
      assert.equal(result.aborted.name, "AbortError");
    },
  },
  {
    name: "client: LangChain.js",
    seconds: 300,
    async run(context) {
      const result = await ask(context, "langchain");
      assert.ok(result.usage[0] > 12 && result.usage[0] === result.usage[1], `${result.usage}`);
      assert.equal(result.call.name, "rain");
      assert.equal(result.result, `${result.call.input.place}: no`);
      assert.equal(result.after, "string");
      assert.match(result.refused[0].message, /context/);
    },
  },
];
