//! The parts that OpenAI's chat completions and completions share.

use firelight::conversation::{AnswerEnd, AnswerToken, Conversation, Prompt, ResponseFormat, ToolChoice, check_tools};
use firelight::sampler::Sampling;
use serde_json::{Value, json};

use crate::server::answers::{Logprobs, Usage};
use crate::server::fields::Fields;
use crate::server::http_error::HttpError;
use crate::server::request::{AnswerRequest, random_id, sampling};
use crate::server::{Server, now};

/// The parameters of both kinds of completion.
pub struct CommonParams {
    model: String,
    sampling: Sampling,
    stop: Vec<String>,
    max_tokens: Option<usize>,
    pub n: usize,
    pub stream: bool,
    /// Whether a stream ends with the counts of tokens.
    pub usage_too: bool,
}

/// The most log-probabilities for each token.
const MOST_LOGPROBS: u32 = 20;

impl CommonParams {
    pub fn read(fields: &mut Fields) -> Result<Self, HttpError> {
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

    pub fn ask(self, prompts: Vec<Prompt>, logprobs: Option<u32>) -> AnswerRequest {
        AnswerRequest {
            model: self.model,
            prompts,
            choices: self.n,
            sampling: self.sampling.logprobs(logprobs),
            stop: self.stop,
            max_tokens: self.max_tokens,
            format: ResponseFormat::Text,
            keep_alive: None,
        }
    }
}

/// The error of a required field that is absent.
pub const MISSING: &str = "it is missing";

/// Checks the number of log-probabilities for each token.
pub fn likeliest(name: &str, n: usize) -> Result<u32, HttpError> {
    match u32::try_from(n) {
        Ok(n) if n <= MOST_LOGPROBS => Ok(n),
        _ => Err(HttpError::field(
            name,
            format!("at most {MOST_LOGPROBS} log-probabilities per token are supported, not {n}"),
        )),
    }
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

/// The fields of every message of a response.
pub struct CompletionHead {
    id: String,
    created: u64,
    model: String,
}

impl CompletionHead {
    pub fn new(server: &Server, ask: &AnswerRequest, prefix: &str) -> Result<Self, HttpError> {
        let entry = &server.registry.entries()[server.registry.find(&ask.model)?];
        Ok(CompletionHead { id: format!("{prefix}{}", random_id(12)), created: now(), model: entry.name.clone() })
    }

    pub fn message(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut message = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            message["usage"] = usage;
        }
        message
    }
}

pub fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": { "cached_tokens": usage.reused },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
    })
}

pub fn finish_reason(end: &AnswerEnd) -> &'static str {
    match end {
        end if end.truncated() => "length",
        end if end.tool_calls => "tool_calls",
        _ => "stop",
    }
}

/// A token and its most likely alternatives.
pub fn likely((token, top): &Logprobs) -> Value {
    let one =
        |t: &AnswerToken| json!({ "token": String::from_utf8_lossy(&t.bytes), "logprob": t.logprob, "bytes": t.bytes });
    let mut row = one(token);
    row["top_logprobs"] = top.iter().map(one).collect();
    row
}

/// A server-sent event without a name.
pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub const DONE: &str = "data: [DONE]\n\n";
