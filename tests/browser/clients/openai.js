import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { apiKey, baseURL, errorOf, person, prompt, rain } from "./questions.js";

export async function ask({ fetch, info }) {
  const client = new OpenAI({ fetch, baseURL, apiKey, dangerouslyAllowBrowser: true });
  const { completions } = client.chat;
  const body = { model: info.name, temperature: 0, max_tokens: 12, messages: [{ role: "user", content: prompt }] };
  const whole = await completions.create(body);
  const chunks = [];
  const stream = await completions.create({ ...body, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) chunks.push(chunk);
  const { place, ...described } = rain;
  const tools = [{ type: "function", function: { ...described, parameters: z.toJSONSchema(place) } }];
  const called = await completions.create({ ...body, max_tokens: 60, tools, tool_choice: "required" });
  const response_format = zodResponseFormat(person, "person");
  const parsed = await completions.parse({ ...body, max_tokens: 60, response_format });
  const embedding = await client.embeddings.create({ model: info.name, input: prompt });
  const completion = await client.completions.create({ model: info.name, prompt: "Once", max_tokens: 5 });
  const long = [{ role: "user", content: "word ".repeat(600) }];
  const stop = new AbortController();
  const aborted = errorOf(completions.create({ ...body, max_tokens: 400 }, { signal: stop.signal }));
  setTimeout(() => stop.abort(), 50);
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  return {
    text: whole.choices[0].message.content,
    finish: whole.choices[0].finish_reason,
    streamed: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    chunks: chunks.length,
    usage: [whole.usage, chunks.at(-1).usage],
    call: called.choices[0].message.tool_calls[0].function,
    object: parsed.choices[0].message.parsed,
    vector: embedding.data[0].embedding,
    completion: completion.choices[0].text,
    models,
    refused: [
      await errorOf(completions.create({ ...body, audio: { voice: "alloy", format: "wav" } })),
      await errorOf(completions.create({ ...body, temprature: 1 })),
      await errorOf(completions.create({ ...body, messages: [], stream: true })),
      await errorOf(completions.create({ ...body, messages: long, stream: true })),
      await errorOf(client.responses.create({ model: info.name, input: prompt })),
    ],
    aborted: await aborted,
  };
}
