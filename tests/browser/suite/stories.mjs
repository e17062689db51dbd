// The greedy tokens of the stories model: llama.cpp, transformers and native Firelight agree on them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** `[{ prompt, prompt_ids, greedy_ids }]`. */
export const goldens = (context) =>
  JSON.parse(readFileSync(join(context.paths.models, "stories260K.greedy.json"))).prompts;

/** Asserts that the last model of `page` continues the prompts of the last `count` goldens correctly. */
export async function tellsStories(context, page, { length = 48, count = 1 } = {}) {
  for (const { prompt, greedy_ids } of goldens(context).slice(-count)) {
    const { tokens } = await page.evaluate((prompt, n) => t.greedy(prompt, n), prompt, length);
    assert.deepEqual(tokens, greedy_ids.slice(0, length), `the continuation of ${JSON.stringify(prompt)}`);
  }
}

/** A new page with the stories model loaded. */
export async function stories(context, options = {}, faults = {}) {
  const page = await context.page();
  const site = context.site(faults);
  const loaded = await page.evaluate((url, options) => t.load(url, options), site.url("model.gguf"), options);
  return { page, site, ...loaded };
}
