// Lost devices, destroyed models, tuning, and browsers without WebGPU.

import assert from "node:assert/strict";
import { goldens, stories, tellsStories } from "./stories.mjs";

/** Answers greedily and loses the device after some pieces. */
const loseMidAnswer = (page, prompt) =>
  page.evaluate(async (prompt) => {
    const tokens = [];
    const answer = t.model.complete(prompt, {
      temperature: 0,
      maxTokens: 150,
      ignoreEnd: true,
      onToken: (token) => tokens.push(token.id),
    });
    let pieces = 0;
    for await (const _ of answer) if (++pieces === 20) await t.loseDevices();
    return { tokens, stats: await answer.stats, notices: t.model.notices };
  }, prompt);

export default [
  ...["worker", "main", "shared"].map((where) => ({
    name: `a device lost during an answer, ${where}`,
    async run(context) {
      const { page, site } = await stories(context, { where });
      const { prompt, greedy_ids } = goldens(context).at(-1);
      site.off = true; // The weights come from the cache.
      const { tokens, stats, notices } = await loseMidAnswer(page, prompt);
      assert.deepEqual(tokens, greedy_ids.slice(0, 150), "the answer continues with the same tokens");
      assert.equal(stats.generatedTokens, 150);
      assert.ok(
        notices.some((text) => /lost/.test(text)),
        `a notice: ${notices}`,
      );
      await tellsStories(context, page);
    },
  })),
  {
    name: "a device lost between answers",
    async run(context) {
      const { page } = await stories(context);
      await tellsStories(context, page);
      await page.evaluate(() => t.loseDevices());
      await new Promise((resolve) => setTimeout(resolve, 300));
      await tellsStories(context, page);
    },
  },
  {
    name: "a device lost twice in a row is an error",
    async run(context) {
      const { page } = await stories(context);
      const error = await page.evaluate(async () => {
        let pieces = 0;
        return t.error(async () => {
          for await (const _ of t.model.complete("Once", { temperature: 0, maxTokens: 400, ignoreEnd: true })) {
            if (++pieces === 5 || pieces === 20) await t.loseDevices();
          }
        });
      });
      assert.equal(error.code, "device-lost", JSON.stringify(error));
    },
  },
  {
    name: "destroy frees all GPU buffers",
    seconds: 180,
    async run(context) {
      const page = await context.page({ before: watchBuffers });
      const url = context.site().url("model.gguf");
      const alive = [];
      for (let round = 0; round < 3; round++) {
        await page.evaluate((url) => t.load(url, { where: "main" }), url);
        await tellsStories(context, page);
        const during = await page.evaluate(() => gpuBytes());
        assert.ok(during > 1e6, `${during} bytes of buffers while a model is loaded`);
        await page.evaluate(() => t.end());
        alive.push(await page.evaluate(() => gpuBytes()));
      }
      assert.deepEqual(alive, [0, 0, 0], "bytes of buffers after each destroy");
    },
  },
  {
    name: "destroy ends the worker",
    async run(context) {
      const { page } = await stories(context);
      await page.evaluate(() => t.end());
      const url = context.site().url("model.gguf");
      await page.evaluate((url) => t.load(url).then(() => t.end()), url);
      if (context.name === "firefox") return; // Its protocol does not list workers.
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.equal(page.workers().length, 0);
    },
  },
  {
    name: "a GPU is tuned once",
    seconds: 180,
    async run(context) {
      const { page, info } = await stories(context, { tune: true });
      assert.ok(info.measured, "it was tuned");
      await tellsStories(context, page);
      const url = context.site().url("model.gguf");
      // Cached tuning results apply even with `tune: false`, but not without the cache.
      const again = (options) =>
        page.evaluate((url, options) => t.load(url, options).then(({ info }) => info.measured), url, options);
      assert.equal(await again({ tune: false }), true);
      assert.equal(await again({ tune: false, cache: false }), false);
      await page.evaluate(() => t.cache.clear());
      assert.equal(await again({ tune: false }), false);
    },
  },
  {
    name: "without WebGPU",
    async run(context) {
      const page = await context.page({
        before: () => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined }),
      });
      const { support, error } = await page.evaluate(async () => ({
        support: await t.Firelight.support(),
        error: await t.error(() => t.load("model.gguf", { where: "main" })),
      }));
      assert.equal(support.webgpu, false);
      assert.match(support.reason, /WebGPU/);
      assert.equal(error.code, "no-webgpu");
      assert.match(error.hint, /\w{3}/);
    },
  },
  {
    name: "without an adapter",
    async run(context) {
      const page = await context.page({
        before: () => {
          GPU.prototype.requestAdapter = async () => null;
        },
      });
      const { support, error } = await page.evaluate(
        async (url) => ({
          support: await t.Firelight.support(),
          error: await t.error(() => t.load(url, { where: "main" })),
        }),
        context.site().url("model.gguf"),
      );
      assert.equal(support.webgpu, false);
      assert.equal(error.code, "no-adapter", JSON.stringify(error));
    },
  },
  {
    name: "support() describes the browser",
    async run(context) {
      const page = await context.page();
      const support = await page.evaluate(() => t.Firelight.support());
      assert.deepEqual(
        { ...support, adapter: support.adapter.length > 3 },
        {
          webgpu: true,
          adapter: true,
          tier: context.name === "chromium" ? "subgroups" : "baseline",
          opfs: true,
        },
      );
    },
  },
];

/** Runs before the page: counts the bytes of GPU buffers, except if they or their device have been destroyed. */
function watchBuffers() {
  const devices = new Map();
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await requestDevice.apply(this, args);
    const buffers = new Set();
    devices.set(device, buffers);
    const { createBuffer, destroy } = device;
    device.createBuffer = function (descriptor) {
      const buffer = createBuffer.call(device, descriptor);
      buffers.add(buffer);
      const { destroy } = buffer;
      buffer.destroy = () => (buffers.delete(buffer), destroy.call(buffer));
      return buffer;
    };
    device.destroy = () => (devices.delete(device), destroy.call(device));
    return device;
  };
  window.gpuBytes = () =>
    [...devices.values()].flatMap((buffers) => [...buffers]).reduce((sum, buffer) => sum + buffer.size, 0);
}
