// One engine for several tabs.

import assert from "node:assert/strict";
import { goldens, tellsStories } from "./stories.mjs";

const load = (page, url) => page.evaluate((url) => t.load(url, { where: "shared" }), url);

export default [
  {
    name: "two tabs on one SharedWorker",
    async run(context) {
      const site = context.site();
      const url = site.url("model.gguf");
      const [first, second] = [await context.page(), await context.page()];
      assert.equal((await load(first, url)).info.where, "shared");
      const served = site.served;
      const started = Date.now();
      assert.equal((await load(second, url)).info.where, "shared");
      assert.equal(site.served, served, "the second tab downloads nothing");
      assert.ok(Date.now() - started < 3000, "the second tab has the model at once");
      const { prompt, greedy_ids } = goldens(context).at(-1);
      const both = await Promise.all(
        [first, second].map((page) => page.evaluate((prompt) => t.greedy(prompt, 60), prompt)),
      );
      for (const { tokens } of both) assert.deepEqual(tokens, greedy_ids.slice(0, 60));
      // Closing a tab cancels its answers and keeps the model.
      await first.evaluate(
        () =>
          void t.model
            .complete("Once", { ignoreEnd: true })
            .text()
            .catch(() => {}),
      );
      await first.close();
      await tellsStories(context, second);
      // So does destroying the model in a tab.
      const third = await context.page();
      await load(third, url);
      await second.evaluate(() => t.end());
      await tellsStories(context, third);
    },
  },
  {
    name: "without SharedWorker: a worker for each tab, and a notice",
    async run(context) {
      const page = await context.page({ before: () => delete window.SharedWorker });
      const { info, notices } = await load(page, context.site().url("model.gguf"));
      assert.equal(info.where, "worker");
      assert.ok(notices.length > 0, "a notice");
      await tellsStories(context, page);
    },
  },
];
