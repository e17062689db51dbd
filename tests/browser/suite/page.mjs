// The page's user interface. Screenshots for inspection are in target/browser.

import assert from "node:assert/strict";
import { join } from "node:path";

const SIZES = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 780 } };

const visible = (page, selector) => page.waitForSelector(selector, { visible: true, timeout: 30_000 });
const textOf = (page, selector) => page.$eval(selector, (element) => element.textContent);

async function open(context, { query = "", before, size = SIZES.wide } = {}) {
  const page = await context.page({ path: `/dist/index.html${query}`, before });
  await page.setViewport(size);
  const outside = [];
  page.on("request", (request) => {
    if (!/^(data|blob|http:\/\/127\.0\.0\.1)/.test(request.url())) outside.push(request.url());
  });
  return { page, outside };
}

async function picture(context, page, name) {
  await page.screenshot({ path: join(context.paths.shots, `${context.name}-${name}.png`) });
}

/** Asserts that the page does not scroll sideways. */
async function fits(page) {
  const { wide, window } = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth,
    window: innerWidth,
  }));
  assert.ok(wide <= window, `${wide} pixels in a window of ${window}`);
}

export default [
  {
    name: "page: load by address, chat, stop, new chat, change, delete",
    async run(context) {
      const { page, outside } = await open(context);
      const site = context.site({ pace: 100 });
      await visible(page, "#start");
      await page.type("#address", site.url("model.gguf"));
      await page.click("#url button");
      await visible(page, "#loading");
      await page.waitForFunction(() => document.getElementById("progress").textContent.includes("/s"));
      await picture(context, page, "loading");
      await visible(page, "#chat");
      assert.match(await textOf(page, "#status"), /tier (baseline|subgroups)/);
      await page.type("#input", "Once upon a time");
      await page.click("summary");
      await page.$eval("#max-tokens", (input) => (input.value = 60));
      await page.$eval("#temperature", (input) => (input.value = 0));
      await page.focus("#input");
      await page.keyboard.press("Enter");
      await visible(page, ".count");
      assert.equal(await textOf(page, ".user"), "Once upon a time");
      assert.ok((await textOf(page, ".assistant")).length > 5, "an answer");
      assert.match(await textOf(page, ".count"), /\d+ tokens · [\d.]+ tokens\/s · first after/);
      await page.click("summary");
      await picture(context, page, "chat");
      await page.$eval("#max-tokens", (input) => (input.value = ""));
      await page.$eval("#temperature", (input) => (input.value = 1));
      await page.type("#input", "Tell me more");
      await page.click("#send");
      await visible(page, "#stop");
      await page.waitForFunction(() => document.querySelectorAll(".assistant")[1]?.textContent.length > 20);
      await page.click("#stop");
      await visible(page, "#send");
      const said = await page.$$eval(".assistant", (all) => all[1].textContent);
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert.equal(await page.$$eval(".assistant", (all) => all[1].textContent), said, "no text after a stop");
      assert.equal(await page.$(".wrong"), null);
      await page.click("#fresh");
      assert.equal(await textOf(page, "#log"), "");
      await page.click("#change");
      await visible(page, "#kept");
      assert.match(await textOf(page, "#models"), /model\.gguf.*1\.1 MB/);
      await picture(context, page, "start");
      site.off = true;
      await page.click("#models .name"); // From the cache.
      await visible(page, "#chat");
      await page.click("#change");
      await visible(page, "#kept");
      const before = await page.$$eval("#models li", (all) => all.length);
      await page.click("#models .quiet");
      await page.waitForFunction((before) => document.querySelectorAll("#models li").length === before - 1, {}, before);
      assert.deepEqual(outside, []);
    },
  },
  {
    name: "page: a file, the conversation scrolls, narrow and dark",
    async run(context) {
      const { page } = await open(context, { size: SIZES.narrow });
      // Firefox's protocol cannot emulate a colour scheme: its screenshots are light.
      if (context.name === "chromium")
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
      await visible(page, "#start");
      await fits(page);
      await picture(context, page, "narrow-start");
      await (await page.$("#file")).uploadFile(context.storiesFile);
      await visible(page, "#chat");
      await page.type("#input", "Tell me a very long story");
      await page.$eval("#max-tokens", (input) => (input.value = 300));
      await page.focus("#input");
      await page.keyboard.press("Enter");
      await visible(page, ".count");
      const below = await page.$eval("#log", (log) => log.scrollHeight - log.scrollTop - log.clientHeight);
      assert.ok(below < 5, `the end is ${below} pixels below`);
      await fits(page);
      await picture(context, page, "narrow-chat");
    },
  },
  {
    name: "page: an error or a cancelled loading returns to the start",
    async run(context) {
      const { page } = await open(context, {
        query: `?model=${encodeURIComponent(context.site({ status: 404 }).url("model.gguf"))}`,
      });
      await visible(page, "#problem");
      assert.match(await textOf(page, "#problem"), /404/);
      await picture(context, page, "problem");
      await page.type("#address", context.site({ pace: 400 }).url("model.gguf"));
      await page.click("#url button");
      await visible(page, "#loading");
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
      // The page checks for WebGPU before it gets its size.
      await visible(page, "#missing");
      const text = await textOf(page, "#missing");
      for (const word of ["Chrome", "Edge", "Safari", "Firefox", "dom.webgpu.enabled"])
        assert.ok(text.includes(word), word);
      await picture(context, page, "missing");
      await page.setViewport(SIZES.narrow);
      await fits(page);
    },
  },
  {
    name: "page: two tabs share a model if asked",
    async run(context) {
      const site = context.site();
      const query = `?where=shared&model=${encodeURIComponent(site.url("model.gguf"))}`;
      const { page: first } = await open(context, { query });
      await visible(first, "#chat");
      const { page: second } = await open(context, { query });
      await visible(second, "#chat");
      assert.match(await textOf(second, "#status"), /for all tabs/);
    },
  },
];
