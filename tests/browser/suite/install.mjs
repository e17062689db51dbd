// The package in projects: packed, installed by npm, and used by the examples of examples/js.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import { launch } from "../browsers.mjs";

const run = promisify(execFile);

/** Runs `use` with a copy of an example in which the packed package is installed. */
async function installed({ paths: { root, dist } }, example, use) {
  const folder = await mkdtemp(join(tmpdir(), "firelight-install-"));
  try {
    await cp(join(root, "examples/js", example), folder, { recursive: true });
    const packed = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: dist });
    const [{ filename }] = JSON.parse(packed.stdout);
    await run("npm", ["install", "--no-audit", "--no-fund", `./${filename}`], { cwd: folder });
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The files of a folder, in the form that a site takes. */
async function files(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(paths.map((path) => [relative(folder, path), path]));
}

/** The text that an example's page writes into the elements with these ids. */
async function shown(context, folder, ids = ["answer"]) {
  const site = context.site({}, await files(folder));
  const page = await context.page({ path: `${site.path}index.html` });
  await page.waitForFunction("document.body?.dataset.done", { timeout: 200_000 });
  return page.evaluate((ids) => ids.map((id) => document.getElementById(id).textContent), ids);
}

async function answers(context, example) {
  const [text] = await installed(context, example, (folder) => shown(context, folder));
  assert.ok(text.length > 10, `it answers: ${text}`);
}

export default [
  {
    name: "installed: Node imports it, for rendering on a server",
    browsers: ["chromium"],
    run: (context) =>
      installed(context, "page", async (folder) => {
        const code = 'console.log(Object.keys(await import("firelight")).sort().join())';
        const { stdout } = await run("node", ["--input-type=module", "-e", code], { cwd: folder });
        assert.equal(stdout.trim(), "Firelight,FirelightError,LanguageModel,OpenAI,cache");
      }),
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
    run: (context) =>
      installed(context, "tools", async (folder) => {
        const [call, answer] = await shown(context, folder, ["call", "answer"]);
        assert.match(call, /^get_weather\(\{.*"city".*\}\)$/);
        assert.ok(answer.length > 0, `it answers: ${answer}`);
      }),
  },
  {
    name: "installed: React, bundled by Vite",
    browsers: ["chromium"],
    seconds: 400,
    async run(context) {
      const reachable = await run("npm", ["ping"]).catch(() => null);
      if (!reachable) return { skipped: "npm's registry, which has React and Vite, cannot be reached" };
      const [text] = await installed(context, "react", async (folder) => {
        await run("npx", ["vite", "build"], { cwd: folder });
        return shown(context, join(folder, "dist"));
      });
      assert.ok(text.length > 10, `it answers: ${text}`);
    },
  },
  {
    name: "installed: a Manifest V3 extension",
    browsers: ["chromium"],
    seconds: 300,
    run: (context) =>
      installed(context, "extension", async (folder) => {
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
      }),
  },
];
