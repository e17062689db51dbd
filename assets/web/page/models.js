// The start: models in this browser, a short list of others, the hub's search, files and addresses.

import { Firelight, cache } from "../index.js";
import { modelsOf, searchHub } from "../hub.js";
import { $, confirmed, make } from "./dom.js";
import { bytes, count, fileName, words } from "./format.js";
import { loadOptions } from "./settings.js";

/** The address of another hub, such as a mirror. */
export const hub = new URLSearchParams(location.search).get("hub") ?? undefined;

let load = () => {};

/** Connects the start's controls. `loadModel(source, name)` loads a model. */
export function bindModels(loadModel) {
  load = loadModel;
  $("demo").onclick = () => load(null, "Demo model");
  $("file").onchange = () => loadFiles($("file").files);
  $("url").onsubmit = (event) => {
    event.preventDefault();
    load($("address").value.trim());
  };
  $("search").onsubmit = (event) => {
    event.preventDefault();
    search($("query").value.trim());
  };
}

/** The parts of a split model in the order of their names. */
export function loadFiles(list) {
  const files = [...list].sort((a, b) => a.name.localeCompare(b.name));
  if (files.length > 0) load(files.length === 1 ? files[0] : files, files[0].name);
  $("file").value = "";
}

/** Draws what may have changed: the demo's size, the models in the cache, the list. */
export async function drawModels() {
  const kept = await cache.list().catch(() => []);
  drawKept(kept);
  const catalogue = await fetch("models.json").then((answer) => answer.json(), () => []);
  $("catalogue").hidden = catalogue.length === 0;
  $("catalogue-list").replaceChildren(...catalogue.filter((model) => !isKept(model, kept)).map(row));
  await sizeDemo(kept);
}

/** Whether a model of the list is in the cache: a complete file of its repository, with its quantization. */
function isKept({ source }, kept) {
  const [, repo, quant = ""] = /^hf:([^:]+)(?::(.+))?$/.exec(source);
  return kept.some(({ url, complete }) => complete && url.includes(`/${repo}/resolve/`) && fileName(url).includes(quant));
}

/** Whether this model can be loaded without a network. */
export async function isCached(source) {
  const kept = (await cache.list().catch(() => [])).filter(({ complete }) => complete);
  if (source === null) return true;
  return source.startsWith("hf:") ? isKept({ source }, kept) : kept.some(({ url }) => url === source);
}

/** The demo's size in bytes; a page without the demo does not offer it. */
async function sizeDemo(kept) {
  const answer = await fetch("demo.gguf", { method: "HEAD" }).catch(() => null);
  const size = Number(answer?.headers.get("content-length"));
  const there = answer?.ok || kept.some(({ url, complete }) => complete && url.endsWith("/demo.gguf"));
  $("demo").disabled = !there;
  if (!there) $("demo-size").textContent = "not included here";
  else if (size > 0) $("demo-size").textContent = `Tiny; comes with this page · ${bytes(size)} · MIT or Apache-2.0`;
}

function drawKept(kept) {
  const others = kept.filter(({ url }) => !url.endsWith("/demo.gguf"));
  $("kept").hidden = others.length === 0;
  $("models").replaceChildren(...others.map(keptModel));
  if (others.length === 0) return;
  cache.size().then(({ used, quota }) => {
    $("space").textContent = `${bytes(used)} of the ${bytes(quota)} that the browser allows`;
  });
}

function keptModel({ url, total, loaded, complete }) {
  const name = fileName(url);
  const about = complete ? bytes(total) : `${bytes(loaded)} of ${bytes(total)} downloaded`;
  const remove = button("Delete", "quiet", async () => {
    if (!(await confirmed(`Delete ${name} (${bytes(loaded)}) from this browser?`, "Delete"))) return;
    await cache.delete(url);
    await drawModels();
    $("start").querySelector("h2").focus();
  });
  remove.setAttribute("aria-label", `Delete ${name}`);
  const start = button(complete ? "Load" : "Resume", "", () => load(url, name));
  start.setAttribute("aria-label", `${start.textContent} ${name}`);
  return make("li", { title: url }, make("div", {}, make("b", {}, name), meta(about)), remove, start);
}

const button = (text, className, onclick) => make("button", { type: "button", className, onclick }, text);
const meta = (...parts) => make("span", { className: "faint numbers" }, parts.filter(Boolean).join(" · "));

/** A model that would be downloaded. */
function row({ name, about, source, bytes: size, license }) {
  const verdict = make("p", { className: "verdict faint", hidden: true });
  verdict.setAttribute("role", "status");
  const ask = button("Does it fit?", "quiet", () => tellFit(source, verdict, ask));
  ask.setAttribute("aria-label", `Does ${name} fit?`);
  const start = button("Download", "", () => load(source, name));
  start.setAttribute("aria-label", `Download ${name}`);
  const text = make("div", {}, make("b", {}, name), about && make("span", { className: "about" }, about));
  text.append(meta(size > 0 && bytes(size), license), verdict);
  return make("li", {}, text, ask, start);
}

/** Reads a model's header, and says whether the model fits this GPU. */
async function tellFit(source, verdict, ask) {
  ask.disabled = true;
  verdict.hidden = false;
  verdict.className = "verdict faint";
  verdict.textContent = "Reading the model’s header…";
  try {
    const fit = await Firelight.fit(source, { ...loadOptions(), hub });
    verdict.textContent = fit.fits
      ? `Fits: ${bytes(fit.gpuBytes)} on the GPU with a context of ${count(fit.context)} tokens.`
      : `Does not fit: ${fit.reason}.`;
    verdict.className = fit.fits ? "verdict right" : "verdict wrong";
    if (fit.fits) ask.hidden = true;
  } catch (error) {
    verdict.textContent = words(error);
    verdict.className = "verdict wrong";
  }
  ask.disabled = false;
}

// The hub

let searching = null;

async function search(text) {
  searching?.abort();
  const { signal } = (searching = new AbortController());
  if (!text) return void $("found").replaceChildren();
  say("Searching…");
  try {
    const found = await searchHub(text, { hub, signal });
    if (found.length === 0) return say(`No model with GGUF files matches “${text}”.`);
    $("found").replaceChildren(...found.map(repository));
  } catch (error) {
    if (!signal.aborted) say(words(error), "wrong");
  }
}

function say(text, className = "faint") {
  const item = make("li", { className }, text);
  item.setAttribute("role", "status");
  $("found").replaceChildren(item);
}

/** A repository, which lists its files when it is opened. */
function repository({ repo, downloads, license }) {
  const files = make("ul", { className: "files" });
  const facts = meta(downloads > 0 && `${count(downloads)} downloads`, license);
  const details = make("details", {}, make("summary", {}, make("b", {}, repo), facts), files);
  details.ontoggle = async () => {
    if (!details.open || files.childElementCount > 0) return;
    files.append(make("li", { className: "faint" }, "Looking it up…"));
    try {
      const offers = await modelsOf(repo, { hub });
      const rows = offers.sort((a, b) => a.size - b.size).map((offer) => row({
        name: offer.quant ?? offer.name,
        about: offer.quant ? offer.name : "",
        source: offer.url,
        bytes: offer.size,
      }));
      files.replaceChildren(...(rows.length > 0 ? rows : [make("li", { className: "faint" }, "It has no GGUF file.")]));
    } catch (error) {
      files.replaceChildren(make("li", { className: "wrong" }, words(error)));
    }
  };
  return make("li", {}, details);
}
