// The page: choosing and loading a model, errors, the hub, and what it needs.

import assert from "node:assert/strict";
import { NARROW, answered, dark, fits, open, picture, say, set, textOf, textsOf, visible } from "../pages.mjs";

/** The answer to `confirmed`. */
async function confirm(page) {
  await visible(page, "#question[open] #question-yes");
  await page.click("#question-yes");
}

export default [
  {
    name: "page: load by address, chat, stop, new chat, another model, delete",
    seconds: 200,
    async run(context) {
      const { page, outside } = await open(context);
      const site = context.site({ pace: 100 });
      await visible(page, "#start");
      await page.type("#address", site.url("model.gguf"));
      await page.click("#url button");
      await visible(page, "#loading");
      await page.waitForFunction(() => document.getElementById("progress").textContent.includes("/s"));
      await page.waitForFunction(() => /^[1-9]\d* of \d+ kernels compiled$/.test(document.getElementById("kernels").textContent));
      await picture(context, page, "loading");
      await visible(page, "#composer");
      assert.match(await textOf(page, "#device"), /tier (baseline|subgroups)/);
      await set(page, { "max-tokens": "60", temperature: "0" });
      await say(page, "Once upon a time");
      await answered(page, 1);
      assert.equal(await textOf(page, ".user .bubble"), "Once upon a time");
      assert.ok((await textOf(page, ".assistant .prose")).length > 5, "an answer");
      assert.match(await textOf(page, ".assistant .count"), /\d+ tokens · [\d.]+ tokens\/s · first after/);
      await set(page, { "max-tokens": "", temperature: "1" });
      await say(page, "Tell me more");
      await visible(page, "#stop");
      await page.waitForFunction(() => document.querySelectorAll(".assistant .prose")[1]?.textContent.length > 20);
      await page.click("#stop");
      await visible(page, "#send");
      await answered(page, 2);
      const said = (await textsOf(page, ".assistant .prose"))[1];
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert.equal((await textsOf(page, ".assistant .prose"))[1], said, "no text after a stop");
      assert.match((await textsOf(page, ".assistant .count"))[1], /stopped/);
      assert.equal(await page.$(".wrong"), null);
      await page.click("#fresh");
      assert.equal(await page.$(".message"), null);
      await page.click("#model");
      await visible(page, "#kept");
      assert.match(await textOf(page, "#models"), /model\.gguf.*1\.\d MB/);
      site.off = true;
      await page.click("#models li button:last-child"); // From the cache.
      await visible(page, "#composer");
      await page.click("#model");
      await visible(page, "#kept");
      await page.click("#models .quiet");
      await visible(page, "#question[open]");
      await page.keyboard.press("Escape");
      assert.equal((await page.$$("#models li")).length, 1, "Escape deletes nothing");
      await page.click("#models .quiet");
      await confirm(page);
      await page.waitForFunction(() => document.getElementById("kept").hidden);
      assert.deepEqual(outside, []);
    },
  },
  {
    name: "page: a file, the conversation scrolls, narrow and dark",
    async run(context) {
      const { page } = await open(context, { size: NARROW });
      await dark(context, page);
      await visible(page, "#start");
      await fits(page);
      await (await page.$("#file")).uploadFile(context.storiesFile);
      await visible(page, "#composer");
      await set(page, { "max-tokens": "300" });
      await say(page, "Tell me a very long story");
      await answered(page, 1);
      const below = await page.$eval("#log", (log) => log.scrollHeight - log.scrollTop - log.clientHeight);
      assert.ok(below < 5, `the end is ${below} pixels below`);
      await fits(page);
    },
  },
  {
    name: "page: an error or a cancelled loading returns to the start, and the focus to the address",
    async run(context) {
      const { page } = await open(context, {
        query: `?model=${encodeURIComponent(context.site({ status: 404 }).url("model.gguf"))}`,
      });
      await visible(page, "#problem");
      assert.match(await textOf(page, "#problem"), /404/);
      assert.equal(await page.evaluate(() => document.activeElement.id), "address");
      await picture(context, page, "problem");
      await page.type("#address", context.site({ pace: 400 }).url("model.gguf"));
      await page.click("#url button");
      await visible(page, "#loading");
      assert.equal(await page.evaluate(() => document.activeElement.id), "cancel");
      await page.click("#cancel");
      await visible(page, "#start");
      assert.equal(await page.$eval("#problem", (problem) => problem.hidden), true);
    },
  },
  {
    name: "page: without WebGPU it lists browsers that have it",
    async run(context) {
      const { page } = await open(context, {
        before: () => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined }),
      });
      await visible(page, "#missing");
      const text = await textOf(page, "#missing");
      for (const word of ["Chrome", "Edge", "Safari", "Firefox", "dom.webgpu.enabled"])
        assert.ok(text.includes(word), word);
      await page.setViewport(NARROW);
      await fits(page);
    },
  },
  {
    name: "page: two tabs share a model if asked",
    async run(context) {
      const site = context.site();
      const query = `?where=shared&model=${encodeURIComponent(site.url("model.gguf"))}`;
      const { page: first } = await open(context, { query });
      await visible(first, "#composer");
      const { page: second } = await open(context, { query, clean: false });
      await visible(second, "#composer");
      assert.match(await textOf(second, "#device"), /for all tabs/);
    },
  },
  {
    name: "page: search on the hub, fit from the header alone, one click to load",
    seconds: 200,
    async run(context) {
      const files = [{ rfilename: "tiny-F32.gguf", size: 1_185_376 }, { rfilename: "README.md", size: 1 }];
      const site = context.site({}, {
        "api/models": Buffer.from(JSON.stringify([{ id: "org/tiny", downloads: 1234, tags: ["license:mit"] }])),
        "api/models/org/tiny/revision/main": Buffer.from(JSON.stringify({ sha: "0", siblings: files })),
        "org/tiny/resolve/main/tiny-F32.gguf": context.storiesFile,
      });
      const { page, outside } = await open(context, { query: `?hub=${encodeURIComponent(site.url("").slice(0, -1))}` });
      await visible(page, "#start");
      assert.ok((await page.$$("#catalogue-list li")).length >= 5, "a list of models");
      await page.type("#query", "tiny");
      await page.keyboard.press("Enter");
      await visible(page, "#found summary");
      assert.match(await textOf(page, "#found summary"), /org\/tiny.*1,234 downloads.*mit/);
      await page.click("#found summary");
      await visible(page, "#found .files button");
      await page.click("#found .files button");
      await visible(page, "#found .verdict.right");
      assert.match(await textOf(page, "#found .verdict"), /^Fits: [\d.]+ MB on the GPU with a context of [\d,]+ tokens/);
      await page.click("#found .files button:last-of-type");
      await visible(page, "#composer");
      assert.deepEqual(outside, []);
      const asked = site.requests.find(({ name }) => name === "api/models");
      assert.ok(asked, "the hub was searched");
    },
  },
  {
    name: "page: a model that does not fit is told from its header",
    async run(context) {
      const page = await context.page();
      const url = context.site().url("model.gguf");
      const fit = await page.evaluate((url) => t.Firelight.fit(url, { context: 1 << 30, cache: false }), url);
      assert.equal(fit.fits, false);
      assert.match(fit.reason, /a context of 1073741824/);
      const small = await page.evaluate((url) => t.Firelight.fit(url, { context: 128, cache: false }), url);
      assert.deepEqual([small.fits, small.context], [true, 128]);
      const error = await page.evaluate((url) => t.error(() => t.Firelight.fit(`${url}x`)), url);
      assert.equal(error.code, "http");
    },
  },
];
