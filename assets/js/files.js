// What a model's source stands for.

import { base, demo } from "./address.js";
import { onHub } from "./hub.js";
import { refuse } from "./options.js";

/** Whether a source means the demo model. */
export const isDemo = (source) => source == null || source === "demo";

/** A source without names: absolute URLs, Blobs, names on the hub; the demo model for none. */
export function absolute(source) {
  if (isDemo(source)) return demo();
  if (source instanceof Blob) return source;
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return new Blob([source]);
  const isAddress = (typeof source === "string" && source !== "") || source instanceof URL;
  if (isAddress && URL.canParse(source, base())) return new URL(source, base()).href;
  return refuse(`A source must be a URL, a name on the hub, a File, a Blob or an ArrayBuffer, not ${String(source)}.`);
}

/** The host's form of a source: absolute URLs and Blobs, in order. */
export async function filesOf(source, { hub, headers, signal }) {
  const parts = Array.isArray(source) ? source : [source];
  if (parts.length === 0) refuse("The source is an empty list.");
  const resolved = async (part) => (typeof part === "string" && (await onHub(part, { hub, headers, signal }))) || part;
  return Promise.all(parts.map((part) => resolved(absolute(part))));
}
