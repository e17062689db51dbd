// Sources of models, and the errors if they fail.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { launch } from "../browsers.mjs";
import { spread, split } from "../gguf.mjs";
import { watchMemory } from "../memory.mjs";
import { stories, tellsStories } from "./stories.mjs";

/** Loads a file and asserts that this fails with `code`, a message that names the file, and a hint. */
async function refuses(context, code, faults, { name = "model.gguf", origin, options, files, hint } = {}) {
  const page = await context.page();
  const site = context.site(faults, files);
  const url = site.url(name, origin);
  const error = await page.evaluate((url, options) => t.error(() => t.load(url, options)), url, options ?? {});
  assert.equal(error.code, code, JSON.stringify(error));
  assert.ok(error.message.includes(name), `the message names the file: ${error.message}`);
  assert.match(error.hint, hint ?? /\w{3}/);
}

/** Reads a Blob again and again in a worker, and collects garbage during each read. */
async function readsDespiteCollection() {
  const script = `
    import { Reader, give } from "${location.origin}/dist/buffers.js";
    onmessage = async ({ data: blob }) => {
      for (let i = 0; i < 20; i++) {
        const reading = new Reader(blob.slice(i).stream()).fill(blob.size - i);
        Promise.resolve().then(gc);
        setTimeout(gc);
        const bytes = await reading;
        if (bytes.length !== blob.size - i) throw new Error(bytes.length + " bytes of read " + i);
        give(bytes);
      }
      postMessage("all read");
    };`;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => resolve(message);
    setTimeout(() => resolve("a read does not end"), 20_000);
    worker.postMessage(new Blob([new Uint8Array(1_000_000)]));
  });
}

const row = (name, run, rest = {}) => ({ name, run, ...rest });

export default [
  row("a server without ranges: streamed once", async (context) => {
    const { page, site } = await stories(context, {}, { ranges: false });
    assert.ok(site.served < 2.1 * 1054432, `${site.served} bytes were sent`);
    await tellsStories(context, page);
  }),
  row("a server without ranges or lengths", async (context) => {
    const { page } = await stories(context, {}, { ranges: false, length: false });
    await tellsStories(context, page);
  }),
  row("a server without ranges, and no cache", (context) =>
    refuses(context, "no-range", { ranges: false }, { options: { cache: false } }),
  ),
  row("ranges, and no cache", async (context) => {
    const { page, site } = await stories(context, { cache: false });
    await tellsStories(context, page);
    assert.deepEqual(
      await page.evaluate(
        async (url) => (await t.cache.list()).filter((each) => each.url === url),
        site.url("model.gguf"),
      ),
      [],
    );
  }),
  row("a redirect to another origin", async (context) => {
    const { page } = await stories(context, {}, { redirect: "other", cors: true });
    await tellsStories(context, page);
  }),
  row("another origin that allows it", async (context) => {
    const page = await context.page();
    await page.evaluate((url) => t.load(url), context.site({ cors: true }).url("model.gguf", "other"));
    await tellsStories(context, page);
  }),
  row("another origin that does not", (context) =>
    refuses(context, "cors", {}, { origin: "other", hint: /Access-Control-Allow-Origin/i }),
  ),
  row("404", (context) => refuses(context, "http", { status: 404 }, { hint: /\w{3}/ })),
  row("403", (context) => refuses(context, "http", { status: 403 })),
  row("500", (context) => refuses(context, "http", { status: 500 }), { seconds: 180 }),
  row("a server that is gone", (context) => refuses(context, "network", { off: true }), { seconds: 180 }),
  row("a web page instead of a model", (context) =>
    refuses(
      context,
      "bad-file",
      {},
      { files: { "model.gguf": Buffer.from("<!doctype html><title>Log in</title>".padEnd(4000)) } },
    ),
  ),
  row("an invalid file is not cached: once the server has a valid one, it loads", async (context) => {
    const page = await context.page();
    const site = context.site({ damage: 0 });
    const error = await page.evaluate((url) => t.error(() => t.load(url)), site.url("model.gguf"));
    assert.equal(error.code, "bad-file", JSON.stringify(error));
    site.damage = null;
    await page.evaluate((url) => t.load(url), site.url("model.gguf"));
    await tellsStories(context, page);
  }),
  row("an empty file", (context) => refuses(context, "bad-file", {}, { files: { "model.gguf": Buffer.alloc(0) } })),
  row("half a file", async (context) => {
    const half = readFileSync(context.storiesFile).subarray(0, 500_000);
    await refuses(context, "bad-file", {}, { files: { "model.gguf": half } });
  }),
  row("a relative address, headers for its host, and a redirect", async (context) => {
    const page = await context.page();
    const site = context.site({ redirect: "origin" });
    await page.evaluate(
      (path) => t.load(path, { headers: { authorization: "Bearer abc" } }),
      `..${site.path}model.gguf`,
    );
    await tellsStories(context, page);
    assert.ok(site.requests.every(({ headers }) => headers.authorization === "Bearer abc"));
  }),
  ...["File", "ArrayBuffer"].map((kind) =>
    row(`a model as ${kind}`, async (context) => {
      const page = await context.page();
      const load = async (url, kind) => {
        const buffer = await (await fetch(url)).arrayBuffer();
        return t.load(kind === "File" ? new File([buffer], "stories.gguf") : buffer);
      };
      const { info } = await page.evaluate(load, context.site().url("model.gguf"), kind);
      assert.equal(info.bytes, 1054432);
      await tellsStories(context, page);
    }),
  ),
  row(
    "garbage collection during a read",
    async (context) => {
      const browser = await launch("chromium", { args: ["--js-flags=--expose-gc"] });
      try {
        const page = context.watched(await browser.newPage());
        await context.open(page);
        assert.equal(await page.evaluate(readsDespiteCollection), "all read");
      } finally {
        await browser.close();
      }
    },
    { browsers: ["chromium"] },
  ),
  row("a split model finds its parts", async (context) => {
    const page = await context.page();
    const site = context.site({}, split(readFileSync(context.storiesFile), 3));
    const { info } = await page.evaluate((url) => t.load(url), site.url("model-00001-of-00003.gguf"));
    await tellsStories(context, page);
    assert.ok(info.bytes > 1054432, `${info.bytes} bytes`);
    assert.equal(new Set(site.requests.map(({ name }) => name)).size, 3);
  }),
  row("the parts of a split model, as Blobs", async (context) => {
    const page = await context.page();
    const files = split(readFileSync(context.storiesFile), 2);
    const site = context.site({}, files);
    const urls = Object.keys(files).map((name) => site.url(name));
    await page.evaluate(async (urls) => {
      const blobs = await Promise.all(urls.map(async (url) => (await fetch(url)).blob()));
      await t.load(blobs);
    }, urls);
    await tellsStories(context, page);
  }),
  row("a part of a split model is missing", (context) => {
    const { ["model-00002-of-00002.gguf"]: _, ...files } = split(readFileSync(context.storiesFile), 2);
    return refuses(context, "http", {}, { files, name: "model-00001-of-00002.gguf" }).catch((error) => {
      // The message may name the missing part.
      if (!/names the file.*00002-of-00002/.test(error.message)) throw error;
    });
  }),
  row("a file of 5 GB", async (context) => {
    const page = await context.page();
    const large = spread(readFileSync(context.storiesFile), 5_000_000_000);
    const site = context.site({}, { "large.gguf": large });
    const memory = watchMemory(context.browser);
    const { info } = await page.evaluate((url) => t.load(url, { cache: false }), site.url("large.gguf"));
    const rise = memory();
    assert.equal(info.bytes, large.length);
    await tellsStories(context, page);
    assert.ok(site.served < 0.2 * large.length, `${site.served} bytes were read`);
    // The engine, its buffers, and garbage that is not yet collected.
    assert.ok(rise < { firefox: 120e6, chromium: 250e6 }[context.name], `memory rose by ${rise} bytes`);
  }),
  row("the package from another origin", async (context) => {
    const page = await context.page();
    const site = context.site();
    await page.evaluate(
      async (from, url) => {
        const { Firelight } = await import(`${from}/dist/index.js`);
        const model = await Firelight.load(url);
        t.foreign = await model.complete("Once upon a time", { temperature: 0, maxTokens: 5 }).text();
        t.where = model.info.where;
        await model.destroy();
      },
      context.server.other,
      site.url("model.gguf"),
    );
    assert.equal(await page.evaluate(() => t.foreign), ", there was a little");
    assert.equal(await page.evaluate(() => t.where), "worker");
  }),
];
