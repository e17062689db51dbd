// Opens the page without a network: keeps the files of one build, and serves them from there. A new build is fetched as
// a whole while the old one is in use, and is used once all tabs of the old one are closed. Models are kept by cache.js.

/** scripts/web.sh fills in the files of the build, and their hash. */
const FILES = [];
const BUILD = "";
const PREFIX = "firelight-page-";
const NAME = PREFIX + BUILD;

addEventListener("install", (event) => {
  const fetched = FILES.map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(fetched)));
});

addEventListener("activate", (event) => {
  const isOld = (name) => name.startsWith(PREFIX) && name !== NAME;
  const clean = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter(isOld).map((name) => caches.delete(name)));
    await clients.claim();
  };
  event.waitUntil(clean());
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin || request.headers.has("range")) return;
  const kept = async () => {
    const cache = await caches.open(NAME);
    const isPage = request.mode === "navigate";
    const asked = isPage && url.pathname.endsWith("/") ? "index.html" : request;
    return (await cache.match(asked, { ignoreSearch: isPage })) ?? fetch(request);
  };
  event.respondWith(kept());
});
