import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { apiKey, baseURL, errorOf, person, prompt, rain } from "./questions.js";

export async function ask({ fetch, info }) {
  const configuration = { baseURL, fetch, dangerouslyAllowBrowser: true };
  const settings = { model: info.name, apiKey, configuration, temperature: 0, maxRetries: 0 };
  const short = new ChatOpenAI({ ...settings, maxTokens: 12 });
  const long = new ChatOpenAI({ ...settings, maxTokens: 60 });
  const whole = await short.invoke(prompt);
  let streamed;
  for await (const chunk of await short.stream(prompt)) streamed = streamed ? streamed.concat(chunk) : chunk;
  const { name, description, place } = rain;
  const rains = tool(({ place }) => `${place}: no`, { name, description, schema: place });
  const question = new HumanMessage(prompt);
  const called = await long.bindTools([rains], { tool_choice: "required" }).invoke([question]);
  const result = await rains.invoke(called.tool_calls[0]);
  const after = await short.invoke([question, called, result]);
  const embeddings = new OpenAIEmbeddings({ model: info.name, apiKey, configuration });
  return {
    text: whole.content,
    finish: whole.response_metadata.finish_reason,
    streamed: streamed.content,
    usage: [whole.usage_metadata.total_tokens, streamed.usage_metadata.total_tokens],
    call: { name: called.tool_calls[0].name, input: called.tool_calls[0].args },
    result: result instanceof ToolMessage && result.content,
    after: typeof after.content,
    object: await long.withStructuredOutput(person, { method: "jsonSchema" }).invoke(prompt),
    vector: await embeddings.embedQuery(prompt),
    refused: [await errorOf(short.invoke("word ".repeat(600)))],
  };
}
