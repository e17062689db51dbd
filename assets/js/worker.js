// The engine behind postMessage: a worker of one page, or one that all tabs of an origin share.

import { Connection } from "./host.js";

/** Connects one page. It names a lock that it holds as long as it lives: ports do not say when their page has gone. */
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
