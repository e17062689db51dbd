//! OpenAI's chat completions, completions, embeddings and models.

use std::collections::BTreeMap;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use firelight::conversation::{
    AnswerEnd, AnswerEvent, AnswerToken, Conversation, Prompt, ResponseFormat, ToolChoice, check_tools, read_messages,
};
use firelight::sampler::Sampling;
use serde_json::{Map, Value, json};

use super::answers::Logprobs;
use super::answers::{Answers, COMMENT, CollectedAnswer, EVENTS, StreamWriter, ToolCall, Usage, stream};
use super::fields::{Fields, integer};
use super::http_error::{Dialect, HttpError, json_response};
use super::ollama::seconds_rfc3339;
use super::registry::Entry;
use super::request::{AnswerRequest, random_id, sampling};
use super::response_format::response_format;
use super::{Server, now};

/// What both kinds of completion ask.
struct CommonParams {
    model: String,
    sampling: Sampling,
    stop: Vec<String>,
    max_tokens: Option<usize>,
    n: usize,
    stream: bool,
    /// Whether a stream ends with the counts of tokens.
    usage_too: bool,
}

struct ChatRequest {
    messages: Vec<Value>,
    common: CommonParams,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    /// Whether an answer may hold several calls.
    parallel: bool,
    format: ResponseFormat,
    logprobs: Option<u32>,
    reasoning_effort: Option<String>,
    chat_template_kwargs: Option<Map<String, Value>>,
    /// vLLM's words for what an answer behind a last message of the assistant is: more of that, or another message.
    continue_final_message: Option<bool>,
    add_generation_prompt: Option<bool>,
}

struct TextRequest {
    prompts: Vec<Prompt>,
    common: CommonParams,
    format: ResponseFormat,
    logprobs: Option<u32>,
}

/// Log-probabilities of the likeliest tokens, at most.
const MOST_LOGPROBS: u32 = 20;

impl CommonParams {
    fn read(fields: &mut Fields) -> Result<Self, HttpError> {
        // The older name, the newer one, and llama.cpp's.
        let (older, newer, other) =
            (fields.limit("max_tokens")?, fields.limit("max_completion_tokens")?, fields.limit("n_predict")?);
        Ok(CommonParams {
            model: fields.text("model")?.unwrap_or_default(),
            sampling: sampling(fields)?,
            stop: fields.texts("stop")?.unwrap_or_default(),
            max_tokens: newer.or(older).or(other),
            n: fields.count("n")?.unwrap_or(1),
            stream: fields.flag("stream")?.unwrap_or(false),
            usage_too: fields.inner("stream_options", "stream_options.")?.flag("include_usage")?.unwrap_or(false),
        })
    }

    fn ask(self, prompts: Vec<Prompt>, logprobs: Option<u32>) -> AnswerRequest {
        AnswerRequest {
            model: self.model,
            prompts,
            choices: self.n,
            sampling: Sampling { logprobs, ..self.sampling },
            stop: self.stop,
            max_tokens: self.max_tokens,
            format: ResponseFormat::Text,
            keep_alive: None,
        }
    }
}

impl ChatRequest {
    fn read(mut fields: Fields) -> Result<Self, HttpError> {
        let request = ChatRequest {
            messages: fields.list("messages")?.ok_or_else(|| fields.wrong("messages", MISSING))?,
            common: CommonParams::read(&mut fields)?,
            tools: fields.list("tools")?,
            tool_choice: fields.value("tool_choice"),
            parallel: fields.flag("parallel_tool_calls")?.unwrap_or(true),
            format: response_format(&mut fields)?,
            logprobs: chat_logprobs_asked(&mut fields)?,
            reasoning_effort: fields.text("reasoning_effort")?,
            chat_template_kwargs: fields.object("chat_template_kwargs")?,
            continue_final_message: fields.flag("continue_final_message")?,
            add_generation_prompt: fields.flag("add_generation_prompt")?,
        };
        if fields.texts("modalities")?.is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")) {
            return Err(fields.wrong("modalities", "answers are text"));
        }
        fields.done()?;
        Ok(request)
    }

    fn chat(&self) -> Result<Conversation, HttpError> {
        let mut chat = Conversation {
            messages: read_messages(self.messages.clone())?,
            tools: self.tools.clone().unwrap_or_default(),
            template_variables: self.chat_template_kwargs.clone().unwrap_or_default(),
            reasoning: self.reasoning_effort.as_ref().map(|effort| effort != "none"),
            ..Default::default()
        };
        choose_tools(&mut chat, self.tool_choice.as_ref())?;
        choose_continuing(&mut chat, self.continue_final_message, self.add_generation_prompt)?;
        Ok(chat)
    }
}

impl TextRequest {
    fn read(mut fields: Fields) -> Result<Self, HttpError> {
        let prompt = fields.value("prompt").ok_or_else(|| fields.wrong("prompt", MISSING))?;
        let prompts = prompts(&prompt).map_err(|e| fields.wrong("prompt", e))?;
        let common = CommonParams::read(&mut fields)?;
        if fields.count("best_of")?.is_some_and(|best| best != common.n) {
            return Err(fields.wrong("best_of", "it is not supported; send n"));
        }
        // Some clients write `false` for "none".
        fields.drop_false("logprobs");
        let logprobs = fields.count("logprobs")?.map(|n| likeliest("logprobs", n)).transpose()?;
        let format = response_format(&mut fields)?;
        fields.done()?;
        Ok(TextRequest { prompts, common, format, logprobs })
    }
}

/// Said of a field without which nothing can be done.
pub const MISSING: &str = "it is missing";

fn chat_logprobs_asked(fields: &mut Fields) -> Result<Option<u32>, HttpError> {
    let (wanted, top) = (fields.flag("logprobs")?, fields.count("top_logprobs")?.unwrap_or(0));
    let top = likeliest("top_logprobs", top)?;
    match wanted {
        Some(true) => Ok(Some(top)),
        _ if top > 0 => Err(fields.wrong("top_logprobs", "logprobs must be true for it")),
        _ => Ok(None),
    }
}

/// Checks for how many tokens log-probabilities are wanted.
pub fn likeliest(name: &str, n: usize) -> Result<u32, HttpError> {
    match u32::try_from(n) {
        Ok(n) if n <= MOST_LOGPROBS => Ok(n),
        _ => Err(HttpError::field(name, format!("at most {MOST_LOGPROBS} tokens are told, not {n}"))),
    }
}

/// `POST /v1/chat/completions`
pub async fn chat(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = ChatRequest::read(Fields::of(request).await?)?;
    let chat = asked.chat()?;
    let (wants_stream, usage_too, parallel) = (asked.common.stream, asked.common.usage_too, asked.parallel);
    let mut ask = asked.common.ask(vec![Prompt::Conversation(chat)], asked.logprobs);
    ask.format = asked.format;
    let head = CompletionHead::new(&server, &ask, "chatcmpl-")?;
    let choices = ask.choices;
    let answer = Answers::begin(server.engine.answer(ask)?, choices);
    let answer = async move { Ok(answer.await?.one_call(!parallel)) };
    if wants_stream {
        return stream(
            answer,
            ChatWriter {
                head,
                usage_too,
                begun: vec![false; choices],
                calls: vec![0; choices],
                logprobs: vec![Vec::new(); choices],
            },
        )
        .await;
    }
    let mut answer = answer.await?;
    let choices = answer.whole().await?;
    let choices: Vec<Value> = choices.into_iter().enumerate().map(chat_choice).collect();
    Ok(answer.json(&head.message("chat.completion", choices, Some(usage(answer.usage)))))
}

/// Reads `tool_choice`.
pub fn choose_tools(chat: &mut Conversation, choice: Option<&Value>) -> Result<(), HttpError> {
    match choice {
        None | Some(Value::Null) => {}
        Some(Value::String(word)) => match word.as_str() {
            "auto" => {}
            "none" => chat.tools.clear(),
            "required" => chat.tool_choice = ToolChoice::Required,
            other => return Err(HttpError::bad(format!("tool_choice {other:?} is none of none, auto, required"))),
        },
        Some(value) => match value.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => chat.tool_choice = ToolChoice::Named(name.into()),
            None => return Err(HttpError::bad("tool_choice names no function")),
        },
    }
    Ok(check_tools(chat)?)
}

/// Reads `continue_final_message` and `add_generation_prompt`.
fn choose_continuing(
    chat: &mut Conversation,
    continues: Option<bool>,
    generation: Option<bool>,
) -> Result<(), HttpError> {
    let name = if continues == Some(true) { "continue_final_message" } else { "add_generation_prompt" };
    if continues == Some(true) && generation == Some(true) {
        return Err(HttpError::field(name, "add_generation_prompt excludes it"));
    }
    let wanted = continues == Some(true) || generation == Some(false);
    chat.new_turn = continues == Some(false) || generation == Some(true);
    match wanted && !chat.continues() {
        true => Err(HttpError::field(name, "the last message is no text of the assistant, and cannot be continued")),
        false => Ok(()),
    }
}

/// `POST /v1/completions`
pub async fn completions(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = TextRequest::read(Fields::of(request).await?)?;
    let (wants_stream, usage_too) = (asked.common.stream, asked.common.usage_too);
    let mut ask = asked.common.ask(asked.prompts, asked.logprobs);
    // OpenAI's own default, which clients rely on to get a short answer.
    ask.max_tokens = ask.max_tokens.or(Some(16));
    ask.format = asked.format;
    let head = CompletionHead::new(&server, &ask, "cmpl-")?;
    let choices = ask.choices;
    let answer = Answers::begin(server.engine.answer(ask)?, choices);
    if wants_stream {
        return stream(answer, TextWriter { head, usage_too, logprobs: Default::default() }).await;
    }
    let mut answer = answer.await?;
    let choices = answer.whole().await?;
    let choices: Vec<Value> = choices.into_iter().enumerate().map(text_choice).collect();
    Ok(answer.json(&head.message("text_completion", choices, Some(usage(answer.usage)))))
}

/// A text, token ids, or a list of either.
pub fn prompts(value: &Value) -> Result<Vec<Prompt>, &'static str> {
    let wrong = || "a string, a list of token ids, or a list of these is expected";
    let ids = |list: &Vec<Value>| -> Option<Vec<u32>> { list.iter().map(|v| integer(v)?.try_into().ok()).collect() };
    let one = |value: &Value| match value {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(list) => ids(list).map(Prompt::Tokens).ok_or_else(wrong),
        _ => Err(wrong()),
    };
    match value {
        Value::Array(list) if list.first().is_some_and(|first| !first.is_number()) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// What every message of a response says.
struct CompletionHead {
    id: String,
    created: u64,
    model: String,
}

impl CompletionHead {
    fn new(server: &Server, ask: &AnswerRequest, prefix: &str) -> Result<Self, HttpError> {
        let entry = &server.registry.entries()[server.registry.find(&ask.model)?];
        Ok(CompletionHead { id: format!("{prefix}{}", random_id(12)), created: now(), model: entry.name.clone() })
    }

    fn message(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut message = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            message["usage"] = usage;
        }
        message
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": { "cached_tokens": usage.reused },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
    })
}

fn finish_reason(end: &AnswerEnd) -> &'static str {
    match end {
        end if end.truncated() => "length",
        end if end.tool_calls => "tool_calls",
        _ => "stop",
    }
}

fn chat_choice((index, choice): (usize, CollectedAnswer)) -> Value {
    let said_nothing = !choice.calls.is_empty() && choice.content.trim().is_empty();
    let mut message = json!({
        "role": "assistant",
        "content": if said_nothing { Value::Null } else { choice.content.into() },
        "refusal": null,
    });
    if !choice.reasoning.is_empty() {
        message["reasoning_content"] = choice.reasoning.into();
    }
    if !choice.calls.is_empty() {
        message["tool_calls"] = choice.calls.iter().map(call).collect();
    }
    let logprobs = match choice.logprobs.is_empty() {
        true => Value::Null,
        false => chat_logprobs(&choice.logprobs),
    };
    json!({
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": choice.end.as_ref().map(finish_reason),
    })
}

fn call(call: &ToolCall) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

fn chat_logprobs(tokens: &[Logprobs]) -> Value {
    json!({ "content": tokens.iter().map(likely).collect::<Value>(), "refusal": null })
}

/// A token, and the likeliest in its place.
pub fn likely((token, top): &Logprobs) -> Value {
    let one =
        |t: &AnswerToken| json!({ "token": String::from_utf8_lossy(&t.bytes), "logprob": t.logprob, "bytes": t.bytes });
    let mut row = one(token);
    row["top_logprobs"] = top.iter().map(one).collect();
    row
}

fn text_choice((index, choice): (usize, CollectedAnswer)) -> Value {
    let logprobs = match choice.logprobs.is_empty() {
        true => Value::Null,
        false => text_logprobs(&choice.logprobs, &mut 0),
    };
    json!({
        "index": index,
        "text": choice.content,
        "logprobs": logprobs,
        "finish_reason": choice.end.as_ref().map(finish_reason),
    })
}

/// The older shape: lists side by side. `offset` is where the first token's text begins.
fn text_logprobs(tokens: &[Logprobs], offset: &mut usize) -> Value {
    let text = |t: &AnswerToken| String::from_utf8_lossy(&t.bytes).into_owned();
    let mut offsets = Vec::new();
    for (token, _) in tokens {
        offsets.push(*offset);
        *offset += text(token).chars().count();
    }
    let top = |(_, top): &Logprobs| top.iter().map(|t| (text(t), t.logprob.into())).collect::<Map<_, Value>>();
    json!({
        "tokens": tokens.iter().map(|(t, _)| text(t)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|(t, _)| t.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// A server-sent event without a name.
fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";

struct ChatWriter {
    head: CompletionHead,
    usage_too: bool,
    /// Whether an answer's role has been told, how many calls it has made, and which log-probabilities wait for text.
    begun: Vec<bool>,
    calls: Vec<usize>,
    logprobs: Vec<Vec<Logprobs>>,
}

impl ChatWriter {
    fn chunk(&mut self, index: usize, mut delta: Value, finish: Option<&str>) -> String {
        if !std::mem::replace(&mut self.begun[index], true) {
            delta["role"] = "assistant".into();
        }
        let waiting = std::mem::take(&mut self.logprobs[index]);
        let logprobs = if waiting.is_empty() { Value::Null } else { chat_logprobs(&waiting) };
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        event(&self.head.message("chat.completion.chunk", vec![choice], None))
    }
}

impl StreamWriter for ChatWriter {
    const TYPE: &'static str = EVENTS;

    fn waiting(&self) -> String {
        COMMENT.into()
    }

    fn begin(&mut self, _: &Answers) -> String {
        (0..self.begun.len()).map(|i| self.chunk(i, json!({ "content": "" }), None)).collect()
    }

    fn part(&mut self, _: Usage, choice: usize, part: AnswerEvent) -> String {
        match part {
            AnswerEvent::Content(text) => self.chunk(choice, json!({ "content": text }), None),
            AnswerEvent::Reasoning(text) => self.chunk(choice, json!({ "reasoning_content": text }), None),
            AnswerEvent::ToolCall { id, name } => {
                let mut call = call(&ToolCall::new(id, name));
                call["index"] = self.calls[choice].into();
                self.calls[choice] += 1;
                self.chunk(choice, json!({ "tool_calls": [call] }), None)
            }
            AnswerEvent::Arguments(text) => {
                let index = self.calls[choice].saturating_sub(1);
                let call = json!({ "index": index, "function": { "arguments": text } });
                self.chunk(choice, json!({ "tool_calls": [call] }), None)
            }
            AnswerEvent::Started { .. } | AnswerEvent::ToolCallEnd { .. } => String::new(),
            AnswerEvent::Token { token, top } => {
                self.logprobs[choice].push((token, top.unwrap_or_default()));
                String::new()
            }
            AnswerEvent::Finished(end) => self.chunk(choice, json!({}), Some(finish_reason(&end))),
        }
    }

    fn end(&mut self, answer: &Answers) -> String {
        let usage =
            self.usage_too.then(|| self.head.message("chat.completion.chunk", vec![], Some(usage(answer.usage))));
        usage.map(|usage| event(&usage)).unwrap_or_default() + DONE
    }

    fn fail(&mut self, failure: &HttpError) -> String {
        event(&failure.body(Dialect::OpenAi))
    }
}

struct TextWriter {
    head: CompletionHead,
    usage_too: bool,
    /// By answer: where the next token's text begins, and the tokens that wait for text.
    logprobs: BTreeMap<usize, (usize, Vec<Logprobs>)>,
}

impl TextWriter {
    fn chunk(&mut self, index: usize, text: &str, finish: Option<&str>) -> String {
        let (offset, waiting) = self.logprobs.entry(index).or_default();
        let waiting = std::mem::take(waiting);
        let logprobs = if waiting.is_empty() { Value::Null } else { text_logprobs(&waiting, offset) };
        let choice = json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish });
        event(&self.head.message("text_completion", vec![choice], None))
    }
}

impl StreamWriter for TextWriter {
    const TYPE: &'static str = EVENTS;

    fn waiting(&self) -> String {
        COMMENT.into()
    }

    fn begin(&mut self, _: &Answers) -> String {
        String::new()
    }

    fn part(&mut self, _: Usage, choice: usize, part: AnswerEvent) -> String {
        match part {
            AnswerEvent::Content(text) | AnswerEvent::Reasoning(text) => self.chunk(choice, &text, None),
            AnswerEvent::Started { .. }
            | AnswerEvent::ToolCall { .. }
            | AnswerEvent::Arguments(_)
            | AnswerEvent::ToolCallEnd { .. } => String::new(),
            AnswerEvent::Token { token, top } => {
                self.logprobs.entry(choice).or_default().1.push((token, top.unwrap_or_default()));
                String::new()
            }
            AnswerEvent::Finished(end) => self.chunk(choice, "", Some(finish_reason(&end))),
        }
    }

    fn end(&mut self, answer: &Answers) -> String {
        let usage = self.usage_too.then(|| self.head.message("text_completion", vec![], Some(usage(answer.usage))));
        usage.map(|usage| event(&usage)).unwrap_or_default() + DONE
    }

    fn fail(&mut self, failure: &HttpError) -> String {
        event(&failure.body(Dialect::OpenAi))
    }
}

/// `GET /v1/models`
pub async fn models(State(server): State<Server>) -> Response {
    let list: Vec<Value> = server.registry.entries().iter().map(describe).collect();
    json_response(&json!({ "object": "list", "data": list, "has_more": false }))
}

/// `GET /v1/models/NAME`
pub async fn model(State(server): State<Server>, Path(name): Path<String>) -> Result<Response, HttpError> {
    Ok(json_response(&describe(&server.registry.entries()[server.registry.find(&name)?])))
}

fn describe(entry: &Entry) -> Value {
    json!({
        "id": entry.name, "object": "model", "created": entry.modified, "owned_by": "firelight",
        // The same in Anthropic's words.
        "type": "model", "display_name": entry.name, "created_at": seconds_rfc3339(entry.modified),
    })
}

#[cfg(test)]
pub fn read_chat(body: Value) -> Result<Conversation, HttpError> {
    ChatRequest::read(Fields::new(body)?)?.chat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_texts_or_ids_or_lists() {
        let read = |value| prompts(&value).map(|p| p.len());
        assert_eq!(read(json!("a")).unwrap(), 1);
        assert_eq!(read(json!([1, 2])).unwrap(), 1);
        assert_eq!(read(json!(["a", [1, 2]])).unwrap(), 2);
        for bad in [json!(1), json!([1, "a"]), json!([-1]), json!([[1.5]]), json!(null)] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
