// A worker has no import map, so the path is spelled out; a bundler resolves "firelight".
import { Firelight } from "./node_modules/firelight/index.js";

let loading;

onmessage = async ({ data: { source, question } }) => {
  try {
    // This is already a worker, so the engine runs here and not in another one.
    loading ??= Firelight.load(source, { where: "main" });
    const model = await loading;
    const messages = [{ role: "user", content: question }];
    for await (const text of model.chat(messages, { temperature: 0, maxTokens: 40 })) postMessage({ text });
    postMessage({ done: true });
  } catch (error) {
    postMessage({ error: error.message });
  }
};
