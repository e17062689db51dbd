// Runs in the page: the package, and helpers whose results can be serialized out of the page.

import { loseDevices } from "/tests/lose.js";
import * as package_ from "/dist/index.js";

const { Firelight } = package_;
const models = [];

/** An error as plain data. */
const plain = (error) => ({
  name: error?.name,
  code: error?.code,
  message: String(error?.message ?? error),
  hint: error?.hint,
});

window.t = {
  ...package_,

  /** Loads a model and makes it the last one. Returns its info, its notices, and the stages of progress. */
  async load(source, options = {}) {
    const progress = [];
    const notices = [];
    const started = performance.now();
    const model = await Firelight.load(source, {
      ...options,
      onProgress: (p) => progress.push(p),
      onNotice: (n) => notices.push(n),
    });
    models.push(model);
    return { info: model.info, notices, progress, seconds: (performance.now() - started) / 1000 };
  },

  get model() {
    return models.at(-1);
  },

  /** The greedy continuation of a text: tokens, text, the streamed pieces, stats. */
  async greedy(prompt, maxTokens, options = {}) {
    const tokens = [];
    const pieces = [];
    const answer = models
      .at(-1)
      .complete(prompt, {
        temperature: 0,
        maxTokens,
        ignoreEnd: true,
        ...options,
        onToken: (token) => tokens.push(token.id),
      });
    for await (const piece of answer) pieces.push(piece);
    return { tokens, pieces, text: pieces.join(""), stats: await answer.stats };
  },

  loseDevices,

  /** The error that `work` throws, as plain data; "nothing" if it throws none. */
  async error(work) {
    try {
      await work();
    } catch (error) {
      return plain(error);
    }
    return "nothing";
  },

  /** Destroys every model of this page. */
  async end() {
    await Promise.all(models.splice(0).map((model) => model.destroy()));
  },
};
window.ready = true;
