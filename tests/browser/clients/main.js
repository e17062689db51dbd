// Libraries that take a `fetch`, over the model in this page. Each function asks the same and returns plain data.

import { Firelight } from "firelight";
import * as aiSdk from "./ai-sdk.js";
import * as langchain from "./langchain.js";
import * as openai from "./openai.js";

const model = await Firelight.load("model.gguf");
const clients = { openai, aiSdk, langchain };

/** What a client returns, as JSON. */
window.ask = async (client) => JSON.stringify(await clients[client].ask(model));

/** What the package itself answers, to compare. */
window.direct = async () => {
  const messages = [{ role: "user", content: "Lily was happy" }];
  const text = await model.chat(messages, { temperature: 0, maxTokens: 12 }).text();
  const [{ vector, tokens }] = await model.embed(["Lily was happy"]);
  return { text, vector: Array.from(vector.slice(0, 4)), length: vector.length, tokens };
};
window.ready = true;
