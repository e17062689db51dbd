// Pictures of the page in its states, wide and narrow, light and dark, and what must hold of each: nothing scrolls
// sideways, every control has a name, the focus is visible.

import assert from "node:assert/strict";
import { NARROW, WIDE, dark, fits, keepConversation, open, picture, visible } from "../pages.mjs";

const CODE = `Here is a short comparison, and a function that uses the faster one.

| Method | Time | Memory | Good for |
|:---|---:|---:|:---|
| Trial division | $O(\\sqrt{n})$ | $O(1)$ | one number |
| Sieve of Eratosthenes | $O(n \\log \\log n)$ | $O(n)$ | all numbers up to $n$ |

\`\`\`python
def primes(limit):
    """All primes up to the limit."""
    sieve = [True] * (limit + 1)
    for number in range(2, int(limit ** 0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = [False] * len(sieve[number * number :: number])
    return [n for n in range(2, limit + 1) if sieve[n]]

print(primes(30))  # [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
\`\`\`

The number of primes up to $n$ grows like

$$\\pi(n) \\sim \\frac{n}{\\ln n}$$

so the list stays **short** even for large limits.`;
const THOUGHTS = `The user asks for prime numbers. A sieve is the usual answer:

1. mark every number as prime,
2. cross out the multiples of each prime.

A table would make the comparison easy to read.`;
const NOTE = "312 tokens · 48.2 tokens/s · first after 0.41 s";
const QUESTION = "How do I find all prime numbers up to a limit in Python? Compare two ways.";
const TITLES = ["Why is the sky blue?", "A weekend in the mountains", "Words for a birthday card", "Rust or Go for a small server?"];

/** The names of controls that a screen reader could not read. */
const nameless = (page) =>
  page.evaluate(() => {
    const named = (element) =>
      element.ariaLabel || element.textContent.trim() || element.labels?.length > 0 || element.title || element.placeholder;
    const controls = [...document.querySelectorAll("button, a[href], input, textarea, select, summary")];
    return controls.filter((element) => element.checkVisibility() && !named(element)).map((element) => element.outerHTML);
  });

/** Takes the picture of a state in all four forms. */
async function pictures(context, page, name) {
  for (const [scheme, size, form] of [
    ["light", WIDE, ""],
    ["dark", WIDE, "-dark"],
    ["light", NARROW, "-narrow"],
    ["dark", NARROW, "-narrow-dark"],
  ]) {
    if (context.name === "chromium") await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    else if (scheme === "dark") continue;
    await page.setViewport(size);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await fits(page);
    assert.deepEqual(await nameless(page), [], `${name}${form}`);
    await picture(context, page, `page-${name}${form}`);
  }
  // At 200 % a wide window is as wide as this.
  await page.setViewport({ width: 640, height: 400 });
  await fits(page);
  await page.setViewport(WIDE);
}

export default [
  {
    name: "page: pictures of the start, a conversation, thoughts, models, settings",
    seconds: 300,
    async run(context) {
      const { page } = await open(context);
      await visible(page, "#start");
      await pictures(context, page, "start");
      await context.open(page, "/tests/page.html");
      for (const [i, title] of TITLES.entries()) {
        await keepConversation(page, `old-${i}`, title, [["user", title], ["assistant", "An answer.", { note: NOTE }]]);
      }
      await keepConversation(page, "primes", "Prime numbers in Python", [
        ["user", QUESTION],
        ["assistant", CODE, { model: "Qwen3 0.6B", reasoning: THOUGHTS, reasoningSeconds: 2.4, note: NOTE }],
      ]);
      await context.open(page, "/dist/index.html?model=#primes");
      await visible(page, "#composer", 120_000);
      await page.$eval("#log", (log) => (log.scrollTop = 0));
      await pictures(context, page, "conversation");
      await page.$eval("#log", (log) => (log.scrollTop = log.scrollHeight));
      await pictures(context, page, "conversation-end");
      await page.click(".thoughts summary");
      await page.$eval("#log", (log) => (log.scrollTop = 0));
      await pictures(context, page, "thoughts");
      await page.click("#fresh");
      await visible(page, "#empty");
      await pictures(context, page, "empty");
      await page.click("#settings-button");
      await pictures(context, page, "settings");
      await page.keyboard.press("Escape");
      await page.click("#model");
      await visible(page, "#start");
      await pictures(context, page, "models");
      await page.setViewport(NARROW);
      await page.click("#menu");
      await new Promise((resolve) => setTimeout(resolve, 400));
      await picture(context, page, "page-list-narrow");
      assert.equal(await page.evaluate(() => document.getElementById("page").inert), true);
      await page.keyboard.press("Escape");
      assert.equal(await page.evaluate(() => document.activeElement.id), "menu");
    },
  },
  {
    name: "page: the keyboard reaches every control, and the focus is visible",
    browsers: ["chromium"],
    async run(context) {
      const { page } = await open(context);
      await visible(page, "#start");
      await dark(context, page);
      const seen = new Set();
      for (let i = 0; i < 40; i += 1) {
        await page.keyboard.press("Tab");
        const { key, visible } = await page.evaluate(() => {
          const element = document.activeElement;
          const frame = element.closest(".button") ?? element;
          const { outlineStyle, outlineWidth } = getComputedStyle(frame);
          const shown = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
          return { key: element.id || element.textContent.trim(), visible: element === document.body || shown };
        });
        assert.ok(visible, `the focus on ${key} is not visible`);
        seen.add(key);
      }
      for (const id of ["fresh", "bench-link", "model", "settings-button", "demo", "query", "file", "address"])
        assert.ok(seen.has(id), `${id} is not reached; there are ${[...seen].join(", ")}`);
    },
  },
];
