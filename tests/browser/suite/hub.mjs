// Models by their names on the Hugging Face hub, whose API and files a site of the test server stands in for.

import assert from "node:assert/strict";
import { tellsStories } from "./stories.mjs";

const REPO = [
  ["README.md", 1],
  ["mmproj-tiny-f16.gguf", 900],
  ["tiny-Q4_0.gguf", 500],
  ["tiny-Q8_0.gguf", 800],
  ["deep/tiny-UD-Q2_K_XL.gguf", 300],
  ["BF16/tiny-BF16-00001-of-00002.gguf", 1000],
  ["BF16/tiny-BF16-00002-of-00002.gguf", 900],
];
const OTHER = [
  ["a-Q3_K_M.gguf", 30],
  ["b-Q3_K_M.gguf", 20],
];

/** A site with the hub's API for some repositories, of this origin or the other. */
function hub(context, origin, files = {}) {
  const listing = (files) => {
    const siblings = files.map(([rfilename, size]) => ({ rfilename, size }));
    return Buffer.from(JSON.stringify({ sha: "0", siblings }));
  };
  const site = context.site({ cors: true }, {
    "api/models/org/tiny/revision/main": listing(REPO),
    "api/models/org/other/revision/main": listing(OTHER),
    "api/models/org/other/revision/v2": listing([["c.gguf", 1]]),
    "api/models/org/none/revision/main": listing([["model.safetensors", 1]]),
    ...files,
  });
  return { site, origin: site.url("", origin).replace(/\/$/, "") };
}

export default [
  {
    name: "hub: names and addresses of pages stand for files",
    async run(context) {
      const page = await context.page();
      const { origin } = hub(context, "other");
      const cases = [
        ["hf:org/tiny", "org/tiny/resolve/main/tiny-Q4_0.gguf"],
        ["hf:org/tiny:latest", "org/tiny/resolve/main/tiny-Q4_0.gguf"],
        ["hf:org/tiny:q8_0", "org/tiny/resolve/main/tiny-Q8_0.gguf"],
        ["HF://org/tiny/tiny-Q8_0.gguf", "org/tiny/resolve/main/tiny-Q8_0.gguf"],
        ["huggingface:org/tiny:tiny-ud-q2_k_xl.gguf", "org/tiny/resolve/main/deep/tiny-UD-Q2_K_XL.gguf"],
        ["hf:org/tiny:UD-Q2_K_XL", "org/tiny/resolve/main/deep/tiny-UD-Q2_K_XL.gguf"],
        ["hf:org/tiny:BF16", "org/tiny/resolve/main/BF16/tiny-BF16-00001-of-00002.gguf"],
        ["hf:org/tiny:BF16/tiny-BF16-00002-of-00002.gguf", "org/tiny/resolve/main/BF16/tiny-BF16-00001-of-00002.gguf"],
        ["hf:org/other", "org/other/resolve/main/b-Q3_K_M.gguf"],
        ["hf:org/other@v2", "org/other/resolve/v2/c.gguf"],
        [`${origin}/org/tiny`, "org/tiny/resolve/main/tiny-Q4_0.gguf"],
        [`${origin}/org/tiny?library=gguf#use`, "org/tiny/resolve/main/tiny-Q4_0.gguf"],
        [`${origin}/org/tiny:Q8_0`, "org/tiny/resolve/main/tiny-Q8_0.gguf"],
        [`${origin}/org/tiny/tree/main/deep`, "org/tiny/resolve/main/deep/tiny-UD-Q2_K_XL.gguf"],
        [`${origin}/org/tiny?show_file_info=tiny-Q8_0.gguf`, "org/tiny/resolve/main/tiny-Q8_0.gguf"],
        [`${origin}/org/any/blob/v1/sub/a%20b.gguf`, "org/any/resolve/v1/sub/a%20b.gguf"],
        ["https://huggingface.co/org/tiny/blob/main/x.gguf", "org/tiny/resolve/main/x.gguf"],
        ["https://hf.co/org/tiny:Q8_0", "org/tiny/resolve/main/tiny-Q8_0.gguf"],
        [`${origin}/org/tiny/resolve/main/x.gguf`, null],
        [`${origin}/datasets/org/tiny/blob/main/x.gguf`, null],
        ["https://host.example/org/tiny", null],
      ];
      const found = await page.evaluate(
        async (texts, hub) => {
          const { onHub } = await import("/dist/hub.js");
          return Promise.all(texts.map((text) => onHub(text, { hub }).catch((error) => error.message)));
        },
        cases.map(([text]) => text),
        origin,
      );
      cases.forEach(([text, file], i) => assert.equal(found[i], file && `${origin}/${file}`, text));
      const refused = [
        ["hf:tiny", "bad-argument", /hf:tiny names no model/],
        ["hf:org/tiny:Q5_K_M", "bad-argument", /no model Q5_K_M; there are tiny-Q4_0\.gguf, tiny-Q8_0\.gguf/],
        ["hf:org/other:Q3_K_M", "bad-argument", /several models Q3_K_M: a-Q3_K_M\.gguf, b-Q3_K_M\.gguf/],
        ["hf:org/none", "bad-argument", /org\/none has no GGUF file/],
        ["hf:org/unknown", "http", /no public model org\/unknown@main: 404/],
      ];
      for (const [name, code, words] of refused) {
        const error = await page.evaluate((name, hub) => t.error(() => t.load(name, { hub })), name, origin);
        assert.equal(error.code, code, JSON.stringify(error));
        assert.match(error.message, words);
      }
    },
  },
  {
    name: "hub: a model by its name; once it is cached, without the hub",
    async run(context) {
      const page = await context.page();
      const { site, origin } = hub(context, "origin", { "org/tiny/resolve/main/tiny-Q8_0.gguf": context.storiesFile });
      const options = { hub: origin, headers: { authorization: "Bearer secret" } };
      const load = (options) => t.load("hf:org/tiny:Q8_0", options);
      const available = (hub) => t.LanguageModel.availability({ model: "hf:org/tiny:Q8_0", load: { hub } });
      assert.equal(await page.evaluate(available, origin), "downloadable");
      await page.evaluate(load, options);
      await tellsStories(context, page);
      const asked = site.requests.filter(({ method }) => method === "GET");
      assert.ok(asked.some(({ name }) => name === "api/models/org/tiny/revision/main"));
      assert.ok(
        asked.every(({ headers }) => headers.authorization === "Bearer secret"),
        "the hub gets the headers",
      );
      site.off = true;
      assert.equal(await page.evaluate(available, origin), "available");
      await page.evaluate(load, options);
      await tellsStories(context, page);
      const error = await page.evaluate((hub) => t.error(() => t.load("hf:org/other", { hub })), origin);
      assert.equal(error.code, "network", JSON.stringify(error));
    },
  },
];
