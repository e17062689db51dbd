// A model's bytes: ranges of a URL, cached or not, or a Blob. The engine gets {name, length, read(start, end)} of each
// file, and never more than a few chunks are in memory.

import { CHUNK, Reader, give, giveSoon, take } from "./buffers.js";
import { Entry, room } from "./cache.js";
import { FirelightError } from "./errors.js";

/** The attempts of a request, and the pause before the second, which doubles each time. */
const TRIES = 4;
const PAUSE = 400;
/** Milliseconds without data after which a request fails. */
const STALL = 30_000;
/** Target duration of a request in milliseconds: short enough to show progress and to detect stalls. */
const STEP = 1000;
/** The minimum size of a request in bytes. */
const LEAST = 1 << 18;
/** Milliseconds to wait for the server before a completely cached file is used without its answer. */
const PATIENCE = 4000;
const MIB = 1 << 20;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const fileName = (url) => decodeURIComponent(new URL(url).pathname.split("/").pop() || "model");

/**
 * Opens every file of a model. `files` are absolute URLs and Blobs; `tell` has the functions `bytes(kind, count)` and
 * `notice(text)`.
 */
export async function openFiles(files, options, tell) {
  const parts = files.length === 1 && typeof files[0] === "string" ? siblings(files[0]) : files;
  const opened = [];
  for (const part of parts) {
    opened.push(typeof part === "string" ? await Remote.open(part, options, tell, opened) : local(part, tell));
  }
  return opened;
}

/** The URLs of all files of a split model, by the name of one. */
function siblings(url) {
  const match = /-\d{5}-of-(\d{5})\.gguf(?=$|[?#])/.exec(url);
  if (!match) return [url];
  const count = Number(match[1]);
  const name = (i) => `-${String(i + 1).padStart(5, "0")}-of-${match[1]}.gguf`;
  const before = url.slice(0, match.index);
  return Array.from({ length: count }, (_, i) => before + name(i) + url.slice(match.index + match[0].length));
}

function local(blob, tell) {
  const name = blob.name ?? "model.gguf";
  return {
    name,
    length: blob.size,
    async read(start, end) {
      try {
        const part = blob.slice(start, end);
        const small = part.size <= CHUNK;
        const bytes = small ? await new Reader(part.stream()).fill(part.size) : new Uint8Array(await part.arrayBuffer());
        tell.bytes("load", bytes.length);
        return giveSoon(bytes);
      } catch (error) {
        const hint = "Choose the file again.";
        throw new FirelightError("bad-file", `${name} cannot be read any more: ${error.message}`, hint, { cause: error });
      }
    },
  };
}

/** The file of a URL. */
class Remote {
  #url;
  #options;
  #tell;
  /** The cache's entry; null if nothing is cached. */
  #entry;
  #length;
  #mark;
  /** Promises of chunks that are loading or were just used, by index. */
  #chunks = new Map();
  #storing = Promise.resolve();
  /** Bytes of a request. */
  #piece = 1 << 20;
  /** All files of the model; only the file being read has chunks in memory. */
  #all;
  /** The progress of a body sent in one response: `upTo(index)` waits for a chunk. */
  #stream = null;

  static async open(url, options, tell, all) {
    const file = new Remote();
    file.#url = url;
    file.#options = options;
    file.#tell = tell;
    file.#all = all;
    const uncached = (error) => {
      tell.notice(`${file.name} will not be cached (${error.message}). Loading continues.`);
      return null;
    };
    file.#entry = options.cache ? await Entry.open(url).catch(uncached) : null;
    await file.#begin();
    return file;
  }

  get name() {
    return fileName(this.#url);
  }

  get length() {
    return this.#length;
  }

  /** The first request: finds the file's length, whether it is the cached version, and whether ranges are supported. */
  async #begin() {
    const cached = this.#entry?.complete;
    const first = cached ? 0 : (this.#entry?.firstMissing ?? 0);
    // Only the headers of a later part are needed now.
    const peek = cached || this.#all.length > 0;
    const range = peek ? [0, 1] : [first * CHUNK, (first + 1) * CHUNK];
    let answer;
    try {
      answer = await this.#request(range, cached);
    } catch (error) {
      this.#options.signal.throwIfAborted();
      if (!cached) throw error;
      if (error.code === "http") this.#tell.notice(`${error.message} The copy in the cache is used.`);
      return this.#useCache();
    }
    const { response, whole } = answer;
    const facts = { length: await this.#total(response, whole), mark: mark(response) };
    if (this.#entry?.known && !this.#entry.matches(facts)) {
      await response.body?.cancel();
      await this.#entry.drop();
      this.#tell.notice(`${this.name} has changed on its server: the copy in the cache was deleted.`);
      return this.#begin();
    }
    if (cached) {
      await response.body?.cancel();
      return this.#useCache();
    }
    this.#length = facts.length;
    this.#mark = facts.mark;
    await this.#makeRoom(facts);
    if (whole) return this.#takeWhole(response);
    if (peek) {
      await response.body?.cancel();
    } else if (first * CHUNK < this.#length) {
      const coming = this.#body(response, this.#size(first)).catch((error) => {
        this.#options.signal.throwIfAborted();
        return error.code === "network" ? this.#fetch(first) : Promise.reject(error);
      });
      const chunk = this.#keep(first, coming);
      chunk.catch(() => this.#chunks.delete(first));
      this.#chunks.set(first, chunk);
    }
  }

  /** Resolves once the chunks that were read are cached, or cannot be. */
  settled() {
    return this.#storing;
  }

  /** Deletes the cached chunks. */
  async forget() {
    const entry = this.#entry;
    this.#entry = null;
    await this.#storing;
    await entry?.drop().catch(() => {});
  }

  #useCache() {
    this.#length = this.#entry.length;
    this.#entry.touch();
  }

  /** Checks the quota before the first chunk is cached; without room nothing is cached. */
  async #makeRoom(facts) {
    if (!this.#entry) return;
    const missing = (facts.length ?? 0) - this.#entry.bytes;
    if (!(await room(missing).catch(() => true))) {
      const mib = Math.ceil(missing / MIB);
      this.#tell.notice(`The browser's quota has no room for ${mib} MiB: the model is loaded, but not cached.`);
      this.#entry = null;
    } else if (!this.#entry.known && facts.length !== null) {
      await this.#entry.begin(this.#url, facts);
    }
  }

  /** A request for the bytes from `start` to `end`, with retries; only one short attempt if the model `canDoWithout`. */
  async #request([start, end], canDoWithout = false, patience = canDoWithout ? PATIENCE : Infinity) {
    for (let attempt = 1; ; attempt += 1) {
      const late = patience < Infinity ? [AbortSignal.timeout(patience)] : [];
      const signal = AbortSignal.any([this.#options.signal, ...late]);
      const again = attempt < TRIES && !canDoWithout ? () => sleep(PAUSE * 2 ** (attempt - 1)) : null;
      let response;
      try {
        const headers = { ...this.#options.headers, Range: `bytes=${start}-${end - 1}` };
        response = await fetch(this.#url, { headers, signal, cache: "no-store" });
      } catch (error) {
        this.#options.signal.throwIfAborted();
        if (canDoWithout) throw error;
        if (again) {
          await again();
          continue;
        }
        throw await this.#unreachable(error);
      }
      if (response.status === 206) return { response, whole: false };
      if (response.status === 200) return { response, whole: true };
      await response.body?.cancel();
      // Busy or broken servers may recover soon.
      if (again && (response.status === 429 || response.status >= 500)) {
        await again();
        continue;
      }
      if (response.status === 416 && start > 0 && this.#entry?.known) {
        await this.#entry.drop();
        return this.#request([0, CHUNK]);
      }
      if (response.status === 416) throw new FirelightError("bad-file", `${this.name} is empty.`);
      const what = `${this.#url} was answered with ${response.status} ${response.statusText}`.trim();
      throw new FirelightError("http", `${what}.`);
    }
  }

  /** The error of a fetch that failed without a response. */
  async #unreachable(error) {
    const foreign = new URL(this.#url).origin !== globalThis.location?.origin;
    if (foreign) {
      const hears = () => fetch(this.#url, { mode: "no-cors", method: "HEAD", signal: AbortSignal.timeout(5000) });
      const there = await hears().then(() => true, () => false);
      if (there) {
        const message = `${new URL(this.#url).host} does not allow this page to read ${this.name}.`;
        return new FirelightError("cors", message, undefined, { cause: error });
      }
    }
    return new FirelightError("network", `${this.#url} cannot be reached: ${error.message}.`, undefined, { cause: error });
  }

  /** The file's length; null if the server does not send it. */
  async #total(response, whole) {
    const ranged = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    if (ranged) return Number(ranged[1]);
    if (!whole) {
      // CORS often hides Content-Range, but never Content-Length.
      const { signal, headers } = this.#options;
      const head = await fetch(this.#url, { method: "HEAD", headers, signal, cache: "no-store" }).catch(() => null);
      const length = head?.ok ? head.headers.get("content-length") : null;
      if (length) return Number(length);
      throw new FirelightError("cors", `${new URL(this.#url).host} does not send the length of ${this.name}.`);
    }
    // A compressed response has another length.
    const length = response.headers.has("content-encoding") ? null : response.headers.get("content-length");
    return length ? Number(length) : null;
  }

  /** Caches a body sent in one response, in the background if its length is known. */
  async #takeWhole(response) {
    if (!this.#entry) {
      await response.body?.cancel();
      throw new FirelightError("no-range", `The server of ${this.name} has no range requests, and the cache is off.`);
    }
    let done = 0;
    let wake = [];
    let failure = null;
    const move = (chunks, error = null) => {
      done = chunks;
      failure = error;
      for (const resolve of wake.splice(0)) resolve();
    };
    const taken = this.#takeBody(response, (count) => move(count)).then(
      () => move(Infinity),
      (error) => move(done, error),
    );
    this.#stream = {
      async upTo(index) {
        while (done <= index) {
          if (failure) throw failure;
          await new Promise((resolve) => wake.push(resolve));
        }
      },
    };
    if (this.#length === null) {
      await taken;
      if (failure) throw failure;
    }
  }

  async #takeBody(response, arrived) {
    const reader = new Reader(response.body, STALL);
    const unknown = this.#length === null;
    if (unknown) await this.#entry.begin(this.#url, { length: null, mark: this.#mark });
    let total = 0;
    for (let index = 0; ; index += 1) {
      const bytes = await this.#next(reader, CHUNK);
      total += bytes.length;
      const last = bytes.length < CHUNK;
      if (last && !unknown && total !== this.#length) {
        throw new FirelightError("network", `${this.name} ended after ${total} of ${this.#length} bytes.`);
      }
      if (bytes.length > 0) await this.#store(index, bytes);
      give(bytes);
      if (last) break;
      arrived(index + 1);
    }
    if (unknown) {
      this.#length = total;
      await this.#entry.finish(total);
    }
  }

  /** Caches a part of a body sent in one response; it cannot be requested again. */
  async #store(index, bytes) {
    try {
      await this.#entry.write(index, bytes);
    } catch (error) {
      throw new FirelightError("quota", `${this.name} cannot be kept: ${error.message}.`, undefined, { cause: error });
    }
  }

  /** The next bytes of a body. */
  async #next(reader, size) {
    try {
      return await reader.fill(size, (count) => this.#tell.bytes("download", count));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new FirelightError("network", `${this.#url} broke off: ${error.message}.`, undefined, { cause: error });
    }
  }

  #size(index) {
    return Math.min(CHUNK, this.#length - index * CHUNK);
  }

  async read(start, end) {
    const first = Math.floor(start / CHUNK);
    const last = Math.floor(Math.max(start, end - 1) / CHUNK);
    if (first === last) {
      return (await this.#chunk(first)).subarray(start - first * CHUNK, end - first * CHUNK);
    }
    const size = end - start;
    const bytes = size <= CHUNK ? new Uint8Array(take(), 0, size) : new Uint8Array(size);
    for (let index = first; index <= last; index += 1) {
      const from = index * CHUNK;
      const piece = (await this.#chunk(index)).subarray(Math.max(start - from, 0), Math.min(end - from, CHUNK));
      bytes.set(piece, Math.max(from - start, 0));
    }
    return giveSoon(bytes);
  }

  /** A chunk. Also requests the next one, and drops those before. */
  async #chunk(index) {
    const chunk = this.#sendFor(index);
    for (const file of this.#all) if (file instanceof Remote) file.#forgetBut(file === this ? index : -1);
    const bytes = await chunk;
    if ((index + 1) * CHUNK < this.#length) this.#sendFor(index + 1).catch(() => {});
    return bytes;
  }

  #forgetBut(index) {
    for (const other of this.#chunks.keys()) {
      if (index < 0 || (other !== index && other !== index + 1)) this.#forget(other);
    }
  }

  /** Drops a chunk once its readers have it and it is cached. */
  #forget(index) {
    const chunk = this.#chunks.get(index);
    this.#chunks.delete(index);
    chunk.then(async (bytes) => {
      await this.#storing;
      giveSoon(bytes);
    }, () => {});
  }

  #sendFor(index) {
    let chunk = this.#chunks.get(index);
    if (!chunk) {
      chunk = this.#get(index);
      this.#chunks.set(index, chunk);
      chunk.catch(() => this.#chunks.delete(index));
    }
    return chunk;
  }

  async #get(index) {
    if (this.#stream) await this.#stream.upTo(index);
    if (this.#entry?.has(index)) {
      const bytes = await this.#entry.read(index);
      if (bytes) {
        if (!this.#stream) this.#tell.bytes("cache", bytes.length);
        return bytes;
      }
      this.#tell.notice(`Part ${index + 1} of ${this.name} was damaged in the cache: it is downloaded again.`);
    }
    return this.#keep(index, this.#fetch(index));
  }

  /** Downloads a chunk by one or more requests. */
  async #fetch(index) {
    const [start, size] = [index * CHUNK, this.#size(index)];
    let buffer = take();
    let filled = 0;
    for (let attempt = 1; filled < size; ) {
      const piece = Math.min(this.#piece, size - filled);
      const from = start + filled;
      const begun = performance.now();
      const { response, whole } = await this.#request([from, from + piece], false, STALL);
      if (whole) {
        await response.body?.cancel();
        throw new FirelightError("no-range", `The server of ${this.name} stopped answering byte ranges.`);
      }
      try {
        const blob = await this.#blob(response, piece);
        this.#setPiece(piece, performance.now() - begun);
        const bytes = await new Reader(blob.stream()).fill(piece, undefined, buffer, filled);
        [buffer, filled, attempt] = [bytes.buffer, bytes.length, 1];
      } catch (error) {
        this.#options.signal.throwIfAborted();
        if (attempt === TRIES || error.code !== "network") throw error;
        await sleep(PAUSE * 2 ** (attempt - 1));
        attempt += 1;
        this.#piece = LEAST;
      }
    }
    return new Uint8Array(buffer, 0, size);
  }

  /** A response of exactly `size` bytes. */
  async #blob(response, size) {
    const blob = await response.blob().catch((error) => {
      throw new FirelightError("network", `${this.#url} broke off: ${error.message}.`, undefined, { cause: error });
    });
    if (blob.size !== size) throw this.#wrongSize(blob.size, size);
    this.#tell.bytes("download", size);
    return blob;
  }

  #setPiece(bytes, milliseconds) {
    const rate = bytes / Math.max(milliseconds, 1);
    this.#piece = Math.min(Math.max(2 ** Math.round(Math.log2(rate * STEP)), LEAST), CHUNK);
  }

  #wrongSize(sent, asked) {
    const what =
      sent > asked
        ? `The server of ${this.name} sent more bytes than requested.`
        : `${this.name} ended within a part: ${sent} of ${asked} bytes.`;
    return new FirelightError("network", what);
  }

  /** The bytes of the first response, exactly `size` of them. */
  async #body(response, size) {
    const begun = performance.now();
    const reader = new Reader(response.body, STALL);
    const bytes = await this.#next(reader, size);
    const filled = bytes.length;
    const more = filled === size && !(await reader.ended());
    reader.cancel();
    if (more || filled < size) throw this.#wrongSize(more ? size + 1 : filled, size);
    this.#setPiece(size, performance.now() - begun);
    return bytes;
  }

  /** Caches chunks in order; goes on without the cache if the browser refuses. */
  async #keep(index, coming) {
    const bytes = await coming;
    const entry = this.#entry;
    if (!entry) return bytes;
    const before = this.#storing;
    this.#storing = before.then(() => entry.write(index, bytes)).catch((error) => {
      if (!this.#entry) return;
      this.#entry = null;
      this.#tell.notice(`${this.name} will not be cached (${error.message}). Loading continues.`);
    });
    await before;
    return bytes;
  }
}

/** The identifier of a file's version. */
const mark = (response) => response.headers.get("etag") ?? response.headers.get("last-modified");
