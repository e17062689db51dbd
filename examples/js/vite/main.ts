import { Firelight, type Message, type Progress } from "firelight";

const MODEL = "hf:Qwen/Qwen3-0.6B-GGUF:Q8_0";

const bar = document.querySelector<HTMLProgressElement>("#progress")!;
const answer = document.querySelector("#answer")!;

function showProgress({ loaded, total }: Progress): void {
  bar.value = loaded / total;
}

const source = new URLSearchParams(location.search).get("model") ?? MODEL;
const model = await Firelight.load(source, { onProgress: showProgress });
const messages: Message[] = [{ role: "user", content: "Why is the sky blue?" }];
for await (const text of model.chat(messages, { temperature: 0, maxTokens: 40 })) answer.append(text);
document.body.dataset.done = "yes";
