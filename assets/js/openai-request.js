// Reads requests of OpenAI's interface. What cannot be done is a "bad-argument" error that names the field.

import { check, refuse } from "./options.js";

/** Fields that change nothing in an answer. */
const NEUTRAL = {
  model: "any",
  user: "any",
  metadata: "any",
  store: "any",
  service_tier: "any",
  safety_identifier: "any",
  prompt_cache_key: "any",
  prompt_cache_retention: "any",
  prompt_cache_options: "any",
  prediction: "any",
};
const SAMPLING = {
  ...NEUTRAL,
  temperature: "number",
  top_p: "number",
  top_k: "count",
  min_p: "number",
  repetition_penalty: "number",
  frequency_penalty: "number",
  presence_penalty: "number",
  seed: "count",
  max_tokens: "count",
  stop: "texts",
  logit_bias: "object",
  ignore_eos: "flag",
  n: "count",
  stream: "flag",
  stream_options: "object",
};
/** The fields of requests, by the method that takes them. */
const FIELDS = {
  "chat.completions.create": {
    ...SAMPLING,
    messages: "list",
    max_completion_tokens: "count",
    logprobs: "flag",
    top_logprobs: "count",
    tools: "list",
    tool_choice: "any",
    parallel_tool_calls: "flag",
    response_format: "object",
    reasoning_effort: "text",
    chat_template_kwargs: "object",
    modalities: "list",
    verbosity: "text",
  },
  "completions.create": { ...SAMPLING, prompt: "any", logprobs: "count", echo: "flag", best_of: "count" },
  "embeddings.create": { ...NEUTRAL, input: "any", encoding_format: "text", dimensions: "count" },
};
/** Fields that ask for something unsupported, and what to do instead. */
const UNSUPPORTED = {
  audio: "Answers are text.",
  web_search_options: "Pass tools.",
  functions: "Pass tools.",
  function_call: "Pass tool_choice.",
  moderation: "Answers are not moderated.",
  suffix: "A text is only continued at its end.",
};

/** Checks a request's fields, their kinds, and its options. */
export function checkRequest(what, body, options) {
  if (body === null || typeof body !== "object") refuse("The request must be an object.");
  for (const [name, instead] of Object.entries(UNSUPPORTED)) {
    if (Object.hasOwn(FIELDS[what], name) || !asks(body[name])) continue;
    refuse(`${name} is not supported.`, instead);
  }
  const read = Object.entries(body).filter(([name]) => !Object.hasOwn(UNSUPPORTED, name));
  check(what, Object.fromEntries(read), FIELDS[what]);
  check(`The second argument of ${what}`, options, { signal: "signal" });
  check("stream_options", body.stream_options ?? {}, { include_usage: "flag", include_obfuscation: "flag" });
  only(body, "n", (n) => n >= 1 && n <= 128, "Use an integer from 1 to 128.");
  only(body, "best_of", (best) => best === (body.n ?? 1), "Ask for n choices, and choose yourself.");
  only(body, "modalities", (kinds) => kinds.every((kind) => kind === "text"), "Answers are text.");
  only(body, "verbosity", (verbosity) => verbosity === "medium", "Ask for it in a message.");
}

function only(body, name, fits, hint) {
  if (body[name] != null && !fits(body[name])) refuse(`${name} cannot be ${JSON.stringify(body[name])}.`, hint);
}

/** Whether a value asks for anything. */
const asks = (value) => ![undefined, null, false, "", "none"].includes(value) && value.length !== 0;

/** The options of an answer that both kinds of requests have. */
export function samplingOf(body) {
  const of = (value) => value ?? undefined;
  return {
    temperature: of(body.temperature),
    topP: of(body.top_p),
    topK: of(body.top_k),
    minP: of(body.min_p),
    repetitionPenalty: of(body.repetition_penalty),
    frequencyPenalty: of(body.frequency_penalty),
    presencePenalty: of(body.presence_penalty),
    seed: of(body.seed),
    maxTokens: of(body.max_tokens),
    stop: of(body.stop),
    logitBias: of(body.logit_bias),
    ignoreEnd: of(body.ignore_eos),
  };
}

/** The options that only a chat has. */
export function chatOptionsOf(body) {
  if (body.top_logprobs != null && !body.logprobs) refuse("top_logprobs needs logprobs.", "Set logprobs: true.");
  const { tools, choice } = toolsOf(body);
  return {
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
    tools,
    toolChoice: choice,
    reasoning: body.reasoning_effort == null ? undefined : body.reasoning_effort !== "none",
    responseFormat: formatOf(body.response_format),
    templateVariables: body.chat_template_kwargs ?? undefined,
  };
}

/** The tools, of which a choice may allow some, and the choice. */
function toolsOf({ tools, tool_choice: choice }) {
  const other = tools?.find((tool) => tool?.type !== "function");
  if (other) refuse(`tools: there is no type ${JSON.stringify(other?.type)}.`, "Pass functions.");
  if (choice == null || typeof choice === "string") return { tools: tools ?? undefined, choice: choice ?? undefined };
  if (choice.type === "allowed_tools") {
    const { mode, tools: allowed = [] } = choice.allowed_tools ?? {};
    const names = allowed.map((tool) => tool.function?.name);
    return { tools: tools?.filter((tool) => names.includes(tool.function.name)), choice: mode };
  }
  const name = choice.function?.name;
  if (!name) refuse("tool_choice names no function.", 'Pass "auto", "none", "required" or a function.');
  return { tools, choice: { name } };
}

function formatOf(format) {
  if (format == null) return undefined;
  if (format.type === "text" || format.type === "json_object") return { type: format.type };
  if (format.type !== "json_schema") {
    const type = JSON.stringify(format.type);
    refuse(`response_format cannot be of type ${type}.`, "Use text, json_object or json_schema.");
  }
  const schema = format.json_schema?.schema;
  if (schema == null) refuse("response_format has no json_schema.schema.", "Pass a JSON schema.");
  return { type: "json_schema", schema };
}
