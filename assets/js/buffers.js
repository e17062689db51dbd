// Streams are read into a few buffers that are used again and again. What streams make themselves is left to the
// collector, and it lets hundreds of MB come together before it looks.

/** Bytes of a buffer: those of the cache's chunks. */
export const CHUNK = 8 << 20;

/** More buffers than this are not kept for later. */
const SPARE = 3;
const spare = [];

/** Gives back the buffer of bytes that nobody looks at any more. */
export function give(bytes) {
  if (bytes.buffer.byteLength === CHUNK && spare.length < SPARE) spare.push(bytes.buffer);
}

/** The same, once whoever gets the bytes now has copied them, which the engine does at once. */
export function giveSoon(bytes) {
  setTimeout(give, 0, bytes);
  return bytes;
}

/** Reads a stream. If it sends nothing for `patience` milliseconds, that is an error. */
export class Reader {
  #reader;
  #own;
  #patience;
  /** Where a stream hands out pieces of its own: what is left of the last one. */
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

  /** The next `size` bytes, at most a chunk; fewer at the stream's end. `heard` is told of each piece's length. */
  async fill(size, heard = () => {}) {
    let bytes = new Uint8Array(spare.pop() ?? new ArrayBuffer(CHUNK));
    let filled = 0;
    while (filled < size) {
      const count = this.#own ? null : this.#copy(bytes.subarray(filled, size));
      if (count) {
        filled += count;
        continue;
      }
      const view = this.#own ? [new Uint8Array(bytes.buffer, filled, size - filled)] : [];
      const { done, value } = await this.#timely(this.#reader.read(...view));
      // A buffer that was lent comes back as another object.
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

  /** Whether nothing more comes. */
  async ended() {
    if (this.#rest.length > 0) return false;
    const { done } = await this.#timely(this.#own ? this.#reader.read(new Uint8Array(1)) : this.#reader.read());
    return done;
  }

  cancel() {
    this.#reader.cancel().catch(() => {});
  }

  async #timely(reading) {
    if (this.#patience === Infinity) return reading;
    let timer;
    const late = new Promise((_, reject) => {
      const seconds = this.#patience / 1000;
      timer = setTimeout(() => reject(new Error(`nothing came for ${seconds} s`)), this.#patience);
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
