//! Requests from JavaScript, and events to it: JSON with JavaScript's names.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::js_error::JsError;
use crate::conversation::{AnswerEnd, AnswerEvent, AnswerToken, Conversation, Prompt, ResponseFormat, ToolChoice};
use crate::conversation::{check_tools, read_messages};
use crate::engine::AnswerJob;
use crate::gpu::{Caps, GpuOptions, Tier, Tuning};
use crate::ops::KvType;
use crate::session::{FinishReason, SessionOptions};
use crate::tokenizer::Special;
use crate::{Error, Model, Result, Sampling};

/// A submit of a prompt's step may take so long, so that the page keeps its pace.
const SUBMIT_SECONDS: f64 = 0.03;
/// Rows of a prompt's step: between two of them a page can stop an answer.
const CHUNK: u32 = 256;
/// The same where a processor does the work.
const CHUNK_SOFTWARE: u32 = 64;
/// Steps queued before the first is read; a browser needs longer than a driver to say that one is done.
const RUN_AHEAD: u32 = 8;

/// How a model is opened.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OpenOptions {
    context: Option<u32>,
    kv: Option<String>,
    tier: Option<String>,
    sequences: Option<u32>,
    run_ahead: Option<u32>,
    /// Whether an unknown device is measured; by default a real GPU is, if the result can be kept.
    tune: Option<bool>,
    /// Earlier results about devices, if they are kept.
    pub devices: Option<BTreeMap<String, String>>,
}

impl OpenOptions {
    /// From JSON.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is something else, or a name in it is unknown.
    pub fn parse(json: &str) -> Result<Self> {
        let options: OpenOptions = parse(json)?;
        options.kv()?;
        Ok(options)
    }

    /// How the device is opened.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no tier of this name.
    pub fn gpu(&self) -> Result<GpuOptions> {
        let tuning = match self.tune {
            None => Tuning::Auto,
            Some(true) => Tuning::Always,
            Some(false) => Tuning::Cached,
        };
        Ok(GpuOptions { tier: named("tier", &self.tier, Tier::from_name)?, tuning, ..Default::default() })
    }

    fn kv(&self) -> Result<Option<KvType>> {
        named("kv", &self.kv, KvType::from_name)
    }

    /// The session's options on an adapter.
    pub fn session(&self, caps: &Caps) -> SessionOptions {
        SessionOptions {
            context: self.context,
            sequences: self.sequences.unwrap_or(1).clamp(1, 64),
            chunk: if caps.software { CHUNK_SOFTWARE } else { CHUNK },
            kv: self.kv().ok().flatten(),
            run_ahead: self.run_ahead.unwrap_or(RUN_AHEAD),
            submit_seconds: SUBMIT_SECONDS,
            ..Default::default()
        }
    }
}

fn named<T>(what: &str, name: &Option<String>, find: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    let Some(name) = name else { return Ok(None) };
    let unknown = || Error::Usage(format!("{what} cannot be {name:?}"));
    find(name).map(Some).ok_or_else(unknown)
}

/// A request: one of `messages`, `prompt` and `tokens`, and how to answer. Defaults are the library's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GenerateRequest {
    messages: Option<Vec<Value>>,
    prompt: Option<String>,
    tokens: Option<Vec<u32>>,
    tools: Vec<Value>,
    tool_choice: Value,
    response_format: Option<ResponseFormatRequest>,
    reasoning: Option<bool>,
    template_variables: Map<String, Value>,
    add_generation_prompt: Option<bool>,
    date: Option<String>,
    special: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<u64>,
    max_tokens: Option<usize>,
    stop: Vec<String>,
    logit_bias: BTreeMap<u32, f32>,
    logprobs: Option<u32>,
    ignore_end: bool,
}

/// The format that an answer must have.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
enum ResponseFormatRequest {
    Text,
    JsonObject,
    JsonSchema { schema: Value },
    Regex { pattern: String },
    Choice { choices: Vec<String> },
    Lark { grammar: String },
}

impl From<ResponseFormatRequest> for ResponseFormat {
    fn from(request: ResponseFormatRequest) -> Self {
        let field = "responseFormat".to_string();
        match request {
            ResponseFormatRequest::Text => ResponseFormat::Text,
            ResponseFormatRequest::JsonObject => ResponseFormat::JsonSchema(field, json!({"type": "object"})),
            ResponseFormatRequest::JsonSchema { schema } => ResponseFormat::JsonSchema(field, schema),
            ResponseFormatRequest::Regex { pattern } => ResponseFormat::Regex(field, pattern),
            ResponseFormatRequest::Choice { choices } => ResponseFormat::Choice(choices),
            ResponseFormatRequest::Lark { grammar } => ResponseFormat::Lark(field, grammar),
        }
    }
}

impl GenerateRequest {
    /// From JSON.
    ///
    /// # Errors
    /// [`Error::Usage`] if a field is of the wrong kind.
    pub fn parse(json: &str) -> Result<Self> {
        parse(json)
    }

    /// The answer to be generated; its grammar is not compiled.
    ///
    /// # Errors
    /// [`Error::Text`] if the template or the tokenizer refuses; [`Error::Usage`] if nothing is asked.
    pub fn job(&self, model: &Model) -> Result<AnswerJob> {
        let format = self.response_format.clone().map(ResponseFormat::from).unwrap_or_default();
        Ok(AnswerJob {
            prompt: self.prompt()?.prepare(model, &format, fits)?,
            sampling: self.sampling()?,
            stop: self.stop.clone(),
            max_tokens: self.max_tokens,
            ignore_end: self.ignore_end,
            grammar: None,
        })
    }

    /// The prompt's tokens.
    ///
    /// # Errors
    /// As [`GenerateRequest::job`].
    pub fn tokens(&self, model: &Model) -> Result<Vec<u32>> {
        match (&self.prompt, self.special) {
            (Some(prompt), Some(add)) => model.tokenizer.encode(prompt, Special { add, parse: true }),
            _ => Ok(self.prompt()?.prepare(model, &ResponseFormat::Text, fits)?.tokens),
        }
    }

    fn prompt(&self) -> Result<Prompt> {
        match (&self.messages, &self.prompt, &self.tokens) {
            (Some(messages), None, None) => {
                let conversation = Conversation {
                    messages: read_messages(messages.clone())?,
                    tools: self.tools.clone(),
                    tool_choice: self.tool_choice()?,
                    new_turn: true,
                    without_answer: self.add_generation_prompt == Some(false),
                    reasoning: self.reasoning,
                    date: self.date.clone(),
                    template_variables: self.template_variables.clone(),
                };
                check_tools(&conversation)?;
                Ok(Prompt::Conversation(conversation))
            }
            (None, Some(prompt), None) => Ok(Prompt::Text(prompt.clone())),
            (None, None, Some(tokens)) => Ok(Prompt::Tokens(tokens.clone())),
            _ => Err(Error::Usage("a request has either messages, or a prompt, or tokens".into())),
        }
    }

    /// `"auto"`, `"required"`, or `{"name": NAME}`.
    fn tool_choice(&self) -> Result<ToolChoice> {
        match (&self.tool_choice, self.tool_choice["name"].as_str()) {
            (Value::Null, _) => Ok(ToolChoice::Auto),
            (Value::String(word), _) if word == "auto" => Ok(ToolChoice::Auto),
            (Value::String(word), _) if word == "required" => Ok(ToolChoice::Required),
            (_, Some(name)) => Ok(ToolChoice::Named(name.into())),
            (other, None) => Err(Error::Usage(format!("toolChoice cannot be {other}"))),
        }
    }

    fn sampling(&self) -> Result<Sampling> {
        let default = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            seed: self.seed.unwrap_or(default.seed),
            logit_bias: self.logit_bias.iter().map(|(token, bias)| (*token, *bias)).collect(),
            logprobs: self.logprobs,
        };
        sampling.check()?;
        Ok(sampling)
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::Usage(format!("an option is of the wrong kind: {error}")))
}

/// Texts of every length are tokenized; their length in tokens is checked then.
fn fits(_: &str) -> Result<()> {
    Ok(())
}

/// An event as JavaScript gets it.
pub fn event(id: u64, event: AnswerEvent) -> Option<Value> {
    let piece = |piece: Value| json!({"id": id, "piece": piece});
    Some(match event {
        AnswerEvent::Started { .. } => return None,
        AnswerEvent::Content(text) => piece(json!({"type": "content", "text": text})),
        AnswerEvent::Reasoning(text) => piece(json!({"type": "reasoning", "text": text})),
        AnswerEvent::ToolCall { id, name } => piece(json!({"type": "tool-call", "id": id, "name": name})),
        AnswerEvent::Arguments(text) => piece(json!({"type": "tool-arguments", "text": text})),
        AnswerEvent::ToolCallEnd { complete } => piece(json!({"type": "tool-call-end", "complete": complete})),
        AnswerEvent::Token { token, top: None } => json!({"id": id, "token": {"id": token.id}}),
        AnswerEvent::Token { token, top: Some(top) } => {
            let mut chosen = token_json(token);
            chosen["top"] = top.into_iter().map(token_json).collect();
            json!({"id": id, "token": chosen})
        }
        AnswerEvent::Finished(end) => json!({"id": id, "finished": stats(&end)}),
    })
}

/// The vector of a text of so many tokens as JavaScript gets it.
pub fn embedded(id: u64, vector: &[f32], tokens: usize) -> Value {
    json!({"id": id, "vector": vector, "tokens": tokens})
}

/// The failure of an answer or an embedding as JavaScript gets it.
pub fn failed(id: u64, failure: &JsError) -> Value {
    json!({"id": id, "error": failure})
}

fn token_json(token: AnswerToken) -> Value {
    let text = String::from_utf8_lossy(&token.bytes);
    json!({"id": token.id, "logprob": token.logprob, "text": text, "bytes": token.bytes})
}

fn stats(end: &AnswerEnd) -> Value {
    let finish = match &end.reason {
        FinishReason::StopString(_) => "stop-string",
        FinishReason::MaxTokens => "length",
        FinishReason::ContextFull => "context",
        FinishReason::Cancelled => "cancelled",
        _ if end.tool_calls => "tool-calls",
        _ => "stop",
    };
    let timings = &end.timings;
    json!({
        "promptTokens": timings.prompt_tokens,
        "reusedTokens": timings.reused_tokens,
        "generatedTokens": timings.generated_tokens,
        "reasoningTokens": end.reasoning_tokens,
        "promptSeconds": timings.prompt_seconds,
        "decodeSeconds": timings.decode_seconds,
        "finish": finish,
    })
}
