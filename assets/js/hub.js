// Models of the Hugging Face hub, by name (`hf:ORG/REPO:QUANT`) or by the address of a page.

import { cache } from "./cache.js";
import { FirelightError } from "./errors.js";
import { refuse } from "./options.js";

const HUB = "https://huggingface.co";
const HOSTS = ["huggingface.co", "www.huggingface.co", "hf.co"];
const SCHEME = /^(hf|huggingface):(\/\/)?/i;
/** ORG/REPO, a revision, and what is wanted of the repository. */
const NAME = /^([\w.-]+\/[\w.-]+)(?:@([^:/]+))?(?:[:/](.+))?$/;
/** The first segment of paths that do not name models. */
const ELSEWHERE = /^(api|blog|collections|datasets|docs|join|login|models|papers|settings|spaces)$/;
/** If no quantization is wanted: the first of these that the repository has, or else its smallest file. */
const USUAL = ["Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_XS", "Q5_K_M", "Q8_0"];
const QUANT = /^((Q|IQ|TQ)\d\w*_\w+|MXFP4(_\w+)?|BF16|F16|F32|FP16)$/;
const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;

/** The address of the model that a text names; for a split model, of its first file. Null if the text is neither a name
 *  on the hub nor the address of a page there. If the hub cannot be reached, or `offline`, chooses among cached files. */
export async function onHub(text, { hub = HUB, headers, signal, offline = false } = {}) {
  hub = hub.replace(/\/$/, "");
  const named = SCHEME.test(text) ? name(text.replace(SCHEME, "")) : page(text, hub);
  if (!named) return null;
  const { repo, revision, wanted, file } = named;
  const root = `${hub}/${repo}/resolve/${encodeURIComponent(revision)}/`;
  if (file) return root + encoded(file);
  if (offline) return root + encoded(pick(repo, await cached(root), wanted));
  const files = await listed(hub, repo, revision, { headers, signal }).catch(async (error) => {
    const kept = error.code === "network" ? await cached(root) : [];
    if (kept.length === 0) throw error;
    return kept;
  });
  return root + encoded(pick(repo, files, wanted));
}

/** The models of a repository, `{name, size, quant, url}`; of a split model, its first file, with the size of all. */
export async function modelsOf(repo, { hub = HUB, headers, signal } = {}) {
  hub = hub.replace(/\/$/, "");
  const files = await listed(hub, repo, "main", { headers, signal });
  const total = ({ name }) => files.filter((file) => stem(file.name) === stem(name)).reduce((sum, { size }) => sum + size, 0);
  const url = (name) => `${hub}/${repo}/resolve/main/${encoded(name)}`;
  return offers(files).map((file) => ({ name: file.name, size: total(file), quant: quantOf(file.name), url: url(file.name) }));
}

/** The repositories with GGUF files that a text finds, the most downloaded first: `{repo, downloads, license}`. */
export async function searchHub(text, { hub = HUB, signal, limit = 12 } = {}) {
  hub = hub.replace(/\/$/, "");
  const query = new URLSearchParams({ search: text, filter: "gguf", sort: "downloads", direction: "-1", limit });
  const found = await asked(`${hub}/api/models?${query}`, { signal });
  if (!found.ok) throw new FirelightError("http", `${new URL(hub).host} answered the search with ${found.status}.`);
  const license = ({ tags = [] }) => tags.find((tag) => tag.startsWith("license:"))?.slice(8);
  return (await found.json()).map((model) => ({ repo: model.id, downloads: model.downloads, license: license(model) }));
}

const encoded = (path) => path.split("/").map(encodeURIComponent).join("/");

function name(text) {
  const [, repo, revision = "main", wanted] = NAME.exec(text) ?? [];
  if (!repo) refuse(`hf:${text} names no model.`, "Use hf:ORG/REPO, hf:ORG/REPO:QUANT or hf:ORG/REPO:FILE.gguf.");
  return { repo, revision, wanted: wanted === "latest" ? undefined : wanted };
}

/** What a page of the hub shows; null for other addresses, and for those of files (`.../resolve/...`). */
function page(text, hub) {
  const { host, pathname, searchParams } = new URL(text);
  const own = new URL(hub);
  const prefix = host === own.host && own.pathname !== "/" ? own.pathname : "";
  if (host !== own.host && !HOSTS.includes(host)) return null;
  if (!pathname.startsWith(`${prefix}/`)) return null;
  const parts = decodeURIComponent(pathname).slice(prefix.length + 1).split("/");
  const [org, model, kind, revision = "main", ...rest] = parts;
  if (!model || ELSEWHERE.test(org) || kind === "resolve") return null;
  const path = rest.filter(Boolean).join("/");
  if (path && (kind === "blob" || kind === "raw")) return { repo: `${org}/${model}`, revision, file: path };
  const wanted = searchParams.get("show_file_info") ?? (kind === "tree" && path ? `${path}/` : undefined);
  return { ...name(`${org}/${model}`), ...(kind === "tree" && { revision }), ...(wanted && { wanted }) };
}

/** The files of a repository, `{name, size}`. */
async function listed(hub, repo, revision, { headers, signal }) {
  const url = `${hub}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const response = await asked(url, { headers, signal });
  if (!response.ok) {
    const { host } = new URL(hub);
    const hint = "Check the name; if the model needs a login, pass `headers: {Authorization: ...}`.";
    throw new FirelightError("http", `${host} has no public model ${repo}@${revision}: ${response.status}.`, hint);
  }
  const { siblings = [] } = await response.json();
  return siblings.map(({ rfilename, size, lfs }) => ({ name: rfilename, size: lfs?.size ?? size ?? 0 }));
}

/** @throws "network" */
async function asked(url, { headers, signal }) {
  try {
    return await fetch(url, { headers, signal });
  } catch (error) {
    signal?.throwIfAborted();
    const message = `${new URL(url).host} cannot be reached: ${error.message}.`;
    throw new FirelightError("network", message, undefined, { cause: error });
  }
}

/** The files below an address that are in the cache. */
async function cached(root) {
  const below = (await cache.list()).filter(({ url, complete }) => complete && url.startsWith(root));
  return below.map(({ url, total }) => ({ name: decodeURIComponent(url.slice(root.length)), size: total }));
}

/** The name of the wanted model among a repository's files. */
function pick(repo, files, wanted) {
  const all = offers(files);
  if (all.length === 0) refuse(`${repo} has no GGUF file.`, "Search the hub for the model's name and GGUF.");
  const ranks = all.map(({ name }) => (wanted === undefined ? 0 : rank(name, wanted)));
  const best = Math.min(...ranks);
  const found = all.filter((_, i) => ranks[i] === best && best >= 0 && best < Infinity);
  const names = (offers) => offers.map(({ name }) => name).join(", ");
  if (found.length === 0) refuse(`${repo} has no model ${wanted}; there are ${names(all)}.`, "Name one of them.");
  const several = found.length > 1 && wanted !== undefined && !wanted.endsWith("/");
  if (several) refuse(`${repo} has several models ${wanted}: ${names(found)}.`, "Name one of them.");
  const usual = USUAL.map((quant) => found.find(({ name }) => quantOf(name) === quant)).find(Boolean);
  return (usual ?? found.reduce((a, b) => (b.size < a.size ? b : a))).name;
}

/** The models among files: the first part of each, without projectors and importance matrices. */
function offers(files) {
  const isModel = ({ name }) => /\.gguf$/i.test(name) && !/(mmproj|imatrix)[^/]*$/i.test(name);
  const isFirst = ({ name }) => (PART.exec(name)?.[1] ?? "00001") === "00001";
  return files.filter((file) => isModel(file) && isFirst(file));
}

const stem = (name) => name.replace(PART, "").replace(/\.gguf$/i, "");
const quantOf = (name) => stem(name).split("/").at(-1).toUpperCase().split(/[-.]/).findLast((word) => QUANT.test(word));

/** How well a file matches a path or folder, a file's name, the end of one, or a quantization. 0 is best. */
function rank(file, wanted) {
  const [lower, name] = [file.toLowerCase(), wanted.replace(PART, "-00001-of-$2.gguf").toLowerCase()];
  const ends = stem(lower).endsWith(name) && "-_./".includes(stem(lower).at(-name.length - 1));
  const fits = [
    file === wanted || (wanted.endsWith("/") && lower.startsWith(name)),
    lower === name,
    lower.split("/").at(-1) === name,
    ends,
    quantOf(file)?.toLowerCase() === name,
  ];
  const first = fits.indexOf(true);
  return first < 0 ? Infinity : first;
}
