// Runs the table of tests in each browser and exits with 1 if any fails, or if a browser is missing.
//
//   node run.mjs [--browser chromium|firefox] [--only REGEX] [--dist FOLDER] [--chat FOLDER]

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { homedir } from "node:os";
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

for (const name of values.browser) {
  const tests = TESTS.filter((test) => only.test(test.name) && (test.browsers ?? NAMES).includes(name));
  if (tests.length === 0) continue;
  let browser = await launch(name).catch((error) => fail(name, "starts", error));
  if (!browser) continue;
  console.log(`\n${name}: ${await browser.version()}`);
  let pool = {};
  for (const test of tests) {
    // After a failure, later tests get a new browser or a new shared page.
    if (!browser.connected) browser = await launch(name);
    if (!(await run(name, browser, test, pool))) pool = await drain(pool);
  }
  await browser.close();
}
server.close();

console.log(`\n${count - failures.length} of ${count} passed`);
for (const failure of failures) console.log(`FAILED ${failure}`);
process.exit(failures.length > 0 || count === 0 ? 1 : 0);

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
      console.log(`  skipped: ${test.name}: ${result.skipped}`);
      return true;
    }
    console.log(`  ok      ${test.name} (${seconds()})`);
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
  console.log(`  FAILED  ${test} ${after}`);
  for (let each = error; each; each = each.cause) console.log(String(each.stack ?? each).replace(/^/gm, "          "));
}

function within(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
