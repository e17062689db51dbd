// The page: wires its parts together. It uses the package's public API, and its hub.js.
// `?model=SOURCE` loads that model at once, `?where=shared` uses one engine for all tabs, `?hub=ADDRESS` another hub.

import { Firelight } from "../index.js";
import { Chat } from "./chat.js";
import { $, drawIcons, growing, saveText } from "./dom.js";
import { bytes, count, duration, parameters, words } from "./format.js";
import { bindModels, drawModels, hub, isCached, loadFiles } from "./models.js";
import { bindSettings, keep, lastModel, loadOptions } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store } from "./store.js";
import { addNotice, isSend, listenForCopies } from "./transcript.js";

const query = new URLSearchParams(location.search);
/** Set while a model is loaded: a page that did not survive that does not load it again by itself. */
const LOADING = "firelight-loading";

const store = await Store.open().catch(() => null);
const chat = new Chat(store, () => sidebar?.refresh());
let sidebar = null;
/** The AbortController of the current loading. */
let loading = null;

// Views

function show(id) {
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== id;
  const { model } = chat;
  $("needs").hidden = id !== "chat" || model !== null;
  $("composer").hidden = id !== "chat" || model === null;
  $("model").hidden = id === "missing" || id === "loading";
  $("model-name").textContent = model?.info.name ?? "Choose a model";
  $("export").hidden = id !== "chat";
  $("back").hidden = id !== "start" || (model === null && chat.conversation.messages.size === 0);
}

/** Shows the choice of models, and an error. */
async function start(problem) {
  $("problem").hidden = problem === undefined;
  $("problem").textContent = problem ?? "";
  // Drawn before it is shown: nothing may change under a pointer that is about to click.
  await drawModels();
  show("start");
  $("start").scrollTop = 0;
  if (problem !== undefined) $("address").focus();
  else $("start").querySelector("h2").focus();
}

function showChat() {
  if (loading) return;
  const last = lastModel();
  $("load-last").hidden = !last;
  if (last) $("load-last").textContent = `Load ${last.name}`;
  show("chat");
  chat.draw();
  $(chat.model ? "input" : "log").focus();
}

// Loading

const STAGES = {
  download: "Downloading",
  cache: "Reading from this browser’s storage",
  load: "Loading",
  compile: "Preparing the GPU",
  ready: "Ready",
};

function showProgress({ stage, loaded, total, rate, kernels }) {
  if (kernels) {
    $("kernels").textContent = `${kernels.done} of ${kernels.total} kernels compiled`;
    if (loaded < total) return; // Bytes are still coming, and the bar shows them.
    $("what").textContent = STAGES[stage];
    $("bar").value = kernels.done / kernels.total;
    return;
  }
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

async function load(source, name = source) {
  if (loading) return;
  chat.stop();
  const old = chat.model;
  chat.model = null;
  show("loading");
  $("loading-name").textContent = name;
  $("kernels").textContent = "\u00a0";
  showProgress({ stage: "load", loaded: 0, total: 0, rate: 0 });
  $("cancel").focus();
  loading = new AbortController();
  // Two models may not fit the GPU together.
  await old?.destroy();
  const notices = [];
  const options = {
    ...loadOptions(),
    hub,
    signal: loading.signal,
    where: query.get("where") ?? "worker",
    onProgress: showProgress,
    onNotice: (text) => (chat.model ? addNotice(text) : notices.push(text)),
  };
  sessionStorage.setItem(LOADING, "yes");
  try {
    chat.model = await Firelight.load(source, options);
    if (source === null || typeof source === "string") keep({ model: { source, name: source === null ? name : chat.model.info.name } });
    describeModel();
    loading = null;
    showChat();
    notices.forEach((text) => addNotice(text));
  } catch (error) {
    const { aborted } = loading.signal;
    loading = null;
    await start(aborted ? undefined : words(error));
  } finally {
    sessionStorage.removeItem(LOADING);
  }
}

function describeModel() {
  const { info } = chat.model;
  const shared = info.where === "shared" ? ", for all tabs" : "";
  const facts = [
    info.architecture,
    `${parameters(info.parameters)} parameters`,
    info.type,
    bytes(info.bytes),
    `context ${count(info.context)}`,
    info.license,
  ];
  $("model").title = `${info.name}: ${facts.filter(Boolean).join(", ")}`;
  $("device").textContent = `${info.adapter} · tier ${info.tier}${shared} · ${bytes(info.gpuBytes)} on the GPU`;
}

// User input

const setInput = growing($("input"));

function send() {
  const text = $("input").value.trim();
  if (text === "" || chat.answering) return;
  setInput("");
  chat.send(text);
}

function bindChat() {
  $("composer").onsubmit = (event) => {
    event.preventDefault();
    send();
  };
  $("input").onkeydown = (event) => {
    if (!isSend(event)) return;
    event.preventDefault();
    send();
  };
  $("stop").onclick = () => {
    chat.stop();
    $("input").focus();
  };
  $("cancel").onclick = () => loading?.abort();
  $("model").onclick = () => start();
  $("other-model").onclick = () => start();
  $("back").onclick = () => showChat();
  $("load-last").onclick = () => load(lastModel().source, lastModel().name);
  $("settings-button").onclick = () => $("settings").showModal();
  $("export-markdown").onclick = () => exportAs("md", "text/markdown", chat.conversation.markdown());
  $("export-json").onclick = () => exportAs("json", "application/json", chat.conversation.json());
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chat.answering && !document.querySelector("dialog[open]")) chat.stop();
  });
}

function exportAs(extension, type, text) {
  const title = chat.conversation.facts.title.replace(/[^\p{L}\p{N} -]/gu, "").trim() || "conversation";
  saveText(`${title}.${extension}`, type, text);
  $("export").open = false;
}

function bindDrop() {
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("over", !loading);
  });
  addEventListener("dragleave", () => document.body.classList.remove("over"));
  addEventListener("drop", (event) => {
    document.body.classList.remove("over");
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    if (!loading) loadFiles(event.dataTransfer.files);
  });
}

/** The conversation of the address's hash, which a reload keeps. */
async function openFromHash() {
  const kept = await store?.load(location.hash.slice(1));
  if (kept) sidebar.openKept(kept);
  return Boolean(kept);
}

// Begin

drawIcons();
bindSettings();
bindModels(load);
bindChat();
bindDrop();
listenForCopies();
sidebar = new Sidebar(store, chat, showChat);
store?.onChange((id) => sidebar.changedElsewhere(id));
await sidebar.refresh();
if (!store) addNotice("This browser keeps no conversations here: they last until the page is left.");

const support = await Firelight.support();
const last = lastModel();
const crashed = sessionStorage.getItem(LOADING) !== null;
sessionStorage.removeItem(LOADING);
if (!support.webgpu) {
  $("reason").textContent = support.reason ?? "";
  show("missing");
} else {
  $("gpu").textContent =
    `This device: ${support.adapter}, tier “${support.tier}”.` +
    (support.opfs ? "" : " Models cannot be kept here: private windows have no storage.");
  const opened = await openFromHash();
  if (query.has("model")) await load(query.get("model") || null, query.get("model") || "Demo model");
  else if (last && !crashed && (await isCached(last.source))) await load(last.source, last.name);
  else if (opened) showChat();
  else await start();
}
navigator.serviceWorker?.register("service-worker.js").catch(() => {});
