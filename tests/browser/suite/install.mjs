// The package in projects without a build step: packed, installed, and used by the examples of examples/js.

import assert from "node:assert/strict";
import { join } from "node:path";
import { launch } from "../browsers.mjs";
import { files, project, run } from "../installed.mjs";

const installed = (context, example) => project(context, join(context.paths.root, "examples/js", example));

/** The text that an example's page writes into the elements with these ids. */
async function shown(context, folder, ids = ["answer"]) {
  const site = context.site({}, await files(folder));
  const page = await context.page({ path: `${site.path}index.html` });
  await page.waitForFunction("document.body?.dataset.done", { timeout: 200_000 });
  return page.evaluate((ids) => ids.map((id) => document.getElementById(id).textContent), ids);
}

async function answers(context, example) {
  const [text] = await shown(context, await installed(context, example));
  assert.ok(text.length > 10, `it answers: ${text}`);
}

export default [
  {
    name: "installed: Node imports it, for rendering on a server, and support() resolves there",
    browsers: ["chromium"],
    seconds: 200,
    async run(context) {
      const code = `
        const { Firelight, LanguageModel, cache, ...others } = await import("firelight");
        const error = await Firelight.load("model.gguf").catch((error) => error);
        const demo = (await import("firelight/demo")).default;
        console.log(JSON.stringify({
          names: Object.keys(others),
          support: await Firelight.support(),
          error: [error.code, error.message],
          demo,
          availability: await LanguageModel.availability(),
          cache: [await cache.list(), await cache.size()],
        }));`;
      const node = ["--input-type=module", "-e", code];
      const { stdout } = await run("node", node, { cwd: await installed(context, "page") });
      const { demo, ...rest } = JSON.parse(stdout);
      assert.match(demo, /^file:.*\/firelight\/demo\.gguf$/);
      const reason = "There is no WebGPU outside of browsers.";
      assert.deepEqual(rest, {
        names: ["FirelightError", "OpenAI"],
        support: { webgpu: false, reason, opfs: false },
        error: ["no-webgpu", reason],
        availability: "unavailable",
        cache: [[], { used: 0, quota: 0 }],
      });
    },
  },
  {
    name: "installed: a plain page",
    seconds: 300,
    run: (context) => answers(context, "page"),
  },
  {
    name: "installed: the application's own worker",
    browsers: ["chromium"],
    seconds: 300,
    run: (context) => answers(context, "worker"),
  },
  {
    name: "installed: a tool call",
    browsers: ["chromium"],
    seconds: 300,
    async run(context) {
      const [call, answer] = await shown(context, await installed(context, "tools"), ["call", "answer"]);
      assert.match(call, /^get_weather\(\{.*"city".*\}\)$/);
      assert.ok(answer.length > 0, `it answers: ${answer}`);
    },
  },
  {
    name: "installed: a Manifest V3 extension",
    browsers: ["chromium"],
    seconds: 300,
    async run(context) {
      const folder = await installed(context, "extension");
      const browser = await launch("chromium", { options: { pipe: true, enableExtensions: [folder] } });
      try {
        const worker = await browser.waitForTarget((target) => target.url().endsWith("/background.js"));
        const page = context.watched(await browser.newPage());
        await page.goto(new URL("panel.html", worker.url()).href);
        await page.waitForSelector("#ask:enabled", { timeout: 100_000 });
        await page.click("#ask");
        await page.waitForSelector("#ask:enabled", { timeout: 150_000 });
        const text = await page.$eval("#answer", (element) => element.textContent);
        assert.ok(text.length > 10, `it answers: ${text}`);
      } finally {
        await browser.close();
      }
    },
  },
];
