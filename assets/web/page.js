// The page: pick a model, talk to it. It uses only the package's public API.
// `?model=ADDRESS` loads that model at once, `?where=shared` uses one engine for all tabs.

import { Firelight, FirelightError, cache } from "./index.js";

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);

/** The loaded model, the conversation, and the AbortController of the current loading or answer. */
let model = null;
let messages = [];
let running = null;

// Views

function show(id) {
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== id;
  const loaded = id === "chat";
  $("tools").hidden = $("model").hidden = !loaded;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Adds to the conversation, and scrolls to the end unless the user has scrolled up. */
function add(className, text) {
  const made = element("div", className, text);
  keepDown(() => $("log").append(made));
  return made;
}

function keepDown(change) {
  const log = $("log");
  const down = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  change();
  if (down) log.scrollTop = log.scrollHeight;
}

function bytes(n) {
  if (n < 1e6) return `${(n / 1e3).toFixed(0)} kB`;
  return n < 1e9 ? `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB` : `${(n / 1e9).toFixed(n < 1e10 ? 2 : 0)} GB`;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** Hints for users of this page, where they differ from the package's hints for programmers. */
const HINTS = {
  http: "Check the address. A file that needs a login can be downloaded and chosen here.",
  cors: "Download the file and choose it here, or take it from a host that allows other pages to read it.",
  "no-range": "Download the file and choose it here.",
  quota: "Delete a model below, or download the file and choose it here.",
  "context-full": "Start a new chat.",
};

function words(error) {
  if (!(error instanceof FirelightError)) return String(error?.message ?? error);
  return `${error.message}\n${HINTS[error.code] ?? error.hint}`.trim();
}

// Start: choosing a model

async function start(problem) {
  $("problem").hidden = problem === undefined;
  $("problem").textContent = problem ?? "";
  // Listed before it is shown: nothing may change under a pointer that is about to click.
  await listModels();
  show("start");
  await sizeDemo();
}

/** The demo's size in bytes; a page without the demo does not offer it. */
async function sizeDemo() {
  const answer = await fetch("demo.gguf", { method: "HEAD" }).catch(() => null);
  const size = Number(answer?.headers.get("content-length"));
  $("demo").disabled = !answer?.ok;
  if (!answer?.ok) $("demo-size").textContent = "not included here";
  else if (size > 0) $("demo-size").textContent = `${bytes(size)}, comes with this page`;
}

async function listModels() {
  const kept = await cache.list().catch(() => []);
  $("kept").hidden = kept.length === 0;
  $("models").replaceChildren(...kept.sort((a, b) => b.used - a.used).map(keptModel));
  if (kept.length === 0) return;
  const { used, quota } = await cache.size();
  $("space").textContent = `${bytes(used)} of the ${bytes(quota)} that the browser allows`;
}

function keptModel({ url, total, loaded, complete }) {
  const item = document.createElement("li");
  const name = element("button", "name", decodeURIComponent(new URL(url).pathname.split("/").at(-1)) || url);
  name.title = url;
  name.onclick = () => load(url);
  const size = element("span", "faint numbers", complete ? bytes(total) : `${bytes(loaded)} of ${bytes(total)}`);
  const remove = element("button", "quiet", "Delete");
  remove.setAttribute("aria-label", `Delete ${name.textContent}`);
  remove.onclick = async () => {
    await cache.delete(url);
    await listModels();
  };
  item.append(name, size, remove);
  return item;
}

// Loading

const STAGES = {
  download: "Downloading",
  cache: "Reading from the cache",
  load: "Loading",
  compile: "Preparing the GPU",
  ready: "Ready",
};

function showProgress({ stage, loaded, total, rate }) {
  $("what").textContent = STAGES[stage];
  if (stage === "compile" || !(total > 0)) {
    $("bar").removeAttribute("value");
    $("progress").textContent = "\u00a0";
    return;
  }
  $("bar").value = loaded / total;
  const left = rate > 0 && loaded < total ? `, ${duration((total - loaded) / rate)} left` : "";
  $("progress").textContent = `${bytes(loaded)} of ${bytes(total)}${rate > 0 ? `, ${bytes(rate)}/s` : ""}${left}`;
}

async function load(source) {
  show("loading");
  showProgress({ stage: "load", loaded: 0, total: 0, rate: 0 });
  running = new AbortController();
  const notices = [];
  const options = {
    signal: running.signal,
    where: parameters.get("where") ?? "worker",
    onProgress: showProgress,
    onNotice: (text) => (model ? add("notice", text) : notices.push(text)),
  };
  try {
    const loaded = await Firelight.load(source, options);
    showChat(loaded);
    model = loaded;
    for (const text of notices) add("notice", text);
  } catch (error) {
    await start(running.signal.aborted ? undefined : words(error));
  } finally {
    running = null;
  }
}

// The conversation

function showChat({ info }) {
  $("model").textContent = info.name;
  show("chat");
  clear();
  $("input").focus();
  const shared = info.where === "shared" ? ", for all tabs" : "";
  const size =
    info.parameters >= 1e9 ? `${(info.parameters / 1e9).toFixed(1)} B` : `${(info.parameters / 1e6).toPrecision(3)} M`;
  $("model").title =
    `${info.name}: ${info.architecture}, ${size} parameters, ${info.type}, ${bytes(info.bytes)}` +
    (info.license ? `, ${info.license}` : "");
  $("status").dataset.device = `${info.adapter} · tier ${info.tier}${shared} · ${bytes(info.gpuBytes)} on the GPU`;
  showStatus();
}

const showStatus = (text) => ($("status").textContent = [text, $("status").dataset.device].filter(Boolean).join(" · "));

function clear() {
  running?.abort();
  messages = [];
  $("log").replaceChildren();
}

function setAnswering(answering) {
  $("send").hidden = answering;
  $("stop").hidden = !answering;
}

async function send(text) {
  const conversation = messages;
  conversation.push({ role: "user", content: text });
  add("user", text);
  const shown = add("assistant", "");
  let said = "";
  const system = $("system").value.trim();
  const before = system ? [{ role: "system", content: system }] : [];
  const speed = meter();
  const stop = (running = new AbortController());
  setAnswering(true);
  try {
    const answer = model.chat([...before, ...conversation], {
      signal: stop.signal,
      temperature: $("temperature").valueAsNumber || 0,
      maxTokens: $("max-tokens").valueAsNumber || undefined,
      onToken: speed.count,
      onReasoning: (text) => keepDown(() => thought(shown).append(text)),
    });
    for await (const piece of answer) {
      said += piece;
      keepDown(() => shown.append(piece));
    }
    showStats(await answer.stats, shown);
  } catch (error) {
    if (!stop.signal.aborted) add("notice wrong", words(error));
  } finally {
    speed.end();
    // A stopped answer stays in the conversation; a question without any answer is removed from it.
    if (said !== "") {
      conversation.push({ role: "assistant", content: said });
    } else {
      shown.remove();
      conversation.pop();
    }
    if (running === stop) running = null;
    setAnswering(false);
  }
}

/** The element for an answer's reasoning, before the answer. */
function thought(shown) {
  if (shown.firstElementChild) return shown.firstElementChild;
  const details = document.createElement("details");
  details.append(Object.assign(document.createElement("summary"), { textContent: "Reasoning" }));
  shown.prepend(details);
  return details;
}

/** Shows the speed during an answer: tokens of the last two seconds. */
function meter() {
  const times = [];
  const update = () => {
    const now = performance.now();
    while (times.length > 0 && now - times[0] > 2000) times.shift();
    const seconds = (now - times[0]) / 1000;
    if (times.length > 1 && seconds > 0.2) showStatus(`${((times.length - 1) / seconds).toFixed(1)} tokens/s`);
  };
  const timer = setInterval(update, 250);
  return { count: () => times.push(performance.now()), end: () => clearInterval(timer) };
}

const ENDS = {
  length: "the limit of Max tokens was reached",
  context: "the conversation fills the context: start a new chat",
  cancelled: "stopped",
};

function showStats(stats, shown) {
  const rate = (stats.generatedTokens - 1) / stats.decodeSeconds;
  const parts = [`${stats.generatedTokens} tokens`];
  if (Number.isFinite(rate) && rate > 0) parts.push(`${rate.toFixed(1)} tokens/s`);
  parts.push(`first after ${stats.promptSeconds.toFixed(2)} s`);
  if (ENDS[stats.finish]) parts.push(ENDS[stats.finish]);
  const used = stats.promptTokens + stats.generatedTokens;
  keepDown(() => shown.after(element("p", "count faint numbers", parts.join(" · "))));
  showStatus(`${used} of ${model.info.context} tokens used`);
}

// User input

$("demo").onclick = () => load(null);
$("file").onchange = () => loadFiles($("file").files);
$("url").onsubmit = (event) => {
  event.preventDefault();
  load($("address").value);
};
$("cancel").onclick = () => running?.abort();
$("stop").onclick = () => running?.abort();
$("fresh").onclick = () => {
  clear();
  showStatus();
  $("input").focus();
};
$("change").onclick = async () => {
  clear();
  const old = model;
  model = null;
  await old.destroy();
  await start();
};
$("composer").onsubmit = (event) => {
  event.preventDefault();
  const text = $("input").value.trim();
  if (text === "" || running !== null) return;
  $("input").value = "";
  send(text);
};
$("input").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
};
addEventListener("keydown", (event) => event.key === "Escape" && model && running?.abort());

/** The parts of a split model in the order of their names. */
function loadFiles(list) {
  const files = [...list].sort((a, b) => a.name.localeCompare(b.name));
  if (files.length > 0) load(files.length === 1 ? files[0] : files);
  $("file").value = "";
}

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("over", !$("start").hidden);
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (!$("start").hidden) loadFiles(event.dataTransfer.files);
});

// Begin

const support = await Firelight.support();
if (!support.webgpu) {
  $("reason").textContent = support.reason ?? "";
  show("missing");
} else {
  $("gpu").textContent =
    `This device: ${support.adapter}, tier “${support.tier}”.` +
    (support.opfs ? "" : " Models cannot be kept here: private windows have no storage.");
  if (parameters.has("model")) await load(parameters.get("model") || null);
  else await start();
}
