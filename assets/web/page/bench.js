// The page that tests and measures the GPU. Its result can be copied as text and saved as JSON.

import init, { inspect } from "../engine.js";
import { Firelight, cache } from "../index.js";
import { $, copyText, drawIcons, make, saveText } from "./dom.js";
import { bytes, count, fileName, words } from "./format.js";

/** Tokens of the prompts, of the answer, and repetitions, of which the best counts. */
const PROMPT = 256;
const ANSWER = 64;
const ROUNDS = 3;
/** A model that writes fewer tokens a second is measured with fewer tokens. */
const SLOW = 8;

let result = null;
let stop = null;

function stage(text, part) {
  $("stage").textContent = text;
  if (part === undefined) $("bar").removeAttribute("value");
  else $("bar").value = part;
}

/** What the page knows without asking the GPU. */
const browserOf = () => {
  const brands = navigator.userAgentData?.brands.filter(({ brand }) => !/not.a.brand/i.test(brand)) ?? [];
  const brand = brands.at(-1);
  return brand ? `${brand.brand} ${brand.version}, ${navigator.userAgentData.platform}` : navigator.userAgent;
};

async function run() {
  const source = $("source").value || null;
  stop = new AbortController();
  $("problem").hidden = true;
  $("working").hidden = false;
  $("share").hidden = true;
  [$("run").hidden, $("stop").hidden, $("source").disabled] = [true, false, true];
  $("results").replaceChildren();
  result = { when: new Date().toISOString(), browser: browserOf() };
  try {
    stage("Comparing kernels with the CPU…");
    // The answer of the GPU would wait while the page computes references, so the stage is drawn first.
    await new Promise((resolve) => setTimeout(resolve, 50));
    await init({ module_or_path: new URL("../firelight.wasm", import.meta.url) });
    result.gpu = JSON.parse(await inspect());
    draw();
    stop.signal.throwIfAborted();
    result.model = await measure(source);
    draw();
  } catch (error) {
    if (!stop.signal.aborted) fail(error);
  }
  $("working").hidden = true;
  $("share").hidden = !result.gpu;
  [$("run").hidden, $("stop").hidden, $("source").disabled] = [false, true, false];
  $("run").textContent = "Run again";
  document.body.dataset.done = String(Boolean(result.model));
}

function fail(error) {
  const thrown = typeof error === "string" ? JSON.parse(error) : error;
  $("problem").textContent = words(thrown);
  $("problem").hidden = false;
}

/** Loads a model and measures it. */
async function measure(source) {
  const begun = performance.now();
  const { signal } = stop;
  const onProgress = ({ loaded, total, kernels }) =>
    kernels
      ? stage(`${kernels.done} of ${kernels.total} kernels compiled`, kernels.done / kernels.total)
      : stage(`Loading ${bytes(loaded)} of ${bytes(total)}`, total > 0 ? loaded / total : undefined);
  const model = await Firelight.load(source, { signal, onProgress });
  try {
    const loadSeconds = (performance.now() - begun) / 1000;
    const { info } = model;
    // The first run is a warm-up, and tells how much a slow device can do.
    const warm = await answer(model, 16, 4);
    const slow = warm.decode < SLOW;
    const [prompt, tokens, rounds] = slow ? [32, 8, 1] : [Math.min(PROMPT, info.context >> 1), ANSWER, ROUNDS];
    const runs = [];
    for (let i = 0; i < rounds; i += 1) {
      stage(`Measuring ${info.name}: round ${i + 1} of ${rounds}`, i / rounds);
      signal.throwIfAborted();
      runs.push(await answer(model, prompt, tokens));
    }
    const best = (name) => Math.max(...runs.map((run) => run[name]));
    const { name, type, parameters, bytes: size, tier, context, gpuBytes } = info;
    const rates = { prompt, tokens, prefill: best("prefill"), decode: best("decode") };
    return { name, type, parameters, bytes: size, tier, context, gpuBytes, loadSeconds, ...rates };
  } finally {
    await model.destroy();
  }
}

/** Reads a prompt of random words, which no earlier one resembles, and continues it. */
async function answer(model, prompt, tokens) {
  const random = Array.from({ length: 2 * prompt }, () => Math.random().toString(36).slice(2, 6)).join(" ");
  const ids = await model.tokenize(random, { special: false });
  const text = await model.detokenize(ids.slice(0, prompt - 1));
  const reply = model.complete(text, { temperature: 0, maxTokens: tokens + 1, ignoreEnd: true, signal: stop.signal });
  await reply.text();
  const stats = await reply.stats;
  return {
    prefill: (stats.promptTokens - stats.reusedTokens) / stats.promptSeconds,
    decode: (stats.generatedTokens - 1) / stats.decodeSeconds,
  };
}

// The result

/** The best time of each kernel and tier, and whether every variant was right. */
function kernelsOf({ kernels }) {
  const groups = new Map();
  for (const { kernel, tier, rows, error, seconds } of kernels) {
    const name = `${kernel}, ${rows === 1 ? "1 row" : `${rows} rows`}, ${tier}`;
    const group = groups.get(name) ?? { name, variants: 0, wrong: 0, error: 0, seconds: Infinity };
    group.variants += 1;
    group.wrong += seconds === null ? 1 : 0;
    group.error = Math.max(group.error, error ?? Infinity);
    group.seconds = Math.min(group.seconds, seconds ?? Infinity);
    groups.set(name, group);
  }
  return [...groups.values()];
}

const time = (seconds) => (seconds < 1e-3 ? `${(seconds * 1e6).toFixed(0)} µs` : `${(seconds * 1e3).toPrecision(3)} ms`);

/** The result as rows of text: titles, and [name, value]. */
function rows({ when, browser, gpu, model }) {
  const out = ["Device", ["GPU", gpu.adapter + (gpu.software ? " (software)" : "")], ["Browser", browser]];
  out.push(["Kernel tier", gpu.tier], ["Subgroups", gpu.subgroup[1] > 0 ? gpu.subgroup.join(" to ") : "none"]);
  out.push(["f16 arithmetic", gpu.f16 ? "yes" : "no"]);
  out.push(["Largest binding, buffer", `${bytes(gpu.maxBinding)}, ${bytes(gpu.maxBuffer)}`]);
  out.push(["Memory copy", `${gpu.copyGBs.toFixed(1)} GB/s`], ["f32 arithmetic", `${gpu.gflops.toFixed(0)} GFLOP/s`]);
  out.push(["Firelight", gpu.firelight], ["Tested", when.slice(0, 16).replace("T", " ")]);
  out.push("Kernels");
  for (const { name, variants, wrong, error, seconds } of kernelsOf(gpu)) {
    const verdict = wrong === 0 ? `right (${variants} of ${variants})` : `WRONG: ${wrong} of ${variants}`;
    const best = Number.isFinite(seconds) ? `, ${time(seconds)}` : "";
    out.push([name, `${verdict}, error ${error.toExponential(0)}${best}`]);
  }
  if (!model) return out;
  out.push("Model", ["Name", `${model.name}, ${model.type}, ${bytes(model.bytes)}`]);
  out.push(["Loaded in", `${model.loadSeconds.toFixed(1)} s`], ["On the GPU", bytes(model.gpuBytes)]);
  out.push([`Prefill, ${count(model.prompt)} tokens`, `${model.prefill.toFixed(1)} tokens/s`]);
  out.push([`Decode, ${count(model.tokens)} tokens`, `${model.decode.toFixed(1)} tokens/s`]);
  return out;
}

function asText() {
  const line = (row) => (typeof row === "string" ? `\n${row}` : `  ${row[0]}: ${row[1]}`);
  return `Firelight GPU test\n${rows(result).map(line).join("\n")}\n`;
}

function draw() {
  const parts = [];
  for (const row of rows(result)) {
    if (typeof row === "string") parts.push(make("h2", {}, row), make("dl", { className: "numbers" }));
    else {
      const value = make("dd", { className: row[1].startsWith("WRONG") ? "wrong" : "" }, row[1]);
      parts.at(-1).append(make("div", {}, make("dt", {}, row[0]), value));
    }
  }
  $("results").replaceChildren(...parts);
}

// Begin

drawIcons();
$("what").onsubmit = (event) => {
  event.preventDefault();
  run();
};
$("stop").onclick = () => stop.abort();
$("copy").onclick = () => copyText(asText(), $("copy"));
$("save").onclick = () => saveText("firelight-gpu-test.json", "application/json", JSON.stringify(result, null, 2));
const support = await Firelight.support();
if (!support.webgpu) {
  $("run").disabled = true;
  fail(new Error(`${support.reason} The test needs WebGPU.`));
}
for (const { url, complete } of await cache.list()) {
  if (complete && !url.endsWith("/demo.gguf")) $("source").append(make("option", { value: url }, fileName(url)));
}
