import { Firelight } from "firelight";

const MODEL = "hf:Qwen/Qwen3-0.6B-GGUF:Q8_0";

const model = await Firelight.load(new URLSearchParams(location.search).get("model") ?? MODEL);
const messages = [{ role: "user", content: "Why is the sky blue?" }];
for await (const text of model.chat(messages, { temperature: 0, maxTokens: 40 })) {
  document.querySelector("#answer").append(text);
}
document.body.dataset.done = "yes";
