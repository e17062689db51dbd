// Production builds by bundlers, served as static files. The demo model is a part of a build only if it is imported.

import assert from "node:assert/strict";
import { join } from "node:path";
import { files, project, tool } from "../installed.mjs";

/** Builds an example by the given tools, one after the other. */
function built(context, example, ...tools) {
  const build = async (folder) => {
    for (const run of tools) await run(folder);
  };
  return project(context, join(context.paths.root, "examples/js", example), build);
}

/** Checks that a build has the right files and answers: with the stories model, or its own if `model` is null. */
async function answers(context, build, { model = "model.gguf", demo = 0 } = {}) {
  const site = context.site({}, { ...build, "model.gguf": context.storiesFile });
  const names = Object.keys(site.files);
  const count = (pattern) => names.filter((name) => pattern.test(name)).length;
  assert.deepEqual([count(/\.wasm$/), count(/demo.*\.gguf$/)], [1, demo], `${names}`);
  const page = await context.page({ path: `${site.path}index.html${model ? `?model=${model}` : ""}` });
  await page.waitForFunction("document.body?.dataset.done", { timeout: 200_000 });
  const text = await page.$eval("#answer", (element) => element.textContent);
  assert.ok(text.length > 10, `it answers: ${text}`);
  assert.deepEqual(
    site.requests.filter(({ name }) => !names.includes(name)),
    [],
    "every requested file exists",
  );
}

const VITE = tool("vite", "build", "--base=./");

export default [
  {
    name: "bundled: TypeScript by Vite, without a configuration",
    seconds: 300,
    async run(context) {
      const folder = await built(context, "vite", tool("tsc"), VITE);
      await answers(context, await files(join(folder, "dist")));
    },
  },
  {
    name: "bundled: React by Vite, with the demo model",
    seconds: 300,
    async run(context) {
      const folder = await built(context, "react", VITE);
      await answers(context, await files(join(folder, "dist")), { model: null, demo: 1 });
    },
  },
  {
    name: "bundled: by webpack, without a configuration",
    seconds: 300,
    async run(context) {
      const folder = await built(context, "webpack", tool("webpack", "--mode", "production"));
      const { "index.html": index, ...rest } = await files(folder);
      const own = Object.entries(rest).filter(([name]) => name.startsWith("dist/"));
      await answers(context, { "index.html": index, ...Object.fromEntries(own) });
    },
  },
];
