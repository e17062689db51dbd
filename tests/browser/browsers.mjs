// Browsers that run WebGPU on a machine without a GPU: Debian's chromium on SwiftShader, Debian's firefox-esr on
// lavapipe.

import { existsSync } from "node:fs";
import puppeteer from "puppeteer-core";

const CHROMIUM_FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  // SwiftShader compiles a store for each word that this extension zeroes: a third of the time to load a model. Without
  // it, a loop in the shader zeroes them.
  "--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
];

const FIREFOX_PREFS = {
  "dom.webgpu.enabled": true,
  "dom.webgpu.workers.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
};

const BROWSERS = {
  chromium: {
    paths: [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
    options: { browser: "chrome", args: CHROMIUM_FLAGS },
  },
  firefox: {
    paths: [process.env.FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"],
    options: { browser: "firefox", extraPrefsFirefox: FIREFOX_PREFS },
  },
};

export const NAMES = Object.keys(BROWSERS);

/** Starts a browser with a fresh profile. A missing browser is an error: tests are never skipped silently. */
export async function launch(name, { args = [], prefs = {}, options: more = {} } = {}) {
  const { paths, options } = BROWSERS[name];
  const executablePath = paths.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error(`${name} is not installed (looked for ${paths.filter(Boolean).join(", ")})`);
  return puppeteer.launch({
    headless: true,
    executablePath,
    protocolTimeout: 300_000,
    env: { ...process.env, NODEVICE_SELECT: "1" },
    ...options,
    ...more,
    args: [...(options.args ?? []), ...args],
    ...(name === "firefox" ? { extraPrefsFirefox: { ...FIREFOX_PREFS, ...prefs } } : {}),
  });
}
