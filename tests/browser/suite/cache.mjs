// The model cache between visits, and its failures.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { spread } from "../gguf.mjs";
import { stories, tellsStories } from "./stories.mjs";

/** Large enough for several chunks of the cache; every chunk contains weights. */
const large = (context) => spread(readFileSync(context.storiesFile), 40_000_000);

const load = (page, site, options = {}) =>
  page.evaluate((url, options) => t.load(url, options), site.url("model.gguf"), options);

const kept = (page, site) =>
  page.evaluate(async (url) => (await t.cache.list()).find((each) => each.url === url), site.url("model.gguf"));

export default [
  {
    name: "reload without the server",
    async run(context) {
      const { page, site } = await stories(context);
      await context.open(page);
      site.off = true;
      const { progress } = await load(page, site);
      await tellsStories(context, page);
      assert.ok(
        progress.some((p) => p.stage === "cache" && p.loaded > 0),
        "read from the cache",
      );
    },
  },
  {
    name: "resume after a server that died at 40 %",
    seconds: 180,
    async run(context) {
      const file = large(context);
      const site = context.site({ dieAfter: 0.4 * file.length }, { "model.gguf": file });
      const first = await context.page();
      const error = await first.evaluate((url) => t.error(() => t.load(url)), site.url("model.gguf"));
      assert.equal(error.code, "network", JSON.stringify(error));
      await first.close();
      Object.assign(site, { dieAfter: null, served: 0 });
      const second = await context.page();
      const entry = await kept(second, site);
      assert.ok(entry.loaded > 0 && entry.loaded < 0.45 * file.length && !entry.complete, JSON.stringify(entry));
      await load(second, site);
      await tellsStories(context, second);
      assert.ok(
        site.served <= 1.02 * (file.length - entry.loaded),
        `${site.served} bytes were sent, ${entry.loaded} were there`,
      );
      assert.equal((await kept(second, site)).complete, true);
    },
  },
  {
    name: "a tab closed while downloading",
    seconds: 180,
    async run(context) {
      const file = large(context);
      const site = context.site({ pace: 10 }, { "model.gguf": file });
      const first = await context.page();
      first.evaluate((url) => void t.load(url), site.url("model.gguf")).catch(() => {});
      // Chunks are cached some time after they were served; on a busy machine the second half may arrive before that.
      const half = async () => ((await kept(first, site))?.loaded ?? 0) >= 0.3 * file.length;
      while (!(await half())) await new Promise((resolve) => setTimeout(resolve, 50));
      await first.close();
      Object.assign(site, { pace: 0, served: 0 });
      const second = await context.page();
      await load(second, site);
      await tellsStories(context, second);
      assert.ok(site.served < 0.9 * file.length, `${site.served} of ${file.length} bytes were sent again`);
    },
  },
  {
    name: "a damaged chunk is detected and downloaded again",
    seconds: 180,
    async run(context) {
      const file = large(context);
      const site = context.site({}, { "model.gguf": file });
      const page = await context.page();
      await page.evaluate(() => t.cache.clear());
      await load(page, site);
      await context.open(page);
      const damaged = await page.evaluate(damageLargestFiles, 2);
      assert.equal(damaged, 2);
      site.served = 0;
      const { notices } = await load(page, site);
      await tellsStories(context, page);
      assert.ok(site.served > 8e6, `${site.served} bytes were fetched for two damaged chunks`);
      assert.ok(site.served < 0.9 * file.length, `${site.served} bytes were fetched for two damaged chunks`);
      assert.ok(
        notices.some((text) => /damaged/.test(text)),
        `a notice: ${notices}`,
      );
      // The cache has been repaired.
      await context.open(page);
      site.off = true;
      await load(page, site);
      await tellsStories(context, page);
    },
  },
  {
    name: "a damaged chunk and no server is an error",
    seconds: 180,
    async run(context) {
      const { page, site } = await stories(context);
      await context.open(page);
      await page.evaluate(damageLargestFiles, 1000);
      site.off = true;
      const error = await page.evaluate((url) => t.error(() => t.load(url)), site.url("model.gguf"));
      assert.equal(error.code, "network", JSON.stringify(error));
    },
  },
  {
    name: "a file that changed on the server",
    async run(context) {
      const { page, site } = await stories(context);
      await context.open(page);
      Object.assign(site, { etag: '"2"', served: 0 });
      const { notices } = await load(page, site);
      await tellsStories(context, page);
      assert.ok(site.served >= 1054432, "it was fetched again");
      assert.ok(
        notices.some((text) => /changed/.test(text)),
        `a notice: ${notices}`,
      );
    },
  },
  {
    name: "list, size, delete, clear",
    async run(context) {
      const { page, site } = await stories(context);
      const url = site.url("model.gguf");
      const before = await kept(page, site);
      assert.deepEqual({ ...before, used: 0 }, { url, total: 1054432, loaded: 1054432, complete: true, used: 0 });
      assert.ok(Math.abs(before.used - Date.now()) < 60_000);
      const size = await page.evaluate(() => t.cache.size());
      assert.ok(size.used >= 1054432 && size.quota > size.used, JSON.stringify(size));
      await page.evaluate((url) => t.cache.delete(url), url);
      assert.equal(await kept(page, site), undefined);
      await context.open(page);
      await load(page, site);
      await page.evaluate(() => t.end());
      await page.evaluate(() => t.cache.clear());
      assert.deepEqual(await page.evaluate(() => t.cache.list()), []);
      assert.equal((await page.evaluate(() => t.cache.size())).used, 0);
    },
  },
  {
    name: "the browser enforces a small quota: nothing is cached, and a notice",
    browsers: ["chromium"],
    async run(context) {
      const { page } = await stories(context);
      const session = await page.createCDPSession();
      await session.send("Storage.overrideQuotaForOrigin", { origin: context.server.origin, quotaSize: 500_000 });
      try {
        // The quota is full already; then there is some room, but too little.
        await refusedSpace(context, page, {});
        await page.evaluate(() => t.cache.clear());
        await refusedSpace(context, page, {});
      } finally {
        await session.send("Storage.overrideQuotaForOrigin", { origin: context.server.origin });
      }
    },
  },
  {
    name: "the reported quota is too small: nothing is cached, and a notice",
    async run(context) {
      const page = await context.page({
        before: () => {
          navigator.storage.estimate = async () => ({ usage: 0, quota: 500_000 });
        },
      });
      await refusedSpace(context, page, { where: "main" });
    },
  },
  {
    name: "the quota is exceeded while writing: the model still runs, and a notice",
    seconds: 180,
    async run(context) {
      const page = await context.page({
        before: () => {
          const { write } = FileSystemWritableFileStream.prototype;
          let written = 0;
          FileSystemWritableFileStream.prototype.write = function (data) {
            const size = data?.byteLength ?? data?.data?.byteLength ?? data?.size ?? 0;
            if ((written += size) > 20e6) return Promise.reject(new DOMException("full", "QuotaExceededError"));
            return write.call(this, data);
          };
        },
      });
      const site = context.site({}, { "model.gguf": large(context) });
      const { notices } = await load(page, site, { where: "main" });
      assert.ok(notices.length > 0, "a notice");
      await tellsStories(context, page);
    },
  },
  {
    name: "no private file system: a notice, and the model runs",
    async run(context) {
      const page = await context.page({
        before: () => {
          navigator.storage.getDirectory = async () => {
            throw new DOMException("no", "SecurityError");
          };
        },
      });
      const { notices } = await load(page, context.site(), { where: "main" });
      assert.ok(notices.length > 0, "a notice");
      await tellsStories(context, page);
    },
  },
  {
    name: "two tabs load the same model at once",
    async run(context) {
      const site = context.site({ pace: 30 });
      const pages = [await context.page(), await context.page()];
      await Promise.all(pages.map((page) => load(page, site)));
      for (const page of pages) await tellsStories(context, page);
      await context.open(pages[0]);
      site.off = true;
      await load(pages[0], site);
      await tellsStories(context, pages[0]);
    },
  },
];

async function refusedSpace(context, page, options) {
  const site = context.site();
  const { notices } = await load(page, site, options);
  assert.ok(
    notices.some((text) => /kept|space|room|quota/i.test(text)),
    `a notice: ${notices}`,
  );
  await tellsStories(context, page);
  assert.ok(!(await kept(page, site))?.complete, "nothing is kept");
}

/** Runs in the page: flips a byte in the middle of the largest files of the private file system. */
async function damageLargestFiles(most) {
  const files = [];
  const walk = async (directory) => {
    for await (const handle of directory.values()) {
      if (handle.kind === "directory") await walk(handle);
      else files.push({ handle, size: (await handle.getFile()).size });
    }
  };
  await walk(await navigator.storage.getDirectory());
  const chunks = files
    .filter(({ size }) => size > 100_000)
    .sort((a, b) => b.size - a.size)
    .slice(0, most);
  for (const { handle, size } of chunks) {
    const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
    bytes[size >> 1] ^= 1;
    const out = await handle.createWritable();
    await out.write(bytes);
    await out.close();
  }
  return chunks.length;
}
