// Conversations on the page: kept, edited, regenerated, exported, deleted, and shared between tabs.

import assert from "node:assert/strict";
import { answered, chatting, open, say, set, textOf, textsOf, visible } from "../pages.mjs";

/** Makes a chat with a model that answers by a script: `script(prompt, options)` returns pieces, or null to wait. */
async function scripted(context) {
  const { page } = await open(context);
  await visible(page, "#start");
  await page.evaluate(async () => {
    const { Chat } = await import("/dist/page/chat.js");
    for (const main of document.querySelectorAll("main")) main.hidden = main.id !== "chat";
    document.getElementById("composer").hidden = false;
    window.prompts = [];
    window.pieces = () => [];
    const chat = (window.chat = new Chat(null, () => {}));
    chat.model = {
      info: { name: "Script", parameters: 1e9 },
      chat(prompt, { signal, onReasoning }) {
        window.prompts.push(prompt);
        const stats = Promise.resolve({ generatedTokens: 3, promptSeconds: 1, decodeSeconds: 1, finish: "stop" });
        const answer = async function* () {
          for (const piece of window.pieces(prompt)) {
            if (piece === null) await new Promise((_, reject) => (signal.onabort = () => reject(signal.reason)));
            else if (piece.reasoning) onReasoning(piece.reasoning);
            else yield piece;
          }
        };
        return Object.assign(answer(), { stats });
      },
    };
    chat.begin();
    document.getElementById("stop").onclick = () => chat.stop();
  });
  return page;
}

const scriptOf = (page, pieces) => page.evaluate((pieces) => void (window.pieces = () => pieces), pieces);
const sends = (page, text) => page.evaluate((text) => window.chat.send(text), text);
const prompts = (page) => page.evaluate(() => window.prompts);

export default [
  {
    name: "page: thoughts are folded, and not sent back",
    async run(context) {
      const page = await scripted(context);
      await scriptOf(page, [{ reasoning: "The user **greets**" }, { reasoning: " me." }, "Hello", " there."]);
      await sends(page, "Hi");
      assert.equal(await page.$eval(".thoughts", (details) => details.open), false);
      assert.match(await textOf(page, ".thoughts summary"), /^Thought for [\d.]+ s$/);
      assert.equal(await textOf(page, ".thoughts .prose strong"), "greets");
      assert.equal((await textOf(page, ".assistant > .prose")).trim(), "Hello there.");
      await sends(page, "And?");
      assert.deepEqual((await prompts(page))[1], [
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hello there." },
        { role: "user", content: "And?" },
      ]);
    },
  },
  {
    name: "page: stop before the first word gives the message back",
    async run(context) {
      const page = await scripted(context);
      await scriptOf(page, ["One."]);
      await sends(page, "First");
      await scriptOf(page, [null]);
      const sent = sends(page, "Second");
      await visible(page, "#stop");
      await page.click("#stop");
      await sent;
      assert.equal(await page.$eval("#input", (input) => input.value), "Second");
      assert.deepEqual(await textsOf(page, ".user .bubble"), ["First"]);
      assert.match(await textOf(page, "#status"), /Stopped/);
      await scriptOf(page, ["Three."]);
      await sends(page, "Third");
      assert.deepEqual((await prompts(page)).at(-1).map(({ content }) => content), ["First", "One.", "Third"]);
    },
  },
  {
    name: "page: edit and regenerate keep the old versions",
    async run(context) {
      const page = await scripted(context);
      await scriptOf(page, ["One."]);
      await sends(page, "First");
      await scriptOf(page, ["Uno."]);
      await page.click(".assistant [aria-label=Regenerate]");
      await page.waitForFunction(() => document.querySelector(".assistant .prose").textContent.includes("Uno."));
      assert.match(await textOf(page, ".assistant .versions"), /2\/2/);
      await page.click("[aria-label='Previous version']");
      assert.match(await textOf(page, ".assistant .prose"), /One/);
      await scriptOf(page, ["Edited."]);
      await page.hover(".user .bubble");
      await page.click(".user [aria-label=Edit]");
      await page.$eval(".edit textarea", (field) => (field.value = "First, edited"));
      await page.click(".edit .primary");
      await page.waitForFunction(() => document.querySelector(".assistant .prose")?.textContent.includes("Edited."));
      assert.deepEqual(await textsOf(page, ".user .bubble"), ["First, edited"]);
      assert.deepEqual((await prompts(page)).at(-1).map(({ content }) => content), ["First, edited"]);
      await page.click(".user [aria-label='Previous version']");
      assert.deepEqual(await textsOf(page, ".user .bubble"), ["First"]);
      assert.match(await textOf(page, ".assistant .prose"), /Uno/);
    },
  },
  {
    name: "page: an error keeps the question, and offers to try again",
    async run(context) {
      const page = await scripted(context);
      await page.evaluate(() => {
        window.pieces = () => {
          throw new Error("the GPU is tired");
        };
      });
      await sends(page, "Hello");
      assert.match(await textOf(page, "[role=alert].notice"), /the GPU is tired/);
      assert.deepEqual(await textsOf(page, ".user .bubble"), ["Hello"]);
      await scriptOf(page, ["Fine."]);
      await page.click(".notice button");
      await page.waitForFunction(() => document.querySelector(".assistant .foot"));
      assert.deepEqual((await prompts(page)).at(-1).map(({ content }) => content), ["Hello"]);
    },
  },
  {
    name: "page: a reload keeps the conversation, the model, the settings; export; delete and undo",
    seconds: 200,
    async run(context) {
      const { page } = await chatting(context);
      await set(page, { "max-tokens": "20", temperature: "0", system: "Be brief." });
      await say(page, "Once upon a time");
      await answered(page, 1);
      const text = await textOf(page, ".assistant .prose");
      // The address has the conversation; without `?model`, the last model is loaded, from the cache.
      const hash = await page.evaluate(() => location.hash);
      await context.open(page, "/tests/page.html");
      await context.open(page, `/dist/index.html${hash}`);
      await visible(page, "#composer");
      assert.deepEqual(await textsOf(page, ".user .bubble"), ["Once upon a time"]);
      assert.equal((await textOf(page, ".assistant .prose")).trim(), text.trim());
      assert.equal(await page.$eval("#max-tokens", (field) => field.value), "20");
      assert.equal(await page.$eval("#system", (field) => field.value), "Be brief.");
      const exported = await page.evaluate(async () => {
        const saved = [];
        URL.createObjectURL = (blob) => (saved.push(blob), "data:,");
        document.getElementById("export-markdown").click();
        document.getElementById("export-json").click();
        return Promise.all(saved.map((blob) => blob.text()));
      });
      assert.match(exported[0], /^# Once upon a time\n\n## You\n\nOnce upon a time\n\n## /);
      assert.equal(JSON.parse(exported[1]).messages.length, 2);
      assert.deepEqual(await textsOf(page, "#conversations .title"), ["Once upon a time"]);
      await page.hover("#conversations li");
      await page.click("#conversations .icon");
      await page.waitForFunction(() => document.querySelector(".toast") && !document.querySelector("#conversations li"));
      await page.click(".toast button");
      await visible(page, "#conversations .title");
      assert.deepEqual(await textsOf(page, ".user .bubble"), ["Once upon a time"]);
    },
  },
  {
    name: "page: a reload during an answer keeps what was said",
    seconds: 200,
    async run(context) {
      const { page } = await chatting(context);
      await set(page, { temperature: "1" });
      await say(page, "Once upon a time");
      await page.waitForFunction(() => document.querySelector(".assistant .prose")?.textContent.length > 30);
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const hash = await page.evaluate(() => location.hash);
      await context.open(page, "/tests/page.html");
      await context.open(page, `/dist/index.html${hash}`);
      await visible(page, "#composer");
      assert.deepEqual(await textsOf(page, ".user .bubble"), ["Once upon a time"]);
      assert.ok((await textOf(page, ".assistant .prose")).length > 10, "a part of the answer");
    },
  },
  {
    name: "page: two tabs do not overwrite each other's messages",
    seconds: 200,
    async run(context) {
      const { page: first } = await chatting(context);
      await set(first, { "max-tokens": "10" });
      await say(first, "One");
      await answered(first, 1);
      const hash = await first.evaluate(() => location.hash);
      const query = new URL(first.url()).search;
      const { page: second } = await open(context, { query, hash, clean: false });
      await visible(second, "#composer");
      assert.deepEqual(await textsOf(second, ".user .bubble"), ["One"]);
      await say(second, "Two");
      await answered(second, 2);
      // The first tab shows what continues its conversation.
      const both = () => document.querySelectorAll(".user .bubble").length === 2;
      await first.waitForFunction(both, { timeout: 30_000, polling: 100 });
      await say(first, "Three");
      await answered(first, 3);
      const kept = await first.evaluate(async () => {
        const { Store } = await import("/dist/page/store.js");
        const store = await Store.open();
        const [{ id }] = await store.list();
        return (await store.load(id)).messages.filter(({ role }) => role === "user").map(({ content }) => content);
      });
      assert.deepEqual(kept.sort(), ["One", "Three", "Two"]);
    },
  },
];
