// The chat window in a tab: it is asked, answers, is reloaded in the middle of the next answer, and still knows all.
// It draws itself, so what it says is read where it keeps it: in the browser's storage.
//
//   node chat.mjs [--dist FOLDER]

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { launch } from "./browsers.mjs";
import { startServer } from "./server.mjs";

// What headless Chromium needs to show a canvas that WebGPU draws without a GPU.
const CANVAS = [
  "--use-angle=swiftshader",
  "--use-vulkan=swiftshader",
  "--enable-features=Vulkan",
  "--ignore-gpu-blocklist",
];
const SIZE = { width: 1000, height: 700 };
const PATIENCE = 120_000;

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const { values } = parseArgs({ options: { dist: { type: "string", default: join(root, "dist/chat") } } });
const dist = resolve(values.dist);
const shots = join(root, "target/browser");
if (!existsSync(join(dist, "chat.js"))) {
  console.error(`there is no page in ${dist}: run ./x chat-web`);
  process.exit(1);
}
await mkdir(shots, { recursive: true });

const server = await startServer({ chat: dist });
const browser = await launch("chromium", { args: CANVAS });
const log = [];
let page;
try {
  page = await browser.newPage();
  await page.setViewport(SIZE);
  page.on("console", (message) => log.push(message.text()));
  page.on("pageerror", (error) => log.push(`page: ${error.message}`));
  await page.goto(`${server.origin}/chat/index.html`);
  await loaded();

  await say("What can you do?");
  const [first] = await until("an answer", async () => (await kept()).filter((c) => finished(c, 2)));
  assert.equal(first.nodes[0].text, "What can you do?");
  assert.ok(first.nodes[1].text.trim().length > 5, JSON.stringify(first.nodes[1]));
  assert.ok(first.nodes[1].stats.timings.generated_tokens > 3, JSON.stringify(first.nodes[1]));
  await page.screenshot({ path: join(shots, "chat.png") });

  // A reload in the middle of an answer loses no more than its last second.
  await say("Tell me a story about a fox");
  await until("a beginning", async () => (await kept()).some((c) => c.nodes.length === 4));
  await page.reload();
  await page.evaluate(() => localStorage.removeItem("firelight/settings"));
  await loaded();
  const [again] = await kept();
  assert.deepEqual(again.nodes.slice(0, 2), first.nodes);
  assert.equal(again.nodes[2].text, "Tell me a story about a fox");

  // The window shows it, and goes on with it.
  await say("Thank you");
  const [whole] = await until("one more answer", async () => (await kept()).filter((c) => finished(c, 6)));
  assert.equal(whole.id, first.id);
  assert.equal(whole.nodes[4].parent, 3);
  await page.screenshot({ path: join(shots, "chat-again.png") });
  const drawn = await page.screenshot({ encoding: "binary" });
  assert.ok(drawn.length > 15_000, `the page is empty: its picture has ${drawn.length} bytes`);
  assert.deepEqual(
    log.filter((line) => /panicked|^page:/.test(line)),
    [],
  );
  console.log("ok: the chat window in a tab");
} catch (error) {
  await page?.screenshot({ path: join(shots, "chat-failed.png") }).catch(() => {});
  console.log(`FAILED: the chat window in a tab\n${error.stack}`);
  for (const line of log.slice(-12)) console.log(`  | ${line}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
}

/** The model is open: only then is it remembered. */
function loaded() {
  return until("the model", () => page.evaluate(() => (localStorage.getItem("firelight/settings") ?? "").includes("BuiltIn")));
}

/** Writes into the composer, at the window's lower end, and sends. */
async function say(text) {
  await page.mouse.click(SIZE.width * 0.6, SIZE.height - 62);
  await page.keyboard.type(text, { delay: 15 });
  await page.keyboard.press("Enter");
}

/** The conversations in the browser's storage. */
function kept() {
  return page.evaluate(() =>
    Object.keys(localStorage)
      .filter((key) => key.startsWith("firelight/conversation-"))
      .map((key) => JSON.parse(localStorage.getItem(key))),
  );
}

const finished = (conversation, messages) =>
  conversation.nodes.length === messages && conversation.nodes[messages - 1].stats?.finish != null;

async function until(what, look) {
  const end = performance.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (Array.isArray(found) ? found.length > 0 : found) return found;
    if (performance.now() > end) throw new Error(`${what} did not come within ${PATIENCE / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
