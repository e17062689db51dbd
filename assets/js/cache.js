// The cache: models in the origin's private file system, one file per chunk, so that downloads resume and a damaged
// chunk is downloaded again alone. A chunk is valid once its SHA-256 is in the manifest, which is written after it.

import { CHUNK, Reader, give } from "./buffers.js";

const FOLDER = "firelight";
const MANIFEST = "manifest.json";
const DEVICES = "devices.json";
/** Bytes of the remaining quota that the cache leaves free. */
const SPARE = 32 << 20;

const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));
const chunkName = (index) => String(index).padStart(6, "0");

/** Whether this browser supports the cache. */
export const available = () =>
  typeof globalThis.navigator?.storage?.getDirectory === "function" && Boolean(globalThis.crypto?.subtle);

async function folder(create) {
  const top = await navigator.storage.getDirectory();
  return top.getDirectoryHandle(FOLDER, { create });
}

async function writeFile(directory, name, contents) {
  const file = await directory.getFileHandle(name, { create: true });
  const stream = await file.createWritable();
  try {
    await stream.write(contents);
    await stream.close(); // the file gets its new contents only now
  } catch (error) {
    await stream.abort().catch(() => {});
    throw error;
  }
}

async function readManifest(directory) {
  try {
    const file = await (await directory.getFileHandle(MANIFEST)).getFile();
    const manifest = JSON.parse(await file.text());
    return manifest.version === 1 && manifest.chunk === CHUNK ? manifest : null;
  } catch {
    return null; // there is none, or it is incomplete
  }
}

/** Serializes changes of a manifest: two tabs may load the same model. */
const alone = (key, work) => (navigator.locks ? navigator.locks.request(`${FOLDER}-${key}`, work) : work());

/** One model's chunks. */
export class Entry {
  #key;
  #directory;
  #manifest;

  constructor(key, directory, manifest) {
    this.#key = key;
    this.#directory = directory;
    this.#manifest = manifest;
  }

  /** The entry of a URL; empty if it is new. Rejects if the browser has no file system, or no room in it. */
  static async open(url) {
    if (!available()) throw new Error("this browser has no private file system here");
    const key = (await sha256(new TextEncoder().encode(url))).slice(0, 32);
    const directory = await (await folder(true)).getDirectoryHandle(key, { create: true });
    const entry = new Entry(key, directory, null);
    const manifest = await readManifest(directory);
    entry.#manifest = manifest?.url === url ? manifest : null;
    return entry;
  }

  /** Whether there is any chunk. */
  get known() {
    return this.#manifest !== null;
  }

  /** The file's length; Infinity while a server sends it without Content-Length. */
  get length() {
    return this.#manifest.length ?? Infinity;
  }

  has(index) {
    return Boolean(this.#manifest?.hashes[index]);
  }

  /** Bytes of the cached chunks. */
  get bytes() {
    if (!this.known) return 0;
    const sizes = Object.keys(this.#manifest.hashes).map((i) => Math.min(CHUNK, this.length - i * CHUNK));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  get complete() {
    return this.known && this.bytes === this.length;
  }

  /** The first chunk that is missing. */
  get firstMissing() {
    let index = 0;
    while (this.has(index)) index += 1;
    return index;
  }

  /** Whether this is the entry of a file of this length and version (ETag, or date); unknown values are ignored. */
  matches({ length, mark }) {
    const same = (a, b) => a == null || b == null || a === b;
    return this.known && same(this.#manifest.length, length) && same(this.#manifest.mark, mark);
  }

  /** Empties the entry, for another version of the file. */
  async begin(url, { length, mark }) {
    this.#manifest = { version: 1, url, length, mark: mark ?? null, chunk: CHUNK, hashes: {}, used: Date.now() };
    await alone(this.#key, () => this.#save());
  }

  /** A chunk's bytes, or null if it is damaged or missing. */
  async read(index) {
    try {
      const file = await (await this.#directory.getFileHandle(chunkName(index))).getFile();
      const bytes = await new Reader(file.stream()).fill(Math.min(file.size, CHUNK));
      if ((await sha256(bytes)) === this.#manifest.hashes[index]) return bytes;
      give(bytes);
    } catch {
      // Treated as damaged.
    }
    delete this.#manifest.hashes[index];
    return null;
  }

  /** Writes a chunk. */
  async write(index, bytes) {
    const hash = await sha256(bytes);
    await writeFile(this.#directory, chunkName(index), bytes);
    this.#manifest.hashes[index] = hash;
    await alone(this.#key, async () => {
      const theirs = await readManifest(this.#directory);
      const same = theirs?.length === this.#manifest.length && theirs?.mark === this.#manifest.mark;
      if (same) this.#manifest.hashes = { ...theirs.hashes, ...this.#manifest.hashes };
      await this.#save();
    });
  }

  /** Sets the length of a file that was sent without one. */
  async finish(length) {
    this.#manifest.length = length;
    await alone(this.#key, () => this.#save());
  }

  /** Records the time of the last use. */
  async touch() {
    this.#manifest.used = Date.now();
    await alone(this.#key, () => this.#save()).catch(() => {});
  }

  /** Deletes the entry. */
  async drop() {
    this.#manifest = null;
    for await (const name of this.#directory.keys()) await this.#directory.removeEntry(name);
  }

  #save() {
    return writeFile(this.#directory, MANIFEST, JSON.stringify(this.#manifest));
  }
}

/** The tuning results of this browser version's GPUs, by key; null if nothing can be stored. */
export async function devices() {
  if (!available()) return null;
  try {
    const file = await (await (await folder(false)).getFileHandle(DEVICES)).getFile();
    const { agent, devices } = JSON.parse(await file.text());
    return agent === navigator.userAgent ? devices : {};
  } catch {
    return {}; // there are none, or the file is incomplete
  }
}

/** Stores tuning results. A failure is ignored: the GPU is tuned again then. */
export async function keepDevices(devices) {
  try {
    await writeFile(await folder(true), DEVICES, JSON.stringify({ agent: navigator.userAgent, devices }));
  } catch {
    // See above.
  }
}

/** Whether the quota has room for this many bytes. */
export async function room(bytes) {
  const { quota, usage } = await navigator.storage.estimate();
  return quota === undefined || quota - (usage ?? 0) >= bytes + SPARE;
}

/** Every cached model's directory, key and manifest. */
async function entries() {
  if (!available()) return [];
  const found = [];
  try {
    const top = await folder(false);
    for await (const [key, directory] of top.entries()) {
      if (directory.kind === "directory") found.push({ top, key, directory, manifest: await readManifest(directory) });
    }
  } catch (error) {
    if (error.name !== "NotFoundError") throw error;
  }
  return found;
}

/** The page's interface to the cache. */
export const cache = {
  /** The models, complete or partial, the most recently used first. */
  async list() {
    const models = [];
    for (const { key, directory, manifest } of await entries()) {
      if (!manifest) continue;
      const { bytes, complete } = new Entry(key, directory, manifest);
      const { url, length, used } = manifest;
      models.push({ url, loaded: bytes, total: length ?? bytes, complete, used });
    }
    return models.sort((a, b) => b.used - a.used);
  },

  /** The bytes that models take, and the origin's quota. */
  async size() {
    const models = await this.list();
    const { quota = 0 } = (await globalThis.navigator?.storage?.estimate?.()) ?? {};
    return { used: models.reduce((sum, model) => sum + model.loaded, 0), quota };
  },

  /** Deletes the model of a URL. */
  async delete(url) {
    const href = new URL(url, globalThis.location?.href).href;
    for (const { top, key, manifest } of await entries()) {
      if (manifest?.url === href) await top.removeEntry(key, { recursive: true });
    }
  },

  /** Deletes everything. */
  async clear() {
    for (const { top, key } of await entries()) await top.removeEntry(key, { recursive: true });
    if (available()) await folder(false).then((top) => top.removeEntry(DEVICES)).catch(() => {});
  },
};
