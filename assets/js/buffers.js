// Reads streams into a few reused buffers. Buffers that streams allocate are left to the garbage collector, which may
// run only after hundreds of MB. A Blob's stream allocates none in any browser; a response's does in Chromium, even
// when it is read into given buffers.

/** Bytes of a buffer: the size of the cache's chunks. */
export const CHUNK = 8 << 20;

/** The maximum number of buffers kept for reuse. */
const SPARE = 3;
const spare = [];

/** Readers with a pending read. Chromium 156 collects the stream of a Blob during a read unless a global refers to it. */
const busy = new Set();

/** A buffer for a chunk. */
export const take = () => spare.pop() ?? new ArrayBuffer(CHUNK);

/** Returns the buffer of bytes that are not used any more. */
export function give(bytes) {
  if (bytes.buffer.byteLength === CHUNK && spare.length < SPARE) spare.push(bytes.buffer);
}

/** The same, after the caller has copied the bytes, which the engine does at once. */
export function giveSoon(bytes) {
  setTimeout(give, 0, bytes);
  return bytes;
}

/** Reads a stream. No data for `patience` milliseconds is an error. */
export class Reader {
  #reader;
  #own;
  #patience;
  /** The rest of the last piece, if the stream allocates its own. */
  #rest = new Uint8Array(0);

  constructor(stream, patience = Infinity) {
    this.#patience = patience;
    try {
      this.#reader = stream.getReader({ mode: "byob" });
      this.#own = true;
    } catch {
      this.#reader = stream.getReader();
      this.#own = false;
    }
  }

  /**
   * The next `size` bytes, at most a chunk; fewer at the stream's end. Calls `heard` with each piece's length. If a
   * buffer is passed, it is filled from `at` on; it is transferred, and comes back as another object.
   */
  async fill(size, heard = () => {}, buffer = take(), at = 0) {
    let bytes = new Uint8Array(buffer);
    let filled = at;
    size += at;
    while (filled < size) {
      const count = this.#own ? null : this.#copy(bytes.subarray(filled, size));
      if (count) {
        filled += count;
        continue;
      }
      const view = this.#own ? [new Uint8Array(bytes.buffer, filled, size - filled)] : [];
      const { done, value } = await this.#timely(this.#reader.read(...view));
      // A transferred buffer comes back as another object.
      if (this.#own && value) bytes = new Uint8Array(value.buffer);
      if (done) break;
      heard(value.length);
      if (this.#own) filled += value.length;
      else this.#rest = value;
    }
    return bytes.subarray(0, filled);
  }

  #copy(to) {
    const piece = this.#rest.subarray(0, to.length);
    to.set(piece);
    this.#rest = this.#rest.subarray(piece.length);
    return piece.length;
  }

  /** Whether the stream has ended. */
  async ended() {
    if (this.#rest.length > 0) return false;
    const { done } = await this.#timely(this.#own ? this.#reader.read(new Uint8Array(1)) : this.#reader.read());
    return done;
  }

  cancel() {
    this.#reader.cancel().catch(() => {});
  }

  async #timely(reading) {
    busy.add(this);
    try {
      return await (this.#patience === Infinity ? reading : this.#withTimeout(reading));
    } finally {
      busy.delete(this);
    }
  }

  async #withTimeout(reading) {
    let timer;
    const late = new Promise((_, reject) => {
      const seconds = this.#patience / 1000;
      timer = setTimeout(() => reject(new Error(`no data for ${seconds} s`)), this.#patience);
    });
    try {
      return await Promise.race([reading, late]);
    } catch (error) {
      this.cancel();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}
