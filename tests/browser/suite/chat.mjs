// The chat window in a tab: it answers, is reloaded during the next answer, and restores the conversation; a model is
// dropped on it. It draws on a canvas, so the tests read its conversations from the browser's storage.

import assert from "node:assert/strict";
import { join } from "node:path";
import { launch } from "../browsers.mjs";

// Headless Chromium needs these flags to show a WebGPU canvas without a GPU.
const CANVAS = [
  "--use-angle=swiftshader",
  "--use-vulkan=swiftshader",
  "--enable-features=Vulkan",
  "--ignore-gpu-blocklist",
];
const SIZE = { width: 1000, height: 700 };
const PATIENCE = 120_000;

export default [
  {
    name: "the chat window in a tab answers, and restores the conversation after a reload",
    browsers: ["chromium"],
    seconds: 300,
    async run(context) {
      const browser = await launch("chromium", { args: CANVAS });
      try {
        const page = context.watched(await browser.newPage());
        await page.setViewport(SIZE);
        await talk(context, page).finally(() => page.screenshot({ path: shot(context, "chat-end") }).catch(() => {}));
      } finally {
        await browser.close();
      }
      const panics = context.log.filter((line) => line.includes("panicked"));
      assert.deepEqual(panics, []);
    },
  },
  {
    name: "the chat window in a tab says if WebGPU cannot draw, and points to the page",
    browsers: ["chromium"],
    async run(context) {
      // Without the flags, headless Chromium computes with WebGPU, but shows no canvas.
      const page = await context.page({ path: "/chat/index.html" });
      await page.waitForSelector("#wait a:not([hidden])", { visible: true, timeout: 30_000 });
      const text = await page.$eval("#wait span", (element) => element.textContent);
      assert.match(text, /^Firelight cannot start: this browser's WebGPU cannot draw on a canvas/);
      assert.equal(await page.$eval("#page", (link) => new URL(link.href).pathname), "/web/");
    },
  },
];

async function talk(context, page) {
  await page.goto(`${context.server.origin}/chat/index.html`);
  await opened(page, "BuiltIn");
  const empty = await question(page);

  await say(page, "What can you do?");
  const first = await until("answer", async () => (await kept(page)).find((c) => finished(c, 2)));
  assert.equal(first.nodes[0].text, "What can you do?");
  assert.ok(first.nodes[1].text.trim().length > 5, JSON.stringify(first.nodes[1]));
  assert.ok(first.nodes[1].stats.timings.generated_tokens > 3, JSON.stringify(first.nodes[1]));
  await page.screenshot({ path: shot(context, "chat-answer") });
  const asked = await question(page);
  assert.notEqual(asked, empty, "the window must show the question");

  // A reload during an answer loses at most its last second.
  await say(page, "Tell me a story about a fox");
  await until("beginning of an answer", async () => (await kept(page)).some((c) => c.nodes.length === 4));
  await page.reload();
  await page.evaluate(() => localStorage.removeItem("firelight/settings"));
  await opened(page, "BuiltIn");
  const [before] = await kept(page);
  assert.deepEqual(before.nodes.slice(0, 2), first.nodes);
  assert.equal(before.nodes[2].text, "Tell me a story about a fox");

  // The window shows the restored conversation, and continues it.
  await until("identical picture", async () => (await question(page)) === asked);
  await say(page, "Thank you");
  const whole = await until("third answer", async () => (await kept(page)).find((c) => finished(c, 6)));
  assert.equal(whole.id, first.id);
  assert.equal(whole.nodes[4].parent, 3);

  // A dropped file is the model until the page is left: a page cannot keep access to it.
  await drop(page, context.site().url("model.gguf"), "stories.gguf");
  await opened(page, "stories.gguf");
  await say(page, "Once");
  const stored = await until("story", async () => (await kept(page)).find((c) => finished(c, 8)));
  assert.equal(stored.nodes[7].stats.model, "stories");
  await page.reload();
  await opened(page, "BuiltIn");
}

/** A screenshot of the area of the first question. */
function question(page) {
  return page.screenshot({ encoding: "base64", clip: { x: 700, y: 60, width: 300, height: 50 } });
}

const shot = (context, name) => join(context.paths.shots, `${name}.png`);

/** Waits until a model is open: the window then puts it first in the list of recent models. */
function opened(page, model) {
  return until(`open model ${model}`, () =>
    page.evaluate((model) => {
      const [last] = JSON.parse(localStorage.getItem("firelight/settings") ?? "{}").recent ?? [];
      return (last?.File ?? last) === model;
    }, model),
  );
}

/** Types into the message field at the bottom of the window, and sends. */
async function say(page, text) {
  await page.mouse.click(SIZE.width * 0.6, SIZE.height - 62);
  await page.keyboard.type(text, { delay: 15 });
  await page.keyboard.press("Enter");
}

/** Drops a file on the window. */
function drop(page, url, name) {
  return page.evaluate(
    async (url, name) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([await (await fetch(url)).blob()], name));
      const canvas = document.querySelector("canvas");
      canvas.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    },
    url,
    name,
  );
}

/** The conversations in the browser's storage. */
function kept(page) {
  return page.evaluate(() =>
    Object.keys(localStorage)
      .filter((key) => key.startsWith("firelight/conversation-"))
      .map((key) => JSON.parse(localStorage.getItem(key))),
  );
}

/** Whether the conversation has this many messages, the last of them complete. */
function finished(conversation, messages) {
  return conversation.nodes.length === messages && conversation.nodes[messages - 1].stats?.finish != null;
}

async function until(what, look) {
  const end = performance.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end) throw new Error(`no ${what} within ${PATIENCE / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
