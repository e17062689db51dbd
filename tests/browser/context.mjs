// A test's environment: pages of one browser, sites of one server, and the models. Uncaught errors fail the test.

import { join } from "node:path";

export class Context {
  log = [];
  #pages = [];
  #uncaught = [];

  /** `pool` has the page that tests of the same browser share. */
  constructor({ name, browser, server, paths, pool }) {
    Object.assign(this, { name, browser, server, paths, pool });
    this.storiesFile = join(paths.models, "stories260K.gguf");
  }

  /** A new page with the package as `t`. */
  async page({ path = "/tests/page.html", before, origin = this.server.origin } = {}) {
    const page = await this.browser.newPage();
    this.#pages.push(page);
    this.#watch(page);
    if (before) await page.evaluateOnNewDocument(before);
    await this.open(page, path, origin);
    return page;
  }

  /** A page with the stories model loaded, shared by tests because loading takes seconds. They must not change it. */
  async stories() {
    if (!this.pool.page || this.pool.page.isClosed()) {
      const page = await this.page();
      this.#pages.pop();
      const site = this.site();
      Object.assign(this.pool, {
        page,
        site,
        loaded: await page.evaluate((url) => t.load(url), site.url("model.gguf")),
      });
    } else {
      this.#watch(this.pool.page);
    }
    const { page, site, loaded } = this.pool;
    return { page, site, ...loaded };
  }

  /** Watches a page of another browser: its errors fail the test, too. */
  watched(page) {
    this.#watch(page);
    return page;
  }

  #watch(page) {
    page.removeAllListeners("console").removeAllListeners("pageerror");
    page.on("console", (message) => this.log.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => this.#uncaught.push(error));
  }

  /** Navigates `page` to a path of the server. */
  async open(page, path = "/tests/page.html", origin = this.server.origin) {
    await page.goto(origin + path);
    if (path.startsWith("/tests/page.html")) await page.waitForFunction("window.ready");
  }

  /** A site with the stories model as `model.gguf`. */
  site(faults = {}, files = { "model.gguf": this.storiesFile }) {
    return this.server.site(files, faults);
  }

  /** Fails if a page had an uncaught error. */
  check() {
    if (this.#uncaught.length > 0) throw new Error("uncaught error", { cause: this.#uncaught[0] });
  }

  async close() {
    for (const page of this.#pages) {
      if (page.isClosed()) continue;
      await Promise.race([
        page.evaluate(() => window.t?.end()).catch(() => {}),
        new Promise((go) => setTimeout(go, 5000)),
      ]);
      await page.close().catch(() => {});
    }
  }
}
