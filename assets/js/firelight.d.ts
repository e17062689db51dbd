// The public interface of Firelight for the web. Names that are not declared here are not public.

/// <reference lib="esnext.disposable" />

/** Where a model comes from: an address, a file, its bytes, or a text:
 *  * `"hf:ORG/REPO:Q4_K_M"`, a model of the Hugging Face hub. A file's name may stand in the quantization's place;
 *    without either, Q4_K_M or the next best is taken. The address of a repository's or a file's page works, too.
 *  * `"demo"`, the demo model, beside the package's files.
 *
 *  An array contains the parts of a split model, in order. For the URL of one part of a split model
 *  (`...-00001-of-00003.gguf`), the other parts are found automatically. */
export type Source = string | URL | File | Blob | ArrayBuffer | (string | URL | File | Blob)[];

/** The progress of loading. */
export interface Progress {
  /** The current stage: bytes are downloaded, read from the cache, or loaded onto the GPU, or kernels are compiled. The
   *  last report is "ready". */
  stage: "download" | "cache" | "load" | "compile" | "ready";
  /** Bytes that are loaded. */
  loaded: number;
  /** Bytes of the file. */
  total: number;
  /** Bytes per second, over the last seconds. */
  rate: number;
  /** While kernels are compiled: how many are, of how many. */
  kernels?: { done: number; total: number };
}

/** Options of {@link Firelight.load}. */
export interface LoadOptions {
  /** Called a few times a second while the model is loaded. */
  onProgress?: (progress: Progress) => void;
  /** Called with messages for the user: a smaller context, a full disk, a lost device. */
  onNotice?: (text: string) => void;
  /** Aborts loading. The promise rejects with the signal's reason; cached chunks stay. */
  signal?: AbortSignal;
  /** Where the engine runs: in a worker of this page (default), in one shared by all tabs of this origin, or in the
   *  page itself. */
  where?: "worker" | "shared" | "main";
  /** The maximum number of tokens of a conversation. Default: the model's trained context, or less if the GPU's memory
   *  requires it. */
  context?: number;
  /** The type of the KV cache. Default: "f16". */
  kv?: "f16" | "q8_0" | "f32";
  /** The kernels to use. By default the best that the adapter supports. */
  tier?: "baseline" | "subgroups" | "f16" | "int8" | "cooperative";
  /** Tune first: measure the GPU to find its fastest kernels, and exclude those with wrong results. It takes a second or
   *  two, once: the result is cached. By default real GPUs are tuned, unless `cache` is off. */
  tune?: boolean;
  /** The maximum number of concurrent answers; further ones wait. Default: 1. */
  sequences?: number;
  /** Steps that are queued before the first is read back. The default depends on the browser. */
  runAhead?: number;
  /** Cache files of URLs in the origin's private file system. Default: true. */
  cache?: boolean;
  /** Headers for the model's host. */
  headers?: Record<string, string>;
  /** The address of the hub for names that begin with `hf:`. Default: "https://huggingface.co". */
  hub?: string;
}

/** A loaded model and its device. */
export interface ModelInfo {
  /** The model's name in its file. */
  readonly name: string;
  /** Its architecture: "llama", "qwen3", ... */
  readonly architecture: string;
  /** The most frequent type of its weights: "Q4_0", "F16", ... */
  readonly type: string;
  /** The number of its parameters. */
  readonly parameters: number;
  /** The file's size. */
  readonly bytes: number;
  /** The maximum number of tokens of a conversation. */
  readonly context: number;
  /** The size of its vocabulary. */
  readonly vocab: number;
  /** Its licence, if the file states it. */
  readonly license?: string;
  /** The GPU's name. */
  readonly adapter: string;
  /** The tier of kernels that run. */
  readonly tier: string;
  /** Whether they were chosen by tuning, now or before. */
  readonly measured: boolean;
  /** Where the engine runs; "worker" also if a shared worker was requested and has no GPU in this browser. */
  readonly where: "worker" | "shared" | "main";
  /** Bytes allocated on the GPU. */
  readonly gpuBytes: number;
}

/** A part of a message's content. More types may follow. */
export interface TextPart {
  type: "text";
  text: string;
}

/** A part of a message's content, discriminated by `type`. */
export type ContentPart = TextPart;

/** The content of a message: a text, or parts. */
export type MessageContent = string | ContentPart[];

/** Instructions for the model. */
export interface SystemMessage {
  role: "system" | "developer";
  content: MessageContent;
  name?: string;
}

/** A message of the user. */
export interface UserMessage {
  role: "user";
  content: MessageContent;
  name?: string;
}

/** A message of the model. {@link Answer.message} returns one. */
export interface AssistantMessage {
  role: "assistant";
  content?: MessageContent | null;
  /** The reasoning before the answer. */
  reasoning_content?: string;
  tool_calls?: ToolCall[];
  name?: string;
}

/** The result of a tool call. */
export interface ToolMessage {
  role: "tool";
  content: MessageContent;
  /** The `id` of the call. */
  tool_call_id?: string;
  /** The tool. */
  name?: string;
}

/** One message of a conversation. */
export type Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage;

/** A function that the model may call. */
export interface Tool {
  type: "function";
  function: {
    name: string;
    description?: string;
    /** A JSON schema of the arguments. A call that the choice requires conforms to it; a call that the model decided on
     *  need not. */
    parameters?: object;
    /** Changes nothing. */
    strict?: boolean | null;
  };
}

/** A call of a tool. */
export interface ToolCall {
  id: string;
  type: "function";
  function: {
    name: string;
    /** JSON. It is incomplete if the answer was cut within it. */
    arguments: string;
  };
}

/** Whether the model calls a tool: optionally, never, at least one of them, or this one. */
export type ToolChoice = "auto" | "none" | "required" | { name: string };

/** The format that an answer must have: any JSON object, JSON of a schema, a text that a regular expression matches as a
 *  whole, one of some texts, or a text of a Lark grammar. */
export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; schema: object | boolean }
  | { type: "regex"; pattern: string }
  | { type: "choice"; choices: string[] }
  | { type: "lark"; grammar: string };

/** A piece of an answer, in the order in which the model wrote it. `index` counts the tool calls of the answer. */
export type AnswerEvent =
  | { type: "reasoning"; text: string }
  | { type: "content"; text: string }
  | { type: "tool-call"; index: number; id: string; name: string }
  | { type: "tool-arguments"; index: number; text: string }
  | { type: "tool-call-end"; index: number; complete: boolean };

/** A token of the answer. */
export interface TokenEvent {
  id: number;
  /** Its text, if log-probabilities were requested. It may be only a part of a character. */
  text?: string;
  /** The natural logarithm of its probability, if log-probabilities were requested. */
  logprob?: number;
  /** The most likely tokens in its place, best first. */
  top?: { id: number; text: string; logprob: number }[];
}

/** How to answer. Defaults: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, a random seed. */
export interface GenerateOptions {
  /** Aborts the answer. Iterating then rejects with the signal's reason. */
  signal?: AbortSignal;
  /** 0: always the most likely token. */
  temperature?: number;
  /** Sample only among this many most likely tokens. 0: all. */
  topK?: number;
  /** Sample only among the most likely tokens whose probabilities sum to this. 1: all. */
  topP?: number;
  /** Sample only among tokens at least this probable, relative to the most likely. 0: all. */
  minP?: number;
  /** Makes tokens that have occurred less likely. 1: off. */
  repetitionPenalty?: number;
  /** Subtracted from a token's logit for each time it was generated. */
  frequencyPenalty?: number;
  /** Subtracted from a token's logit once it was generated. */
  presencePenalty?: number;
  /** Same seed, same answer (on the same adapter and tier). */
  seed?: number;
  /** The maximum number of tokens of the answer. By default only the context limits it. */
  maxTokens?: number;
  /** Texts that end the answer; they are not part of it. */
  stop?: string | string[];
  /** Added to the logits of tokens. */
  logitBias?: Record<number, number>;
  /** Pass each token's log-probability to `onToken`, and those of this many most likely tokens. */
  logprobs?: number;
  /** Continue after the model's end-of-answer token. */
  ignoreEnd?: boolean;
  /** The format that the answer must have. Constrained tokens are chosen on the CPU, which costs some speed. */
  responseFormat?: ResponseFormat;
  /** Called with every token. */
  onToken?: (token: TokenEvent) => void;
}

/** More options of {@link Firelight.chat}. */
export interface ChatOptions extends GenerateOptions {
  /** Functions that the model may call. A template without tools is extended by instructions in the system message. */
  tools?: Tool[];
  /** Whether it calls one. Default: "auto". */
  toolChoice?: ToolChoice;
  /** Whether the model reasons before it answers, if its template has a switch for that. */
  reasoning?: boolean;
  /** Called with each piece of the reasoning. */
  onReasoning?: (text: string) => void;
  /** More variables for the template, such as `enable_thinking`. */
  templateVariables?: Record<string, unknown>;
}

/** Counts and times of an answer. */
export interface Stats {
  promptTokens: number;
  /** Tokens of the prompt that were in the cache. */
  reusedTokens: number;
  generatedTokens: number;
  /** Of which this many are the reasoning. */
  reasoningTokens: number;
  /** Until the first token. */
  promptSeconds: number;
  /** From the first token to the last. */
  decodeSeconds: number;
  /** Why it ended: the model ended it or called tools, it reached a stop text or `maxTokens`, the context is full, or it
   *  was cancelled. */
  finish: "stop" | "tool-calls" | "stop-string" | "length" | "context" | "cancelled";
  /** The stop text. */
  stop: string | null;
}

/** An unfinished answer: iterate over its pieces of text, or wait for all of it. Leaving the loop cancels it. Reasoning
 *  and tool calls are not part of the text. */
export interface Answer extends AsyncIterable<string> {
  /** The pieces of text, reasoning and tool calls. Iterate over either these or the text. */
  events(): AsyncIterable<AnswerEvent>;
  /** The whole text. */
  text(): Promise<string>;
  /** The whole reasoning; empty if there is none. */
  reasoning(): Promise<string>;
  /** The tool calls; empty if there are none. */
  toolCalls(): Promise<ToolCall[]>;
  /** The answer as a message, to be added to the conversation. */
  message(): Promise<AssistantMessage & { content: string }>;
  /** Resolves when the answer ends. */
  readonly stats: Promise<Stats>;
}

/** A text as a vector. */
export interface Embedding {
  /** Of length 1, so that the dot product of two is the cosine of their angle. */
  vector: Float32Array;
  /** The number of the text's tokens. */
  tokens: number;
}

/** Options of {@link Firelight.fit}, as in {@link LoadOptions}. */
export type FitOptions = Pick<LoadOptions, "context" | "kv" | "sequences" | "signal" | "cache" | "headers" | "hub">;

/** Whether a model fits the GPU. Browsers do not tell how much memory is free: compare `gpuBytes` with what you know. */
export type Fit =
  | {
      fits: true;
      /** Tokens of a conversation. */
      context: number;
      /** Bytes that the model would allocate on the GPU. */
      gpuBytes: number;
      /** What would be smaller or slower than usual. */
      notices: string[];
    }
  | {
      fits: false;
      /** What is too large, and what would help. */
      reason: string;
    };

/** What this browser can do. */
export interface Support {
  /** Whether a model can run. */
  webgpu: boolean;
  /** Why not. */
  reason?: string;
  /** The GPU's name. */
  adapter?: string;
  /** The kernels that would run. */
  tier?: string;
  /** Whether models can be cached between visits. */
  opfs: boolean;
}

/** A model on a GPU. */
export class Firelight {
  private constructor();
  /** Loads a model. Without a source: the demo model, `demo.gguf` beside the package's files. Bundlers do not copy it;
   *  there, pass the default export of "firelight/demo". */
  static load(source?: Source | null, options?: LoadOptions): Promise<Firelight>;
  /** Whether a model fits the GPU, from its header alone. The bytes that are read stay in the cache. */
  static fit(source?: Source | null, options?: FitOptions): Promise<Fit>;
  /** What this browser can do. Never rejects. */
  static support(): Promise<Support>;
  readonly info: ModelInfo;
  /** All messages of `onNotice`. */
  readonly notices: readonly string[];
  /** Answers a conversation, through the model's own template. */
  chat(messages: Message[], options?: ChatOptions): Answer;
  /** Continues a text. */
  complete(prompt: string, options?: GenerateOptions): Answer;
  /** The vectors of texts, for search and comparison. Use an embedding model: vectors of other models compare worse. A
   *  text may be a list of tokens. */
  embed(input: string | number[], options?: { signal?: AbortSignal }): Promise<Embedding>;
  embed(input: string[] | number[][], options?: { signal?: AbortSignal }): Promise<Embedding[]>;
  /** The tokens of a text, or of a conversation up to where the answer begins. `special`: whether special tokens are
   *  added and read in the text (default: true). */
  tokenize(input: string, options?: { special?: boolean }): Promise<number[]>;
  tokenize(input: Message[], options?: { tools?: Tool[]; addGenerationPrompt?: boolean }): Promise<number[]>;
  /** The text of tokens. */
  detokenize(tokens: number[]): Promise<string>;
  /** The model behind OpenAI's interface. */
  readonly client: OpenAI;
  /** OpenAI's HTTP interface, answered in the page: pass it to a library that takes a `fetch`. Only the end of an address
   *  matters: `/chat/completions`, `/completions`, `/embeddings`, `/models`. No host is contacted. */
  readonly fetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;
  /** Frees the GPU's memory and ends the worker. Unfinished answers reject. */
  destroy(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A model in the cache. */
export interface CachedModel {
  url: string;
  /** Bytes of the file. */
  total: number;
  /** Bytes that are cached; fewer than `total` after an interrupted download. */
  loaded: number;
  complete: boolean;
  /** When it was last used, in milliseconds since 1970. */
  used: number;
}

/** The models in the origin's private file system. */
export const cache: {
  list(): Promise<CachedModel[]>;
  /** Bytes used by models, and the origin's quota. */
  size(): Promise<{ used: number; quota: number }>;
  delete(url: string): Promise<void>;
  clear(): Promise<void>;
};

/** The kind of an error. */
export type ErrorCode =
  | "no-webgpu"
  | "no-adapter"
  | "device-lost"
  | "out-of-memory"
  | "does-not-fit"
  | "context-full"
  | "network"
  | "cors"
  | "http"
  | "no-range"
  | "bad-file"
  | "bad-argument"
  | "quota"
  | "destroyed"
  | "internal";

/** Every error except for aborts, which reject with the signal's reason, as fetch does. */
export class FirelightError extends Error {
  constructor(code: ErrorCode, message: string, hint?: string, options?: { cause?: unknown });
  readonly code: ErrorCode;
  /** What to do next. */
  readonly hint: string;
}

// OpenAI's interface, over one model.

/** Options of a request other than its body. */
export interface RequestOptions {
  signal?: AbortSignal;
}

/** The parameters of both kinds of requests. Names and meanings are OpenAI's; `top_k`, `min_p`,
 *  `repetition_penalty` and `ignore_eos` are the usual additions. Parameters that change nothing in an answer (`user`,
 *  `metadata`, `store`, `service_tier` ...) are accepted; all others are "bad-argument" errors. */
export interface SamplingParams {
  model?: string;
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  seed?: number | null;
  max_tokens?: number | null;
  stop?: string | string[] | null;
  logit_bias?: Record<string, number> | null;
  ignore_eos?: boolean | null;
  n?: number | null;
  stream_options?: { include_usage?: boolean } | null;
  user?: string;
}

/** A part of a message's content in OpenAI's format. Those that are not text are "bad-argument" errors. */
export type ChatCompletionContentPart =
  | TextPart
  | { type: "refusal"; refusal: string }
  | { type: "image_url"; image_url: object }
  | { type: "input_audio"; input_audio: object }
  | { type: "file"; file: object };

/** A message in OpenAI's format, as wide as in the `openai` package. */
export type ChatCompletionMessageParam =
  | {
      role: "system" | "developer" | "user" | "tool" | "function";
      content: string | ChatCompletionContentPart[] | null;
      name?: string;
      tool_call_id?: string;
    }
  | {
      role: "assistant";
      content?: string | ChatCompletionContentPart[] | null;
      reasoning_content?: string;
      refusal?: string | null;
      tool_calls?: (ToolCall | { id: string; type: "custom"; custom: object })[];
      function_call?: { name: string; arguments: string } | null;
      audio?: object | null;
      name?: string;
    };

/** The body of a chat request. */
export interface ChatCompletionParams extends SamplingParams {
  messages: ChatCompletionMessageParam[];
  stream?: boolean | null;
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  /** Custom tools are "bad-argument" errors. */
  tools?: (Tool | { type: "custom"; custom: object })[] | null;
  tool_choice?:
    | "none"
    | "auto"
    | "required"
    | { type: "function"; function: { name: string } }
    | { type: "allowed_tools"; allowed_tools: { mode: "auto" | "required"; tools: object[] } }
    | { type: "custom"; custom: object }
    | null;
  /** false: only the first call of an answer is given. */
  parallel_tool_calls?: boolean | null;
  response_format?:
    | { type: "text" }
    | { type: "json_object" }
    | {
        type: "json_schema";
        json_schema: { name?: string; strict?: boolean | null; description?: string; schema?: object };
      }
    | null;
  /** "none" turns reasoning off, if the model's template has a switch for that; anything else turns it on. */
  reasoning_effort?: string | null;
  chat_template_kwargs?: Record<string, unknown>;
}

/** The body of a completion request. */
export interface CompletionParams extends SamplingParams {
  prompt: string;
  stream?: boolean | null;
  logprobs?: number | null;
  echo?: boolean | null;
}

/** The body of an embedding request. */
export interface EmbeddingCreateParams {
  model?: string;
  /** Texts, or lists of tokens. */
  input: string | string[] | number[] | number[][];
  encoding_format?: "float" | "base64";
  /** Only the model's own number is supported. */
  dimensions?: number;
  user?: string;
}

/** The answer to an embedding request. In the format "base64" a vector is a text. */
export interface CreateEmbeddingResponse {
  object: "list";
  data: { object: "embedding"; index: number; embedding: number[] }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

/** Tokens of a request. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  completion_tokens_details: { reasoning_tokens: number };
}

/** Log-probabilities of a token of a chat's answer. */
export interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
  top_logprobs: { token: string; logprob: number; bytes: number[] | null }[];
}

/** Why a choice ended. */
export type FinishReason = "stop" | "length" | "tool_calls";

/** The answer to a chat request. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    message: {
      role: "assistant";
      content: string | null;
      refusal: null;
      reasoning_content?: string;
      tool_calls?: ToolCall[];
    };
    finish_reason: FinishReason;
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
  }[];
  usage: Usage;
}

/** A piece of a streamed answer. The last has `usage` and no choices, if `stream_options` asked for it. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: {
      role?: "assistant";
      content?: string;
      reasoning_content?: string;
      tool_calls?: {
        index: number;
        id?: string;
        type?: "function";
        function: { name?: string; arguments: string };
      }[];
    };
    finish_reason: FinishReason | null;
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
  }[];
  usage?: Usage | null;
}

/** Log-probabilities of a completion, one entry a token. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  text_offset: number[];
}

/** The answer to a completion request, or a piece of it. */
export interface Completion {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: {
    index: number;
    text: string;
    finish_reason: FinishReason | null;
    logprobs: CompletionLogprobs | null;
  }[];
  usage?: Usage | null;
}

/** A streamed answer. Leaving the loop, or `controller.abort()`, ends it. */
export interface Stream<T> extends AsyncIterable<T> {
  readonly controller: AbortController;
  toReadableStream(): ReadableStream<T>;
}

/** The model of a client, as OpenAI lists models. */
export interface ModelEntry {
  id: string;
  object: "model";
  created: number;
  owned_by: string;
}

/** A client with OpenAI's interface that answers from a model in this browser. */
export class OpenAI {
  constructor(model: Firelight);
  readonly chat: {
    readonly completions: {
      create(body: ChatCompletionParams & { stream: true }, options?: RequestOptions): Promise<Stream<ChatCompletionChunk>>;
      create(body: ChatCompletionParams & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
      create(body: ChatCompletionParams, options?: RequestOptions): Promise<ChatCompletion | Stream<ChatCompletionChunk>>;
    };
  };
  readonly completions: {
    create(body: CompletionParams & { stream: true }, options?: RequestOptions): Promise<Stream<Completion>>;
    create(body: CompletionParams & { stream?: false | null }, options?: RequestOptions): Promise<Completion>;
    create(body: CompletionParams, options?: RequestOptions): Promise<Completion | Stream<Completion>>;
  };
  readonly embeddings: {
    create(body: EmbeddingCreateParams, options?: RequestOptions): Promise<CreateEmbeddingResponse>;
  };
  readonly models: {
    list(): Promise<{ object: "list"; data: ModelEntry[] }>;
    retrieve(id: string): Promise<ModelEntry>;
  };
}

// The browser's Prompt API, over a model of your choice.

/** Whether a session is available at once, after a download, or not at all. */
export type Availability = "unavailable" | "downloadable" | "downloading" | "available";

/** How much answers vary. */
export type SamplingMode = "most-predictable" | "predictable" | "balanced" | "creative" | "most-creative";

/** A message of the Prompt API. */
export interface LanguageModelMessage {
  role: "system" | "user" | "assistant";
  content: string | { type: "text"; value: string }[];
}

/** One message of the user, or several messages. */
export type LanguageModelPrompt = string | LanguageModelMessage[];

/** A language and kind of input or output. */
export interface LanguageModelExpected {
  type: "text" | "image" | "audio" | "tool-call" | "tool-response";
  languages?: string[];
}

/** The options of `availability`. */
export interface LanguageModelCoreOptions {
  /** A loaded model, or a source of {@link Firelight.load}. Default: the demo model. Sessions of one source share the
   *  model. */
  model?: Firelight | Source | null;
  /** How to load it, if it is not loaded. */
  load?: LoadOptions;
  topK?: number;
  temperature?: number;
  samplingMode?: SamplingMode;
  expectedInputs?: LanguageModelExpected[];
  expectedOutputs?: LanguageModelExpected[];
}

/** Options of {@link LanguageModel.create}. */
export interface LanguageModelCreateOptions extends LanguageModelCoreOptions {
  signal?: AbortSignal;
  /** Called with a target of "downloadprogress" events, whose `loaded` goes from 0 to 1. */
  monitor?: (target: EventTarget) => void;
  initialPrompts?: LanguageModelMessage[];
}

/** Options of a prompt. */
export interface LanguageModelPromptOptions {
  signal?: AbortSignal;
  /** The format of the answer: JSON of a schema, or a text that a regular expression matches as a whole. */
  responseConstraint?: object | RegExp;
  /** The constraint is never put into the prompt. */
  omitResponseConstraintInput?: boolean;
  /** Not in the specification: the maximum number of tokens of the answer. */
  maxTokens?: number;
  /** Not in the specification: same seed, same answer. */
  seed?: number;
}

/** A session with the shape of the browsers' built-in `LanguageModel`: it remembers the conversation. When the context
 *  is full, the oldest exchange is dropped and "contextoverflow" is fired. Errors are DOMExceptions, as there. */
export class LanguageModel extends EventTarget {
  private constructor();
  static availability(options?: LanguageModelCoreOptions): Promise<Availability>;
  static create(options?: LanguageModelCreateOptions): Promise<LanguageModel>;
  static params(): Promise<{ defaultTopK: number; maxTopK: number; defaultTemperature: number; maxTemperature: number }>;
  prompt(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<string>;
  promptStreaming(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): ReadableStream<string>;
  /** Adds messages without asking for an answer. */
  append(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<void>;
  /** Tokens that a prompt would take. */
  measureContextUsage(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<number>;
  /** Tokens that the conversation takes. */
  readonly contextUsage: number;
  /** Tokens that it may take. */
  readonly contextWindow: number;
  oncontextoverflow: ((event: Event) => void) | null;
  /** The older name of `measureContextUsage`. */
  measureInputUsage(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<number>;
  /** The older name of `contextUsage`. */
  readonly inputUsage: number;
  /** The older name of `contextWindow`. */
  readonly inputQuota: number;
  /** The older name of `oncontextoverflow`; the event "quotaoverflow" is fired too. */
  onquotaoverflow: ((event: Event) => void) | null;
  readonly topK: number;
  readonly temperature: number;
  readonly samplingMode: SamplingMode | null;
  /** Another session with the same conversation. */
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  /** Ends the session. If it is the last session of a model that `create` loaded, the model is destroyed. */
  destroy(): void;
}
