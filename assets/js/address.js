// Where the package's files are. Bundlers move modules, so only this one uses its own address. The others write
// `new URL("./FILE", import.meta.url)`, which bundlers recognize: they copy the file and insert its new address.

/** This module's address. In a bundle, Vite makes it the bundle's, webpack that of a file where it was built. */
const here = import.meta.url;

/** Whether this module comes from another origin than the page. Browsers start no worker from there. */
export const isForeign = /^https?:/.test(here) && new URL(here).origin !== globalThis.location?.origin;

/** The worker's script of a package from another origin. */
export const foreignWorker = () => new URL("./worker.js", here).href;

/** The address that relative ones are relative to. */
export const base = () => globalThis.document?.baseURI ?? globalThis.location?.href;

/** Whether files can be beside this module. webpack's `file:` addresses say nothing about the page. */
const hasNeighbours = () => !/^(blob|data|file):/.test(here) || (here.startsWith("file:") && base()?.startsWith("file:"));

/** The demo model: beside this module, or else beside the page. Bundlers do not recognize this form, so they copy the
 *  model only for programs that import demo.js. */
export const demo = () => new URL("demo.gguf", hasNeighbours() ? here : base()).href;
