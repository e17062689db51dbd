// Uses every public type of the package. It is compiled with --strict, never run.

import {
  Firelight, FirelightError, LanguageModel, OpenAI, cache,
  type Answer, type AnswerEvent, type AssistantMessage, type Availability, type CachedModel, type ChatCompletion, type ChatCompletionChunk,
  type ChatCompletionContentPart, type ChatCompletionMessageParam, type ChatCompletionParams, type ChatOptions, type Completion, type CompletionLogprobs,
  type CompletionParams, type ContentPart, type CreateEmbeddingResponse, type Embedding, type EmbeddingCreateParams, type ErrorCode, type FinishReason, type Fit, type FitOptions, type GenerateOptions, type LanguageModelCoreOptions,
  type LanguageModelCreateOptions, type LanguageModelExpected, type LanguageModelMessage, type LanguageModelPrompt,
  type LanguageModelPromptOptions, type LoadOptions, type Message, type MessageContent, type ModelEntry, type ModelInfo, type Progress,
  type RequestOptions, type ResponseFormat, type SamplingMode, type SamplingParams, type Source, type Stats, type Stream, type Support,
  type SystemMessage, type TextPart, type TokenEvent, type TokenLogprob, type Tool, type ToolCall, type ToolChoice,
  type ToolMessage, type Usage, type UserMessage,
} from "firelight";
import demo from "firelight/demo";

const bar = (p: Progress): string => `${p.stage}: ${p.loaded} of ${p.total}, ${p.rate} B/s`;

async function load(file: File, blob: Blob, buffer: ArrayBuffer, signal: AbortSignal): Promise<Firelight> {
  const sources: (Source | null | undefined)[] = ["model.gguf", "hf:org/repo:Q4_K_M", demo, new URL("https://host.example/m.gguf"), file, blob, buffer, [file, file], null, undefined];
  const options: LoadOptions = {
    onProgress: (p) => console.log(bar(p)), onNotice: (text: string) => console.log(text), signal,
    where: "shared", context: 2048, kv: "f16", tier: "cooperative", tune: false, sequences: 2, runAhead: 8, cache: false,
    headers: { authorization: "Bearer x" }, hub: "https://hub.example",
  };
  const support: Support = await Firelight.support();
  const fitOptions: FitOptions = { context: 2048, kv: "q8_0", sequences: 2, cache: false };
  const fit: Fit = await Firelight.fit("model.gguf", fitOptions);
  console.log(fit.fits ? fit.gpuBytes + fit.context : fit.reason);
  if (!support.webgpu) throw new FirelightError("no-webgpu", support.reason ?? "no GPU", "take another browser");
  return Firelight.load(sources[0], options);
}

async function answer(model: Firelight): Promise<Stats> {
  const messages: Message[] = [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello", name: "Lily" }];
  const sampling: GenerateOptions = {
    temperature: 0.7, topK: 40, topP: 0.9, minP: 0.05, repetitionPenalty: 1.1, frequencyPenalty: 0, presencePenalty: 0,
    seed: 1, maxTokens: 10, stop: ["\n", "."], logitBias: { 13: -1 }, logprobs: 3, ignoreEnd: false,
    onToken: (token: TokenEvent) => console.log(token.id, token.text, token.logprob, token.top?.[0]?.logprob),
  };
  const options: ChatOptions = {
    ...sampling, tools: [rain], toolChoice: "auto", reasoning: false, templateVariables: { enable_thinking: false },
    onReasoning: (text: string) => console.log(text),
  };
  const chat: Answer = model.chat(messages, options);
  for await (const piece of chat) console.log(piece.length);
  const text: string = await model.complete("Once", sampling).text();
  const tokens: number[] = [...(await model.tokenize(text, { special: false })), ...(await model.tokenize(messages, { addGenerationPrompt: false }))];
  console.log(await model.detokenize(tokens), model.notices.join());
  const info: ModelInfo = model.info;
  console.log(info.name, info.architecture, info.type, info.parameters, info.bytes, info.context, info.vocab, info.license, info.adapter, info.tier, info.where, info.gpuBytes);
  const stats: Stats = await chat.stats;
  return stats;
}

const rain: Tool = {
  type: "function",
  function: { name: "rain", description: "Tells whether it rains", parameters: { type: "object", properties: { place: { type: "string" } } } },
};

/** Answers with the help of a tool. */
async function tools(model: Firelight): Promise<string> {
  const parts: ContentPart[] = [{ type: "text", text: "Does it rain in Rome?" }];
  const content: MessageContent = parts;
  const user: UserMessage = { role: "user", content };
  const system: SystemMessage = { role: "system", content: "Be brief." };
  const messages: Message[] = [system, user];
  const choice: ToolChoice = { name: "rain" };
  const answer = model.chat(messages, { tools: [rain], toolChoice: choice });
  for await (const event of answer.events()) show(event);
  const said: AssistantMessage = await answer.message();
  const calls: ToolCall[] = await answer.toolCalls();
  for (const { id, function: { name, arguments: json } } of calls) {
    const result: ToolMessage = { role: "tool", tool_call_id: id, content: `${name}(${json}): yes` };
    messages.push(said, result);
  }
  console.log(await answer.reasoning(), (await answer.stats).finish === "tool-calls", (await answer.stats).reasoningTokens);
  const format: ResponseFormat = { type: "json_schema", schema: { type: "object", properties: { wet: { type: "boolean" } } } };
  return model.chat(messages, { responseFormat: format }).text();
}

function show(event: AnswerEvent): void {
  switch (event.type) {
    case "content":
    case "reasoning":
      return console.log(event.text);
    case "tool-call":
      return console.log(event.index, event.id, event.name);
    case "tool-arguments":
      return console.log(event.index, event.text);
    case "tool-call-end":
      return console.log(event.index, event.complete);
  }
}

async function openai(model: Firelight): Promise<void> {
  const client: OpenAI = new OpenAI(model);
  const parts: TextPart[] = [{ type: "text", text: "Hello" }];
  const part: ChatCompletionContentPart = { type: "refusal", refusal: "No." };
  const messages: ChatCompletionMessageParam[] = [{ role: "assistant", content: [part] }, { role: "developer", content: "Be brief." }, { role: "user", content: parts }];
  const sampling: SamplingParams = { temperature: 0, top_p: 1, max_tokens: 5, seed: 1, stop: "\n", n: 2, logit_bias: { "13": 1 } };
  const options: RequestOptions = { signal: AbortSignal.timeout(1000) };
  const whole: ChatCompletion = await client.chat.completions.create({ ...sampling, messages }, options);
  const reason: FinishReason = whole.choices[0].finish_reason;
  const usage: Usage = whole.usage;
  const logprobs: TokenLogprob[] = whole.choices[0].logprobs?.content ?? [];
  console.log(reason, usage.prompt_tokens_details.cached_tokens, logprobs[0].top_logprobs);
  const stream: Stream<ChatCompletionChunk> = await model.client.chat.completions.create({ messages, stream: true });
  for await (const chunk of stream) console.log(chunk.choices[0]?.delta.content, chunk.usage?.total_tokens);
  stream.controller.abort();
  const readable: ReadableStream<ChatCompletionChunk> = stream.toReadableStream();
  const body: ChatCompletionParams = {
    messages, stream: Math.random() > 0.5, tools: [rain], tool_choice: "required", parallel_tool_calls: false,
    reasoning_effort: "none", response_format: { type: "json_schema", json_schema: { name: "x", schema: {} } },
  };
  const either = await client.chat.completions.create(body);
  if ("choices" in either) console.log(either.choices[0].message.content, readable.locked);
  const params: CompletionParams = { prompt: "Once", logprobs: 2, echo: false };
  const completion: Completion = await client.completions.create({ ...params, stream: false });
  const details: CompletionLogprobs | null = completion.choices[0].logprobs;
  const entry: ModelEntry = (await client.models.list()).data[0];
  console.log(details?.text_offset, entry.owned_by, (await client.models.retrieve(entry.id)).object);
}

async function embed(model: Firelight): Promise<number> {
  const one: Embedding = await model.embed("Hello", { signal: AbortSignal.timeout(1000) });
  const [two, three]: Embedding[] = [...(await model.embed(["Hello", "there"])), await model.embed([1, 2, 3])];
  const body: EmbeddingCreateParams = { input: ["Hello", "there"], encoding_format: "float" };
  const answer: CreateEmbeddingResponse = await model.client.embeddings.create(body);
  const response: Response = await model.fetch("http://localhost/v1/models", { method: "GET" });
  return one.vector[0] * two.vector[0] + three.tokens + answer.data[0].embedding[0] + answer.usage.total_tokens + response.status;
}

async function promptApi(model: Firelight): Promise<void> {
  const expected: LanguageModelExpected = { type: "text", languages: ["en"] };
  const mode: SamplingMode = "predictable";
  const core: LanguageModelCoreOptions = { model, expectedInputs: [expected], samplingMode: mode, load: { where: "main" } };
  const availability: Availability = await LanguageModel.availability(core);
  const system: LanguageModelMessage = { role: "system", content: [{ type: "text", value: "Be brief." }] };
  const options: LanguageModelCreateOptions = {
    ...core, initialPrompts: [system], signal: AbortSignal.timeout(1000),
    monitor: (target) => target.addEventListener("downloadprogress", (event) => console.log((event as ProgressEvent).loaded)),
  };
  const session: LanguageModel = await LanguageModel.create(options);
  const prompt: LanguageModelPrompt = [{ role: "user", content: "Hello" }];
  const how: LanguageModelPromptOptions = { maxTokens: 5, seed: 1, responseConstraint: /yes|no/, omitResponseConstraintInput: true };
  session.oncontextoverflow = session.onquotaoverflow = (event) => console.log(event.type);
  const text: string = await session.prompt(prompt, how);
  const stream: ReadableStream<string> = session.promptStreaming("Go on", how);
  await session.append("And then?");
  console.log(availability, text, stream.locked, session.contextUsage, session.contextWindow, session.inputUsage, session.inputQuota);
  console.log(await session.measureContextUsage("x"), await session.measureInputUsage("x"), session.topK, session.temperature, session.samplingMode);
  console.log((await LanguageModel.params()).maxTopK);
  const copy: LanguageModel = await session.clone();
  copy.destroy();
}

async function kept(): Promise<void> {
  const models: CachedModel[] = await cache.list();
  const { used, quota } = await cache.size();
  console.log(models[0].url, models[0].loaded, models[0].total, models[0].complete, models[0].used, used / quota);
  await cache.delete(models[0].url);
  await cache.clear();
}

export async function main(file: File, signal: AbortSignal): Promise<void> {
  await using model = await load(file, file, await file.arrayBuffer(), signal);
  try {
    await Promise.all([answer(model), tools(model), openai(model), embed(model), promptApi(model), kept()]);
  } catch (error) {
    if (!(error instanceof FirelightError)) throw error;
    const code: ErrorCode = error.code;
    console.log(code, error.hint);
  }
}

// What must not compile.

// @ts-expect-error: models are loaded, not made
new Firelight();
// @ts-expect-error: not a value of `where`
Firelight.load(null, { where: "elsewhere" });
// @ts-expect-error: a message has a role
(model: Firelight) => model.chat([{ content: "Hello" }]);
// @ts-expect-error: a typing error in a message is found
(model: Firelight) => model.chat([{ role: "user", contents: "Hello" }]);
// @ts-expect-error: a schema is required
(model: Firelight) => model.complete("Hello", { responseFormat: { type: "json_schema" } });
// @ts-expect-error: a stream has no choices
(client: OpenAI) => client.chat.completions.create({ messages: [], stream: true }).then((answer) => answer.choices);
