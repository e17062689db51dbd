// The page that tests and measures the GPU.

import assert from "node:assert/strict";
import { NARROW, dark, fits, open, picture, textOf, visible } from "../pages.mjs";

export default [
  {
    name: "page: the test of the GPU compares kernels, measures a model, and its result can be copied",
    seconds: 400,
    async run(context) {
      const { page, outside } = await open(context, { file: "bench.html" });
      await visible(page, "#run");
      await page.click("#run");
      await page.waitForFunction(() => document.body.dataset.done, { timeout: 300_000 });
      const text = await textOf(page, "#results");
      assert.equal(await page.$eval("#problem", (problem) => problem.hidden), true, await textOf(page, "#problem"));
      assert.match(text, /Memory copy[\d.]+ GB\/s/);
      assert.match(text, /f32 arithmetic[1-9]\d* GFLOP\/s/);
      assert.match(text, /matmul, 1 row, (baseline|subgroups)right \(\d+ of \d+\)/);
      assert.doesNotMatch(text, /WRONG/);
      assert.match(text, /Decode, \d+ tokens[\d.]+ tokens\/s/);
      const copied = await page.evaluate(async () => {
        const texts = [];
        Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => texts.push(text) } });
        document.getElementById("copy").click();
        return texts[0];
      });
      assert.match(copied, /^Firelight GPU test\n\nDevice\n  GPU: .*\n/);
      assert.match(copied, /\n  Decode, \d+ tokens: [\d.]+ tokens\/s\n$/);
      await picture(context, page, "bench");
      await page.setViewport(NARROW);
      await dark(context, page);
      await fits(page);
      await picture(context, page, "bench-narrow-dark");
      assert.deepEqual(outside, []);
    },
  },
];
