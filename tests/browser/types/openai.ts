// The official package's types fit this package's: its requests are accepted, and the answers are its answers. It is
// compiled with --strict, never run.

import Official from "openai";
import type { Firelight } from "firelight";

export async function fits(
  model: Firelight,
  messages: Official.Chat.ChatCompletionMessageParam[],
  body: Official.Chat.ChatCompletionCreateParamsNonStreaming,
  streaming: Official.Chat.ChatCompletionCreateParamsStreaming,
  completion: Official.CompletionCreateParamsNonStreaming & { prompt: string },
  embedding: Official.EmbeddingCreateParams,
  tools: Official.Chat.ChatCompletionTool[],
): Promise<void> {
  const { chat, completions, embeddings } = model.client;
  const choice = { tools, tool_choice: "required" } as const;
  const whole: Official.Chat.ChatCompletion = await chat.completions.create({ messages, ...choice });
  const again: Official.Chat.ChatCompletion = await chat.completions.create(body);
  messages.push(whole.choices[0].message, (await chat.completions.create({ messages })).choices[0].message);
  for await (const chunk of await chat.completions.create(streaming)) {
    const piece: Official.Chat.ChatCompletionChunk = chunk;
    console.log(piece.choices[0].delta.tool_calls, again.usage?.total_tokens);
  }
  const text = await completions.create(completion);
  const vectors: Official.CreateEmbeddingResponse = await embeddings.create(embedding);
  console.log(text.choices[0].text, vectors.data[0].embedding);
  const client = new Official({ fetch: model.fetch, baseURL: "http://localhost/v1", apiKey: "-" });
  await client.chat.completions.create(body);
}
