// Copies of projects in which the packed package is installed. They are below this folder, where bundlers find the
// packages of its package.json.

import { execFile } from "node:child_process";
import { cp, mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const built = join(here, "built");
export const run = promisify(execFile);

/** The folders of this run's projects, by their sources: all browsers use one build. */
const projects = new Map();
let packed;

/** A copy of a project with the package, after `build` was called with it. */
export function project({ paths: { dist } }, source, build = () => {}) {
  if (!projects.has(source)) projects.set(source, copy(dist, source, build));
  return projects.get(source);
}

async function copy(dist, source, build) {
  const folder = join(built, relative(join(here, "../.."), source).replaceAll("/", "-"));
  await rm(folder, { recursive: true, force: true });
  await cp(source, folder, { recursive: true });
  const package_ = join(folder, "node_modules/firelight");
  await mkdir(package_, { recursive: true });
  await run("tar", ["-xf", await (packed ??= pack(dist)), "-C", package_, "--strip-components=1"]);
  await build(folder);
  return folder;
}

/** The package's tarball. */
async function pack(dist) {
  await mkdir(built, { recursive: true });
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", built], { cwd: dist });
  return join(built, JSON.parse(stdout)[0].filename);
}

/** Runs a program of a package of this folder in a project. */
export const tool = (name, ...args) => (folder) => {
  const running = run(join(here, "node_modules/.bin", name), args, { cwd: folder });
  return running.catch(({ message, stdout }) => Promise.reject(new Error(`${message}\n${stdout}`)));
};

/** The files of a folder, in the form that a site takes. */
export async function files(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(paths.map((path) => [relative(folder, path), path]));
}
