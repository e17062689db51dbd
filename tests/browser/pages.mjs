// Helpers for tests of the page. Each test begins with an empty store, and its screenshots are in target/browser.

import assert from "node:assert/strict";
import { join } from "node:path";

export const WIDE = { width: 1280, height: 800 };
export const NARROW = { width: 390, height: 844 };
const PATIENCE = 60_000;

export const visible = (page, selector, timeout = PATIENCE) => page.waitForSelector(selector, { visible: true, timeout });
export const textOf = (page, selector) => page.$eval(selector, (element) => element.textContent);
export const textsOf = (page, selector) => page.$$eval(selector, (all) => all.map((element) => element.textContent));

/** Forgets everything that pages of this origin have kept. */
async function forget() {
  const { cache } = await import("/dist/index.js");
  await cache.clear();
  localStorage.clear();
  for (const worker of await navigator.serviceWorker.getRegistrations()) await worker.unregister();
  for (const name of await caches.keys()) await caches.delete(name);
  await new Promise((resolve) => (indexedDB.deleteDatabase("firelight").onsuccess = resolve));
}

/** A page of the application, whose requests to other hosts are recorded. */
export async function open(context, { file = "index.html", query = "", hash = "", before, size = WIDE, clean = true } = {}) {
  const page = await context.page();
  if (clean) await page.evaluate(forget);
  if (before) await page.evaluateOnNewDocument(before);
  const outside = [];
  page.on("request", (request) => {
    if (!/^(data|blob|http:\/\/127\.0\.0\.1)/.test(request.url())) outside.push(request.url());
  });
  await page.setViewport(size);
  await context.open(page, `/dist/${file}${query}${hash}`);
  return { page, outside };
}

/** A page with the stories model loaded. */
export async function chatting(context, options = {}) {
  const query = `?model=${encodeURIComponent(context.site().url("model.gguf"))}`;
  const opened = await open(context, { query, ...options });
  await visible(opened.page, "#composer");
  return opened;
}

export async function say(page, text) {
  await page.focus("#input");
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
}

/** Changes fields of the settings. */
export const set = (page, values) =>
  page.evaluate((values) => {
    for (const [id, value] of Object.entries(values)) {
      document.getElementById(id).value = value;
      document.getElementById(id).dispatchEvent(new Event("change"));
    }
  }, values);

/** Waits for this many answers, the last of them finished. */
export const answered = (page, count) =>
  page.waitForFunction(
    (count) => document.querySelectorAll(".assistant .foot").length === count && !document.querySelector("[aria-busy]"),
    // A tab in the background draws no frames, after which puppeteer would look by default.
    { timeout: PATIENCE, polling: 100 },
    count,
  );

export async function picture(context, page, name) {
  await page.screenshot({ path: join(context.paths.shots, `${context.name}-${name}.png`) });
}

/** Firefox's protocol cannot emulate media features. */
export const dark = (context, page) =>
  context.name === "chromium" && page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);

/** Asserts that the page does not scroll sideways. */
export async function fits(page) {
  const { wide, window } = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth,
    window: innerWidth,
  }));
  assert.ok(wide <= window, `${wide} pixels in a window of ${window}`);
}

/** Puts a conversation into the store: `messages` are [role, content, more]. The page is at another address then. */
export async function keepConversation(page, id, title, messages) {
  await page.evaluate(
    async (id, title, messages) => {
      const { Store } = await import("/dist/page/store.js");
      const store = await Store.open();
      const records = messages.map(([role, content, more], i) => ({
        id: `${id}-${i}`,
        conversation: id,
        parent: i === 0 ? null : `${id}-${i - 1}`,
        role,
        content,
        created: Date.now() - 1000 * (messages.length - i),
        ...more,
      }));
      const facts = { id, title, created: Date.now(), updated: Date.now(), leaf: records.at(-1).id };
      await store.save({ facts }, ...records);
    },
    id,
    title,
    messages,
  );
}
