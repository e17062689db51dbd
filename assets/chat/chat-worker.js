// The engine's worker: the page's program, which serves commands when there is no page. Messages that arrive while it
// is being fetched are queued.
const early = [];
self.onmessage = (event) => early.push(event);
const { default: init } = await import("./chat.js");
await init();
early.forEach((event) => self.onmessage(event));
