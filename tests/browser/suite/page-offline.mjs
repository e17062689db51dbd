// The page without a network: installed as an application, with a model in the cache.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { launch } from "../browsers.mjs";
import { startServer } from "../server.mjs";
import { answered, say, visible } from "../pages.mjs";

export default [
  {
    name: "page: it opens without its server, loads the model of the cache, and answers",
    seconds: 300,
    async run(context) {
      const { dist } = context.paths;
      // A server to be closed, and a browser whose service worker is not left to other tests.
      const server = await startServer({ page: dist });
      const browser = await launch(context.name);
      try {
        const page = context.watched(await browser.newPage());
        await page.goto(`${server.origin}/page/index.html`);
        await visible(page, "#start");
        await page.evaluate(() => navigator.serviceWorker.ready.then(({ active }) => active.state));
        await page.click("#demo");
        await visible(page, "#composer", 120_000);
        server.close();
        await page.goto(`${server.origin}/page/`);
        await visible(page, "#composer", 120_000);
        await say(page, "What can you do?");
        await answered(page, 1);
        await page.goto(`${server.origin}/page/bench.html`);
        await visible(page, "#run");
      } finally {
        await browser.close();
        server.close();
      }
    },
  },
  {
    name: "page: the manifest and the service worker name files that are there; libraries have permissive licences",
    browsers: ["chromium"],
    async run({ paths: { dist, root } }) {
      const manifest = JSON.parse(await readFile(join(dist, "manifest.webmanifest"), "utf8"));
      for (const { src } of manifest.icons) await readFile(join(dist, src));
      const worker = await readFile(join(dist, "service-worker.js"), "utf8");
      const files = JSON.parse(/const FILES = (.*);/.exec(worker)[1]);
      assert.ok(files.includes("index.html") && files.includes("page/vendor.js") && files.includes("firelight.wasm"));
      assert.ok(!files.includes("demo.gguf"), "the demo model is kept by the cache of models");
      assert.match(worker, /const BUILD = "[0-9a-f]{16}";/);
      for (const file of files) await readFile(join(dist, file));
      const web = join(root, "assets/web");
      const licences = await readFile(join(dist, "page/vendor-licenses.txt"), "utf8");
      const { dependencies } = JSON.parse(await readFile(join(web, "package.json"), "utf8"));
      for (const name of Object.keys(dependencies)) {
        assert.ok(licences.includes(`${name}\n`), name);
        const { license } = JSON.parse(await readFile(join(web, "node_modules", name, "package.json"), "utf8"));
        assert.match(license, /\b(MIT|BSD-3-Clause|Apache-2.0)\b/, name);
      }
    },
  },
];
