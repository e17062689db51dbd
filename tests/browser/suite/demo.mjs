// The demo model, `demo.gguf` in the package's folder.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const PROMPTS = ["Hello", "Tell me a short story about a river."];
const LENGTH = 64;
/** Runs native Firelight on the browser's driver; with WGPU_BACKEND set, the program does not look for a faster one. */
const DRIVERS = {
  chromium: { VK_DRIVER_FILES: "/usr/lib/chromium/vk_swiftshader_icd.json" },
  firefox: { WGPU_BACKEND: "vulkan" },
};

async function native({ name, paths }, prompt) {
  const [program, ...before] = process.env.FIRELIGHT_BIN
    ? [process.env.FIRELIGHT_BIN]
    : ["cargo", "run", "--quiet", "--features", "cli", "--"];
  const args = [...before, "run", join(paths.dist, "demo.gguf"), "--greedy", "-n", String(LENGTH), prompt];
  const env = { ...process.env, ...DRIVERS[name] };
  const running = promisify(execFile)(program, args, { cwd: paths.root, env });
  // The program would wait for input on stdin.
  running.child.stdin.end();
  return (await running).stdout;
}

export default [
  {
    name: "the demo model's name; where it is missing, the error says how to get it",
    async run(context) {
      const { dist } = context.paths;
      const names = (await readdir(dist)).filter((name) => /\.(js|wasm)$/.test(name));
      const site = context.site({}, Object.fromEntries(names.map((name) => [name, join(dist, name)])));
      const page = await context.page();
      const { named, unnamed, errors } = await page.evaluate(async (site) => {
        const { absolute } = await import(`${site}files.js`);
        const { Firelight } = await import(`${site}index.js`);
        const errors = [await t.error(() => Firelight.load()), await t.error(() => Firelight.load("demo"))];
        return { named: absolute("demo"), unnamed: absolute(null), errors };
      }, site.url(""));
      assert.deepEqual([named, unnamed], Array(2).fill(site.url("demo.gguf")));
      for (const { code, hint } of errors) {
        assert.equal(code, "http");
        assert.match(hint, /import demo from "firelight\/demo"/);
      }
    },
  },
  {
    name: "the demo model's answers equal native Firelight's",
    seconds: 600,
    async run(context) {
      const { dist, root } = context.paths;
      const page = await context.page();
      if (!existsSync(join(dist, "demo.gguf"))) {
        assert.ok(
          !existsSync(join(root, "assets/demo/demo.gguf")),
          "dist/web is older than the demo model: run ./x web",
        );
        const error = await page.evaluate(() => t.error(() => t.load()));
        assert.deepEqual([error.code, /demo\.gguf/.test(error.message)], ["http", true], JSON.stringify(error));
        return;
      }
      await page.evaluate(() => t.load());
      for (const prompt of PROMPTS) {
        const chat = (content, maxTokens) =>
          t.model.chat([{ role: "user", content }], { temperature: 0, maxTokens }).text();
        const answer = await page.evaluate(chat, prompt, LENGTH);
        assert.ok(answer.length > 20, answer);
        // The program ends its output with a newline.
        assert.equal(`${answer.trimEnd()}\n`, await native(context, prompt));
      }
    },
  },
];
