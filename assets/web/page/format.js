// Numbers and errors as texts for people.

import { FirelightError } from "../index.js";

export function bytes(n) {
  if (n < 1e6) return `${(n / 1e3).toFixed(0)} kB`;
  return n < 1e9 ? `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB` : `${(n / 1e9).toFixed(n < 1e10 ? 2 : 1)} GB`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** A number with thousands separators. */
export const count = (n) => n.toLocaleString("en");

export function parameters(n) {
  return n >= 1e9 ? `${(n / 1e9).toFixed(1)} B` : `${(n / 1e6).toPrecision(3)} M`;
}

/** Hints for users of this page, where they differ from the package's hints for programmers. */
const HINTS = {
  http: "Check the address. A file that needs a login can be downloaded and opened here.",
  cors: "Download the file and open it here, or use a host that allows other pages to read it.",
  "no-range": "Download the file and open it here.",
  quota: "Delete a model from this browser, or download the file and open it here.",
  "context-full": "Start a new chat, or load the model again with a larger context (see Settings).",
};

export function words(error) {
  if (!(error instanceof FirelightError)) return String(error?.message ?? error);
  return `${error.message}\n${HINTS[error.code] ?? error.hint}`.trim();
}

/** The name of the file of an address. */
export function fileName(url) {
  try {
    return decodeURIComponent(new URL(url).pathname.split("/").at(-1)) || url;
  } catch {
    return url;
  }
}

/** "Today", "Yesterday", "Last 7 days", or a month. */
export function age(time, now = Date.now()) {
  const day = (t) => new Date(t).setHours(0, 0, 0, 0);
  const days = Math.round((day(now) - day(time)) / 864e5);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return "Last 7 days";
  return new Date(time).toLocaleDateString("en", { month: "long", year: "numeric" });
}
