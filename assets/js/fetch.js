// OpenAI's HTTP interface, answered in the page: a function with the shape of `fetch` over a client. Libraries that take
// a `fetch` (the `openai` package, the AI SDK, LangChain.js) talk to the model through it.

import { FirelightError } from "./errors.js";

/** Method, path, and the call that answers: of the client, the path's match, the body and the options. */
const ROUTES = [
  ["POST", /\/chat\/completions$/, (client, _, body, options) => client.chat.completions.create(body, options)],
  ["POST", /\/completions$/, (client, _, body, options) => client.completions.create(body, options)],
  ["POST", /\/embeddings$/, (client, _, body, options) => client.embeddings.create(body, options)],
  ["GET", /\/models$/, (client) => client.models.list()],
  ["GET", /\/models\/(.+)$/, (client, [, id]) => client.models.retrieve(decodeURIComponent(id))],
];

/** A function with the shape of `fetch` over a client. Only the end of an address matters: no host is contacted. */
export function fetchOver(client) {
  return async (input, init) => {
    const request = new Request(input, init);
    const { pathname } = new URL(request.url);
    const found = ROUTES.map(([method, path, answer]) => ({ method, match: path.exec(pathname), answer }));
    const route = found.find(({ method, match }) => match && method === request.method);
    if (!route) {
      const known = "POST .../chat/completions, .../completions, .../embeddings, GET .../models";
      return failed(404, "not_found", `There is no ${request.method} ${pathname}; there are ${known}.`);
    }
    const signal = init?.signal ?? request.signal;
    try {
      const body = request.method === "POST" ? await parsed(request) : undefined;
      const answer = await route.answer(client, route.match, body, { signal });
      return body?.stream ? await streamed(answer, body.n ?? 1) : json(200, answer);
    } catch (error) {
      if (!(error instanceof FirelightError)) throw error;
      return refused(error);
    }
  };
}

async function parsed(request) {
  try {
    return await request.json();
  } catch (error) {
    throw new FirelightError("bad-argument", `The request's body is not JSON: ${error.message}.`, "");
  }
}

const json = (status, value, headers = {}) =>
  new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json", ...headers } });

function failed(status, code, message) {
  const type = status < 500 ? "invalid_request_error" : "server_error";
  // The official client would repeat the request after a 5xx.
  return json(status, { error: { message, type, param: null, code } }, { "x-should-retry": "false" });
}

function refused({ code, message, hint }) {
  const text = [message, hint].filter(Boolean).join(" ");
  if (code === "context-full") return failed(400, "context_length_exceeded", text);
  return failed(code === "bad-argument" ? 400 : 500, code, text);
}

/** Server-sent events. Each choice begins with an empty chunk; the next one shows whether the request is refused. */
async function streamed(stream, choices) {
  const iterator = stream[Symbol.asyncIterator]();
  const first = [];
  while (first.length <= choices) {
    const { value, done } = await iterator.next();
    if (done) break;
    first.push(value);
  }
  const encoder = new TextEncoder();
  const event = (text) => encoder.encode(`data: ${text}\n\n`);
  const body = new ReadableStream({
    async pull(controller) {
      const { value, done } = first.length > 0 ? { value: first.shift() } : await iterator.next();
      controller.enqueue(event(done ? "[DONE]" : JSON.stringify(value)));
      if (done) controller.close();
    },
    cancel: () => stream.controller.abort(),
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}
