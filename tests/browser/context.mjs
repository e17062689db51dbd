// What a test gets: pages of one browser, sites of one server, and the models. Errors that nobody caught fail the test.

import { join } from "node:path";

export class Context {
  log = [];
  #pages = [];
  #uncaught = [];

  /** `pool` holds what later tests of the same browser may use again. */
  constructor({ name, browser, server, paths, pool }) {
    Object.assign(this, { name, browser, server, paths, pool });
    this.storiesFile = join(paths.models, "stories260K.gguf");
  }

  /** A page that has the package as `t`. */
  async page({ path = "/tests/page.html", before, origin = this.server.origin } = {}) {
    const page = await this.browser.newPage();
    this.#pages.push(page);
    this.#watch(page);
    if (before) await page.evaluateOnNewDocument(before);
    await this.open(page, path, origin);
    return page;
  }

  /** A page with the stories loaded, the same for all tests that ask: loading takes seconds. Tests leave it as it was. */
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

  /** A page of another browser, whose errors fail the test too. */
  watched(page) {
    this.#watch(page);
    return page;
  }

  #watch(page) {
    page.removeAllListeners("console").removeAllListeners("pageerror");
    page.on("console", (message) => this.log.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => this.#uncaught.push(error));
  }

  /** Opens a page of the server's in `page`. */
  async open(page, path = "/tests/page.html", origin = this.server.origin) {
    await page.goto(origin + path);
    if (path.startsWith("/tests/page.html")) await page.waitForFunction("window.ready");
  }

  /** A site that has the stories as `model.gguf`. */
  site(faults = {}, files = { "model.gguf": this.storiesFile }) {
    return this.server.site(files, faults);
  }

  /** Fails if a page had an error that nobody caught. */
  check() {
    if (this.#uncaught.length > 0) throw new Error("nobody caught", { cause: this.#uncaught[0] });
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
