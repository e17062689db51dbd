// A static file server on the loopback interface with injected faults. Each test makes separate sites: `/site/N/NAME`
// serves that site's files with that site's faults, and the site records its requests.

import { once } from "node:events";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { Readable } from "node:stream";

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".wasm": "application/wasm",
  ".json": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
};
const PIECE = 64 * 1024;

/** Starts the server on two ports, which are two origins. `roots` maps the first part of a path to a folder; its files
 *  are sent with `headers`. */
export async function startServer(roots, headers = {}) {
  const sites = [];
  const answer = (request, response) =>
    respond(request, response, { roots, headers, sites }).catch((error) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(String(error));
    });
  const servers = await Promise.all([listen(answer), listen(answer)]);
  const [origin, other] = servers.map((server) => `http://127.0.0.1:${server.address().port}`);
  return {
    origin,
    /** The same server as another origin. */
    other,
    /** A site with the given files (`{ name: path, Buffer, or { length, read(start, end) } }`) and faults; see Site. */
    site(files, faults = {}) {
      const site = new Site(sites.length, files, faults, { origin, other });
      sites.push(site);
      return site;
    },
    close: () => servers.forEach((server) => server.closeAllConnections() ?? server.close()),
  };
}

/** Files with faults, which may be changed at any time. */
class Site {
  /** Close every connection without a response. */
  off = false;
  /** Answer range requests with 206. */
  ranges = true;
  /** Send Content-Length; without it, the body is chunked. */
  length = true;
  /** Allow pages of other origins (CORS). */
  cors = false;
  /** Answer with this status and no file. */
  status = null;
  /** Send the client to this origin ("origin" or "other") first. */
  redirect = null;
  /** Close the connection after this many bytes of bodies; null: never. */
  dieAfter = null;
  /** Milliseconds before each 64 KiB. */
  pace = 0;
  /** The position of a byte to corrupt. */
  damage = null;
  etag = '"1"';
  requests = [];
  /** Bytes of bodies since `served` was set, only of responses begun since: browsers close old connections late. */
  count = { bytes: 0 };

  constructor(number, files, faults, origins) {
    this.path = `/site/${number}/`;
    this.files = files;
    this.origins = origins;
    Object.assign(this, faults);
  }
  url(name, origin = "origin") {
    return this.origins[origin] + this.path + name;
  }
  get served() {
    return this.count.bytes;
  }
  set served(bytes) {
    this.count = { bytes };
  }
}

function listen(answer) {
  return new Promise((resolve) => {
    const server = createServer({ keepAliveTimeout: 1000 }, answer).listen(0, "127.0.0.1", () => resolve(server));
  });
}

async function respond(request, response, { roots, headers: more, sites }) {
  const url = new URL(request.url, "http://localhost");
  const [, first, ...rest] = decodeURIComponent(url.pathname).split("/");
  if (first === "site") return respondSite(request, response, sites[Number(rest[0])], rest.slice(1).join("/"), url);
  const folder = roots[first];
  const path = folder && join(folder, normalize(rest.join("/") || "index.html"));
  const found = path && path.startsWith(folder) && (await stat(path).catch(() => null));
  if (!found?.isFile()) return void response.writeHead(404).end();
  // No HTTP caching: the tests are about the package's cache. Pages of other origins may import the package.
  const headers = {
    "content-type": TYPES[extname(path)] ?? "application/octet-stream",
    "cache-control": "no-store",
    "access-control-allow-origin": "*",
    "accept-ranges": "bytes",
    ...more,
  };
  // Lets tests lose the device of the package's worker; see lose.js.
  if (first === "dist" && rest.join("/") === "worker.js") {
    const text = Buffer.concat([Buffer.from('import "/tests/lose.js";\n'), await readFile(path)]);
    return void (await send(request, response, headers, await open(text)));
  }
  await send(request, response, headers, {
    length: found.size,
    read: (start, end) => createReadStream(path, { start, end: end - 1 }),
  });
}

async function respondSite(request, response, site, name, url) {
  if (!site || site.off) return void request.socket.destroy();
  site.requests.push({ method: request.method, name, range: request.headers.range ?? null, headers: request.headers });
  const headers = { "cache-control": "no-store" };
  if (site.cors) {
    headers["access-control-allow-origin"] = "*";
    headers["access-control-allow-headers"] = "*";
    headers["access-control-expose-headers"] = "Content-Range, Content-Length, Accept-Ranges, ETag";
  }
  if (request.method === "OPTIONS") return void response.writeHead(site.cors ? 204 : 403, headers).end();
  if (site.status !== null) return void response.writeHead(site.status, headers).end("no");
  if (site.redirect && !url.searchParams.has("redirected")) {
    headers.location = `${site.url(name, site.redirect)}?redirected`;
    return void response.writeHead(302, headers).end();
  }
  const file = await open(site.files[name]);
  if (!file) return void response.writeHead(404, headers).end();
  if (site.ranges) headers["accept-ranges"] = "bytes";
  if (site.etag) headers.etag = site.etag;
  headers["content-type"] = TYPES[extname(name)] ?? "application/octet-stream";
  await send(request, response, headers, file, site);
}

/** `{ length, read(start, end) -> stream }` of a path, a buffer, or such an object. */
async function open(file) {
  if (typeof file === "string") {
    return {
      length: (await stat(file)).size,
      read: (start, end) => createReadStream(file, { start, end: end - 1, highWaterMark: PIECE }),
    };
  }
  if (Buffer.isBuffer(file))
    return { length: file.length, read: (start, end) => Readable.from(pieces(file.subarray(start, end))) };
  return file;
}

function* pieces(buffer) {
  for (let at = 0; at < buffer.length; at += PIECE) yield buffer.subarray(at, at + PIECE);
}

async function send(request, response, headers, file, site) {
  let [start, end] = [0, file.length];
  const range = /^bytes=(\d+)-(\d*)$/.exec((site?.ranges ?? true) ? (request.headers.range ?? "") : "");
  if (range) {
    start = Number(range[1]);
    end = range[2] === "" ? file.length : Math.min(Number(range[2]) + 1, file.length);
    if (start >= file.length)
      return void response.writeHead(416, { ...headers, "content-range": `bytes */${file.length}` }).end();
    headers["content-range"] = `bytes ${start}-${end - 1}/${file.length}`;
  }
  if (site?.length ?? true) headers["content-length"] = end - start;
  response.writeHead(range ? 206 : 200, headers);
  if (request.method === "HEAD") return void response.end();
  let at = start;
  const count = site?.count;
  for await (let piece of file.read(start, end)) {
    if (site) piece = await misbehave(site, count, piece, at, response);
    if (response.destroyed) return;
    at += piece.length;
    if (!response.write(piece)) await drained(response);
  }
  response.end();
}

/** Resolves when more can be written or the client is gone. */
function drained(response) {
  const stop = new AbortController();
  const options = { signal: stop.signal };
  const either = ["drain", "close"].map((event) => once(response, event, options).catch(() => {}));
  return Promise.race(either).finally(() => stop.abort());
}

async function misbehave(site, count, piece, at, response) {
  if (site.pace > 0) await new Promise((resolve) => setTimeout(resolve, site.pace));
  count.bytes += piece.length;
  if (site.off || (site.dieAfter !== null && count.bytes > site.dieAfter)) response.socket.destroy();
  if (site.damage !== null && site.damage >= at && site.damage < at + piece.length) {
    piece = Buffer.from(piece);
    piece[site.damage - at] ^= 0x40;
  }
  return piece;
}
