// The memory of the processes that run a browser's pages and workers. GPU buffers of a software adapter are in another
// process.

import { readFileSync, readdirSync, writeFileSync } from "node:fs";

/** Starts watching. Returns a function that gives the peak rise of memory since then, in bytes. */
export function watchMemory(browser) {
  const pids = pagesOf(browser.process().pid);
  if (pids.length === 0) throw new Error("no process of this browser runs pages");
  // 5 resets the peak to the current use.
  for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, "5");
  const before = new Map(pids.map((pid) => [pid, field(pid, "VmRSS")]));
  return () => pids.reduce((sum, pid) => sum + field(pid, "VmHWM") - before.get(pid), 0);
}

function field(pid, name) {
  const line = new RegExp(`${name}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line[1]) * 1024;
}

/** The descendants of `pid` that run pages. */
function pagesOf(pid) {
  const runsPages = ({ command }) => /--type=renderer|-contentproc.*[\0 ]tab\0*$/s.test(command);
  return processesOf(pid)
    .filter(runsPages)
    .map((each) => each.pid);
}

/** `{ pid, command }` of a process and of its descendants. */
export function processesOf(pid) {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap(processOf);
  const below = new Set([pid]);
  for (const { pid, parent } of all.sort((a, b) => a.pid - b.pid)) if (below.has(parent)) below.add(pid);
  return all.filter((each) => below.has(each.pid));
}

function processOf(name) {
  try {
    const parent = Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, "utf8"))[1]);
    return [{ pid: Number(name), parent, command: readFileSync(`/proc/${name}/cmdline`, "utf8") }];
  } catch {
    return []; // It has ended.
  }
}
