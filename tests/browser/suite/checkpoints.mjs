// Published checkpoints: their greedy tokens must equal llama.cpp's, which ../../checkpoints/oracle.py recorded.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Files, and the number of tokens to compare: SwiftShader takes about a second for one of Gemma's. */
const FILES = [
  { name: "SmolLM2-135M-Instruct.Q4_1.gguf", length: 24, chat: true },
  { name: "gemma-3-270m-q4_k_m.gguf", length: 12, chat: false },
];

export default FILES.map(({ name, length, chat }) => ({
  name: `${name} generates the same tokens as llama.cpp`,
  seconds: 600,
  async run(context) {
    const file = join(context.paths.checkpoints, name);
    if (!existsSync(file)) {
      assert.ok(!process.env.CI, `${file} is missing: run scripts/checkpoints.sh`);
      return { skipped: `${file} is missing: scripts/checkpoints.sh fetches it` };
    }
    const oracle = JSON.parse(readFileSync(join(context.paths.root, "tests/checkpoints/oracle.json")));
    const { prompts } = oracle.files[name];
    const page = await context.page();
    const url = context.site({}, { "model.gguf": file }).url("model.gguf");
    const options = { cache: false, context: 512, tune: false };
    await page.evaluate((url, options) => t.load(url, options).then(() => {}), url, options);
    const text = prompts[0];
    const { tokens } = await page.evaluate((prompt, n) => t.greedy(prompt, n), text.prompt, length);
    assert.deepEqual(tokens, text.greedy_ids.slice(0, length), `the continuation of ${JSON.stringify(text.prompt)}`);
    if (!chat) return;
    const turn = prompts.find((row) => row.chat);
    const ask = (content, maxTokens) =>
      t.model.chat([{ role: "user", content }], { temperature: 0, maxTokens }).text();
    assert.equal(await page.evaluate(ask, turn.prompt, oracle.steps), turn.text);
  },
}));
