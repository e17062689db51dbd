// Errors: a code for programs, a message that says what is wrong, and a hint that says what to do. They are sent between
// workers and pages as plain objects.

/** The hints, by code. */
const HINTS = {
  "no-webgpu": "Use a browser with WebGPU (Chrome or Edge 113, Firefox 141, Safari 26 or newer) on a page served by https or localhost.",
  "no-adapter": "Turn on hardware acceleration in the browser's settings and update the GPU's driver; chrome://gpu or about:support say why there is none.",
  "device-lost": "Load the model again; if it happens again, use a smaller model or a smaller context.",
  "out-of-memory": "Close other tabs and programs that use the GPU, or use a smaller model or a smaller context.",
  "does-not-fit": "Use a smaller model, a smaller quantization, or a smaller context.",
  "context-full": "Shorten the conversation, or load the model with a larger `context`.",
  "network": "Check the connection and load again: the download resumes from the cached part.",
  "cors": "The model's host must send `Access-Control-Allow-Origin` (and expose `Content-Range`, `ETag`); serve the file from your own origin, or from a host that does.",
  "http": "Check the address; if the file needs a login, pass `headers: {Authorization: ...}`.",
  "no-range": "Leave the cache on (it downloads the whole file in one stream), or use a server with range requests.",
  "bad-file": "Use a GGUF file of a supported architecture, and download it again if it may be damaged.",
  "bad-argument": "Correct the option that the message names.",
  "quota": "Free space (`cache.list()`, `cache.delete(url)`), or load with `cache: false`.",
  "destroyed": "Load the model again.",
  "internal": "This is a bug in Firelight: please report it with this message. Loading again may help.",
};

/** Every error of Firelight, except for aborts, which throw the signal's reason. */
export class FirelightError extends Error {
  constructor(code, message, hint = HINTS[code] ?? "", options = undefined) {
    super(message, options);
    this.name = "FirelightError";
    this.code = code;
    this.hint = hint;
  }
}

/** An error as a plain object. */
export function toWire(error) {
  if (error instanceof FirelightError) return { code: error.code, message: error.message, hint: error.hint };
  if (error?.name === "AbortError") return { aborted: true, message: error.message };
  return { code: "internal", message: String(error?.message ?? error) };
}

/** The error that `toWire` converted. */
export function fromWire({ aborted, code, message, hint }) {
  if (aborted) return new DOMException(message, "AbortError");
  return new FirelightError(code, message, hint);
}

/** The error that the engine threw: its own as JSON, or a source's. */
export function fromEngine(thrown) {
  if (typeof thrown === "string") {
    const { code, message } = JSON.parse(thrown);
    return new FirelightError(code, message);
  }
  return thrown;
}
