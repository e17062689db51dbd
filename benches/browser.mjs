// Compares the browser package with native Firelight on the same software adapter, and with wllama in the same browser.
// Prints tables for RESULTS.md. Rounds are interleaved, so that other load on the machine affects all contestants.
//
//   (cd tests/browser && npm ci); (cd benches && npm ci); ./x web; cargo build --features cli
//   target/debug/firelight synth smollm2-135m Q4_0 smol.gguf
//   node benches/browser.mjs smol.gguf [--rounds 3] [--prompt 128] [--generate 16] [--demo demo.gguf] [--only REGEX]

import { execFile } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { launch } from "../tests/browser/browsers.mjs";
import { processesOf, watchMemory } from "../tests/browser/memory.mjs";
import { startServer } from "../tests/browser/server.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    prompt: { type: "string", default: "128" },
    generate: { type: "string", default: "16" },
    demo: { type: "string" },
    dist: { type: "string", default: join(root, "dist/web") },
    native: { type: "string", default: join(root, "target/debug/firelight") },
    only: { type: "string", default: "" },
  },
});
if (positionals.length !== 1) throw new Error("expected one model: node benches/browser.mjs model.gguf");
const model = resolve(positionals[0]);
const [rounds, prompt, generate] = [values.rounds, values.prompt, values.generate].map(Number);
const only = new RegExp(values.only);

// wllama needs a cross-origin isolated page for its threads.
const isolated = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
const roots = {
  dist: resolve(values.dist),
  tests: join(root, "tests/browser"),
  wllama: join(root, "benches/node_modules/@wllama/wllama/esm"),
};
const server = await startServer(roots, isolated);

const DRIVERS = {
  chromium: { name: "SwiftShader", env: { VK_DRIVER_FILES: "/usr/lib/chromium/vk_swiftshader_icd.json" } },
  firefox: { name: "lavapipe", env: { WGPU_BACKEND: "vulkan" } },
};

/** The priority of all contestants: Chromium may raise that of its GPU process, which matters on a busy machine. */
const NICE = -15;

/** Sets this priority every second for every thread of `pid` and its descendants. Returns a function that stops this. */
function level(pid) {
  const once = () => {
    for (const { pid: process } of processesOf(pid)) {
      // Linux schedules sessions (autogroups) against each other, and only then the threads within a session.
      attempt(() => writeFileSync(`/proc/${process}/autogroup`, String(NICE)));
      for (const thread of tasks(process)) attempt(() => setPriority(Number(thread), NICE));
    }
  };
  once();
  const timer = setInterval(once, 1000);
  return () => clearInterval(timer);
}

const tasks = (pid) => attempt(() => readdirSync(`/proc/${pid}/task`)) ?? [];

/** The result of `work`, or undefined if it throws: the process has ended, or permission is missing. */
function attempt(work) {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** `{ prefill, decode }` in tokens per second, of native Firelight with the driver that `browser` uses. */
async function native(browser, path, tier = []) {
  const args = ["bench", path, ...tier, "-p", prompt, "-n", generate, "-r", 1, "--json"].map(String);
  const env = { ...process.env, ...DRIVERS[browser].env };
  const running = promisify(execFile)(values.native, args, { env, maxBuffer: 1 << 24 });
  const done = level(running.child.pid);
  const { stdout } = await running.finally(done);
  const [prefill, decode] = JSON.parse(stdout).tests.map((test) => test.tok_s.median);
  return { prefill, decode };
}

/** Launches a browser and opens the test page. */
async function open(name) {
  const browser = await launch(name);
  const done = level(browser.process().pid);
  const page = await browser.newPage();
  await page.goto(`${server.origin}/tests/page.html`);
  await page.waitForFunction("window.ready");
  const close = () => browser.close().finally(done);
  return { browser, page, close };
}

/** `{ prefill, decode }` of the package in a browser, after a warm-up run. */
async function inBrowser(name, path) {
  const { page, close } = await open(name);
  const site = server.site({ "model.gguf": path });
  try {
    return await page.evaluate(measure, site.url("model.gguf"), prompt, generate);
  } finally {
    await close();
  }
}

/** Runs in the page. */
async function measure(url, prompt, generate) {
  await t.load(url, { context: prompt + generate + 8 });
  // New random words for each run, so that the prefix cache never matches.
  const text = async (tokens) => {
    const words = Array.from({ length: 2 * tokens }, () => Math.random().toString(36).slice(2, 6));
    const ids = await t.model.tokenize(words.join(" "), { special: false });
    return t.model.detokenize(ids.slice(0, tokens - 1));
  };
  const run = async (tokens, maxTokens) => {
    const answer = t.model.complete(await text(tokens), { temperature: 0, maxTokens, ignoreEnd: true });
    await answer.text();
    return answer.stats;
  };
  await run(prompt, 1);
  const read = await run(prompt, 1);
  await run(2, generate + 1);
  const said = await run(2, generate + 1);
  return {
    prefill: (read.promptTokens - read.reusedTokens) / read.promptSeconds,
    decode: (said.generatedTokens - 1) / said.decodeSeconds,
    adapter: `${t.model.info.adapter}, tier ${t.model.info.tier}`,
  };
}

/** wllama in Chromium. `gpu` requests all layers on the GPU; wllama's log says where they are. */
async function wllama(path, gpu) {
  const { page, close } = await open("chromium");
  try {
    const site = server.site({ "model.gguf": path });
    return await page.evaluate(measureWllama, site.url("model.gguf"), prompt, generate, gpu);
  } finally {
    await close();
  }
}

/** Runs in the page. */
async function measureWllama(url, prompt, generate, gpu) {
  const { Wllama } = await import("/wllama/index.js");
  const log = [];
  const note = (...words) => log.push(words.join(" "));
  const logger = { debug: note, log: note, warn: note, error: note };
  const wllama = new Wllama(
    { default: `${location.origin}/wllama/wasm/wllama.wasm` },
    { logger, suppressNativeLog: false },
  );
  const blob = await (await fetch(url)).blob();
  await wllama.loadModel([blob], {
    n_ctx: prompt + generate + 8,
    n_threads: 2,
    ...(gpu ? { n_gpu_layers: 999 } : { n_gpu_layers: 0 }),
  });
  const words = (n) => Array.from({ length: n }, () => Math.random().toString(36).slice(2, 3)).join(" ");
  const run = async (n, max_tokens) =>
    (
      await wllama.createCompletion({
        prompt: words(n),
        max_tokens,
        temperature: 0,
        ignore_eos: true,
        cache_prompt: false,
      })
    ).timings;
  await run(prompt / 2, 1);
  const read = await run(prompt / 2, 1);
  const said = await run(2, generate + 1);
  const result = {
    prefill: read.prompt_per_second,
    decode: said.predicted_per_second,
    threads: wllama.isMultithread(),
    ran: log.some((line) => /WebGPU.*model buffer size/.test(line)) ? "on the GPU" : "on the CPU",
  };
  await wllama.exit();
  return result;
}

/** Seconds until a model is loaded and until its first text, from the network and then from the cache, each in a new
 *  page; and the peak memory during loading, relative to an empty page. */
async function start(name, path) {
  const { browser, page, close } = await open(name);
  const site = server.site({ "model.gguf": path });
  const first = () =>
    page.evaluate(async (url) => {
      const started = performance.now();
      const since = () => (performance.now() - started) / 1000;
      await t.load(url, { context: 512 });
      const loaded = since();
      for await (const _ of t.model.complete("Once upon a time", { temperature: 0, maxTokens: 4, ignoreEnd: true }))
        return { loaded, first: since() };
    }, site.url("model.gguf"));
  try {
    const memory = watchMemory(browser);
    const cold = await first();
    const peak = memory() / 1e6;
    await page.goto(`${server.origin}/tests/page.html`);
    await page.waitForFunction("window.ready");
    site.off = true;
    const kept = await first();
    return { cold, kept, peak };
  } finally {
    await close();
  }
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
const range = (numbers) =>
  `${median(numbers).toFixed(1)} (${Math.min(...numbers).toFixed(1)} .. ${Math.max(...numbers).toFixed(1)})`;

/** Runs interleaved rounds and prints the medians as a table. */
async function compare(title, path, contestants) {
  const results = new Map(Object.keys(contestants).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(contestants)) {
      const result = await run(path).catch((error) => ({ failed: String(error) }));
      if (!result.failed) results.get(name).push(result);
      console.error(title, name, JSON.stringify(result));
    }
  }
  console.log(`\n| ${title} | prefill, tok/s | decode, tok/s |\n|---|---|---|`);
  const of = (name, what) => results.get(name).map((result) => result[what]);
  for (const [name, all] of results) if (all.length === 0) results.delete(name);
  const ran = (name) => [name, results.get(name)[0].ran].filter(Boolean).join(", ran ");
  for (const name of results.keys())
    console.log(`| ${ran(name)} | ${range(of(name, "prefill"))} | ${range(of(name, "decode"))} |`);
  const [first, second] = [...results.keys()];
  const ratio = (what) => `${((100 * median(of(second, what))) / median(of(first, what))).toFixed(0)} %`;
  console.log(`| ${second} relative to ${first} | ${ratio("prefill")} | ${ratio("decode")} |`);
}

for (const [browser, { name }] of Object.entries(DRIVERS)) {
  const contestants = {
    [`native, ${name}`]: (path) => native(browser, path),
    [browser]: (path) => inBrowser(browser, path),
  };
  if (browser === "firefox") {
    // Firefox has no subgroups.
    contestants["native, lavapipe, baseline tier"] = (path) => native(browser, path, ["--tier", "baseline"]);
  }
  if (browser === "chromium" && existsSync(roots.wllama)) {
    contestants["wllama, 2 threads"] = (path) => wllama(path, false);
    contestants["wllama, GPU requested"] = (path) => wllama(path, true);
  }
  if (only.test(browser)) await compare(browser, model, contestants);
  if (only.test(`${browser} demo`) && values.demo) {
    await compare(
      `${browser}, demo model`,
      resolve(values.demo),
      Object.fromEntries(Object.entries(contestants).slice(0, 2)),
    );
  }
}
if (only.test("start")) {
  console.log(
    "\n| start | loaded, s | first text, s | from the cache: loaded | first text | peak memory of the page, MB |\n|---|---|---|---|---|---|",
  );
  for (const browser of Object.keys(DRIVERS)) {
    const { cold, kept, peak } = await start(browser, model);
    const seconds = [cold.loaded, cold.first, kept.loaded, kept.first].map((n) => n.toFixed(1)).join(" | ");
    console.log(`| ${browser} | ${seconds} | ${peak.toFixed(0)} |`);
  }
}
server.close();
process.exit();
