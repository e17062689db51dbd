// Runs the table of tests in each browser and exits with 1 if any fails, or if a browser is missing.
//
//   node run.mjs [--browser chromium|firefox] [--only REGEX] [--jobs N] [--dist FOLDER] [--chat FOLDER]
//
// `jobs` browsers run at a time, each with its own tests: one browser keeps one core busy.

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { availableParallelism, homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { NAMES, launch } from "./browsers.mjs";
import { Context } from "./context.mjs";
import { startServer } from "./server.mjs";
import { TESTS } from "./suite/index.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../..");
const { values } = parseArgs({
  options: {
    browser: { type: "string", multiple: true, default: NAMES },
    only: { type: "string", default: "" },
    jobs: { type: "string", default: String(Math.min(4, availableParallelism())) },
    dist: { type: "string", default: join(root, "dist/web") },
    chat: { type: "string", default: join(root, "dist/chat") },
  },
});
const shared = resolve(root, process.env.FIRELIGHT_SHARED ?? "../shared");
const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
const paths = {
  root,
  dist: resolve(values.dist),
  chat: resolve(values.chat),
  models: join(shared, "data/models"),
  checkpoints: process.env.FIRELIGHT_CHECKPOINTS ?? join(cache, "firelight/checkpoints"),
  shots: join(root, "target/browser"),
};

for (const [file, command] of [
  [join(paths.dist, "index.js"), "./x web"],
  [join(paths.chat, "chat.js"), "./x chat-web"],
]) {
  if (existsSync(file)) continue;
  console.error(`there is no ${file}: run ${command}`);
  process.exit(1);
}
if (!existsSync(join(paths.models, "stories260K.gguf"))) {
  console.error(`skipped: the test data is not in ${shared} (set FIRELIGHT_SHARED to its folder)`);
  process.exit(process.env.CI ? 1 : 0);
}
// puppeteer closes its browsers on SIGTERM.
process.on("SIGTERM", () => process.exit(143));
await mkdir(paths.shots, { recursive: true });

const server = await startServer({ dist: paths.dist, chat: paths.chat, tests: here });
const only = new RegExp(values.only);
const failures = [];
let count = 0;

const queue = values.browser.flatMap((name) =>
  TESTS.filter((test) => only.test(test.name) && (test.browsers ?? NAMES).includes(name)).map((test) => ({ name, test })),
);
await Promise.all(Array.from({ length: Number(values.jobs) }, job));
server.close();

console.log(`\n${count - failures.length} of ${count} passed`);
for (const failure of failures) console.log(`FAILED ${failure}`);
process.exit(failures.length > 0 || count === 0 ? 1 : 0);

/** Runs the next test of the queue until none is left, in one browser at a time. */
async function job() {
  let [browser, name, pool] = [null, null, {}];
  for (let next; (next = queue.shift()); ) {
    // After a failure, later tests get a new browser or a new shared page.
    if (name !== next.name || !browser?.connected) {
      await browser?.close().catch(() => {});
      ({ name } = next);
      browser = await launch(name).catch((error) => fail(name, "starts", error));
      pool = {};
      if (!browser) continue;
    }
    if (!(await run(name, browser, next.test, pool))) pool = await drain(pool);
  }
  await browser?.close();
}

async function drain({ page }) {
  await page?.close().catch(() => {});
  return {};
}

async function run(name, browser, test, pool) {
  count += 1;
  const context = new Context({ name, browser, server, paths, pool });
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  try {
    const result = await within(test.seconds ?? 120, test.run(context));
    context.check();
    if (result?.skipped) {
      count -= 1;
      console.log(`  skipped ${name}: ${test.name}: ${result.skipped}`);
      return true;
    }
    console.log(`  ok      ${name}: ${test.name} (${seconds()})`);
    return true;
  } catch (error) {
    count -= 1;
    fail(name, test.name, error, seconds());
    for (const line of context.log.slice(-8)) console.log(`          | ${line}`);
    return false;
  } finally {
    await context.close();
  }
}

function fail(browser, test, error, after = "") {
  count += 1;
  failures.push(`${browser}: ${test}`);
  console.log(`  FAILED  ${browser}: ${test} ${after}`);
  for (let each = error; each; each = each.cause) console.log(String(each.stack ?? each).replace(/^/gm, "          "));
}

function within(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
