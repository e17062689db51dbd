// The package: its files, its size, its types, and the example of its README.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { access, copyFile, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";

const run = promisify(execFile);

/** The first JavaScript of the README. */
async function example(context) {
  const readme = await readFile(join(context.paths.dist, "README.md"), "utf8");
  return /```js\n([^]*?)```/.exec(readme)[1];
}

/** Compiles a program of `types`, with the package's types found by its package.json. */
async function compiles(tests, dist, name, options) {
  const folder = await mkdtemp(join(tests, "types-"));
  try {
    await mkdir(join(folder, "node_modules"));
    await symlink(dist, join(folder, "node_modules/firelight"));
    await copyFile(join(tests, "types", name), join(folder, name));
    const config = JSON.parse(await readFile(join(tests, "types/tsconfig.json"), "utf8"));
    const compilerOptions = { ...config.compilerOptions, paths: undefined, ...options };
    await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [name] }));
    await run(join(tests, "node_modules/.bin/tsc"), ["-p", folder]).catch((error) =>
      assert.fail(error.stdout || error.message),
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

export default [
  {
    name: "the package has its files and is small",
    browsers: ["chromium"],
    seconds: 200,
    async run({ paths: { dist, root } }) {
      const { stdout } = await run("npm", ["pack", "--dry-run", "--json"], { cwd: dist });
      const [{ files, name }] = JSON.parse(stdout);
      assert.equal(name, "firelight");
      const names = files.map((file) => file.path);
      // dist/web also has the page, which users of the package do not need.
      const own = await readdir(join(root, "assets/js"));
      const made = ["engine.js", "firelight.wasm", "demo.gguf", "LICENSE-MIT", "LICENSE-APACHE"];
      assert.deepEqual(names.sort(), [...own, ...made].sort());
      // Test builds are not optimized for size.
      if (process.env.FIRELIGHT_WEB_PROFILE === "web-test") return;
      const wasm = gzipSync(await readFile(join(dist, "firelight.wasm"))).length;
      assert.ok(wasm <= 3e6, `the wasm has ${wasm} bytes, gzipped`);
    },
  },
  {
    name: "no file of the package sends requests to other hosts",
    browsers: ["chromium"],
    async run({ paths: { dist } }) {
      for (const name of (await readdir(dist)).filter((name) => /\.(js|html|css)$/.test(name))) {
        const text = await readFile(join(dist, name), "utf8");
        const code = text.replace(/^\s*(\/\/|\*|\/\*).*$/gm, "").replace("http://www.w3.org/2000/svg", "");
        assert.doesNotMatch(code, /(src|href|import|from|fetch|importScripts)\W{0,4}https?:\/\//, name);
      }
    },
  },
  {
    name: "package.json says what is needed to install and to publish",
    browsers: ["chromium"],
    async run({ paths: { dist } }) {
      const package_ = JSON.parse(await readFile(join(dist, "package.json"), "utf8"));
      const fields = ["name", "version", "description", "license", "author", "keywords", "type", "types", "engines"];
      for (const field of fields) assert.ok(Object.keys(package_[field] ?? {}).length > 0, field);
      const pathsOf = (path) => (typeof path === "string" ? path : Object.values(path));
      const paths = Object.values(package_.exports).flatMap(pathsOf);
      for (const path of [...paths, package_.main, package_.types]) await access(join(dist, path));
    },
  },
  {
    name: "tsc --strict accepts a program that uses every public type, with old and new libraries",
    browsers: ["chromium"],
    seconds: 300,
    async run({ paths: { root, dist } }) {
      const tests = join(root, "tests/browser");
      const types = await readFile(join(dist, "firelight.d.ts"), "utf8");
      const program = await readFile(join(tests, "types/example.ts"), "utf8");
      const names = [...types.matchAll(/^export (?:interface|type|class|const) (\w+)/gm)].map((match) => match[1]);
      assert.ok(names.length > 40);
      for (const name of names) assert.match(program, new RegExp(`\\b${name}\\b`), `the example does not use ${name}`);
      for (const lib of ["ES2020", "ES2022", "ESNext"]) {
        await compiles(tests, dist, "example.ts", { lib: [lib, "DOM"] });
      }
    },
  },
  {
    name: "tsc --strict: the types fit those of the openai package",
    browsers: ["chromium"],
    seconds: 200,
    run: ({ paths: { root, dist } }) => compiles(join(root, "tests/browser"), dist, "openai.ts", {}),
  },
  {
    name: "the package exports every name of its types",
    async run(context) {
      const types = await readFile(join(context.paths.dist, "firelight.d.ts"), "utf8");
      const names = [...types.matchAll(/^export (?:class|const) (\w+)/gm)].map((match) => match[1]);
      const page = await context.page();
      const missing = await page.evaluate((names) => names.filter((name) => t[name] === undefined), names);
      assert.deepEqual(missing, []);
    },
  },
  {
    name: "the README's example, as written",
    async run(context) {
      const code = await example(context);
      assert.equal(code.trim().split("\n").length, 5);
      const html = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>
        <script type="importmap">{ "imports": { "firelight": "/dist/index.js" } }</script>
        <script type="module">${code}; window.done = true</script>`;
      const site = context.site({}, { "model.gguf": context.storiesFile, "example.html": Buffer.from(html) });
      const page = await context.page({ path: `${site.path}example.html` });
      await page.waitForFunction("window.done", { timeout: 60_000 });
      const text = await page.evaluate(() => document.body.innerText.trim());
      assert.ok(text.length > 20, `it says: ${text}`);
      assert.ok(
        / ready 1$/.test(context.log.at(-1)),
        `it reported the progress: ${context.log}`,
      );
    },
  },
];
