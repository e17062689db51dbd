import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embed, generateText, streamText, tool } from "ai";
import { apiKey, baseURL, errorOf, person, prompt, rain } from "./questions.js";

export async function ask({ fetch, info }) {
  const settings = { name: "firelight", baseURL, apiKey, fetch, includeUsage: true, supportsStructuredOutputs: true };
  const provider = createOpenAICompatible(settings);
  const model = provider(info.name);
  const how = { model, prompt, temperature: 0, maxOutputTokens: 12 };
  const whole = await generateText(how);
  const stream = streamText(how);
  let streamed = "";
  for await (const text of stream.textStream) streamed += text;
  const { description, place: inputSchema } = rain;
  const tools = { rain: tool({ description, inputSchema, execute: ({ place }) => `${place}: no` }) };
  const called = await generateText({ ...how, maxOutputTokens: 60, tools, toolChoice: "required" });
  const output = Output.object({ schema: person });
  const structured = await generateText({ ...how, maxOutputTokens: 60, output });
  const partial = streamText({ ...how, maxOutputTokens: 60, output });
  const { embedding } = await embed({ model: provider.embeddingModel(info.name), value: prompt });
  const stop = new AbortController();
  const aborted = errorOf(generateText({ ...how, maxOutputTokens: 400, abortSignal: stop.signal }));
  setTimeout(() => stop.abort(), 50);
  const long = { ...how, prompt: "word ".repeat(600), maxRetries: 0 };
  return {
    text: whole.text,
    finish: whole.finishReason,
    streamed,
    usage: [whole.usage.totalTokens, (await stream.usage).totalTokens],
    call: called.toolCalls.map(({ toolName, input }) => ({ name: toolName, input }))[0],
    result: called.toolResults[0].output,
    object: structured.output,
    streamedObject: await partial.output,
    vector: embedding,
    refused: [await errorOf(generateText(long))],
    aborted: await aborted,
  };
}
