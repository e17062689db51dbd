// The engine in a worker: of one page, or shared by all tabs of an origin.

import { Connection } from "./host.js";

/** Connects a page. The page holds a lock while it exists, because ports do not report that their page was closed. */
function serve(port) {
  const connection = new Connection((message) => port.postMessage(message));
  port.onmessage = ({ data }) => {
    if (data.command === "alive") {
      navigator.locks?.request(data.lock, () => connection.close());
    } else {
      connection.receive(data);
    }
  };
}

if (typeof SharedWorkerGlobalScope === "function" && globalThis instanceof SharedWorkerGlobalScope) {
  globalThis.onconnect = ({ ports: [port] }) => serve(port);
} else {
  serve(globalThis);
}
