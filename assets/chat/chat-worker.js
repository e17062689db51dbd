// The engine's worker: the page's own program, which sees that there is no page and serves commands instead.
// What comes while it is being fetched waits.
const early = [];
self.onmessage = (event) => early.push(event);
const { default: init } = await import("./chat.js");
await init();
early.forEach((event) => self.onmessage(event));
