//! What JavaScript asks, and what it is told: JSON with JavaScript's names.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::gpu::{Caps, Tier};
use crate::ops::KvType;
use crate::sampler::TokenLogprobs;
use crate::session::{Event, FinishReason, Request, SessionOptions, Timings};
use crate::template::{TemplateInput, begun_thought};
use crate::tokenizer::{Special, Tokenizer};
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
pub struct Settings {
    context: Option<u32>,
    kv: Option<String>,
    tier: Option<String>,
    sequences: Option<u32>,
    run_ahead: Option<u32>,
    /// Whether a device that is not known is measured; by default a real GPU is, if what is found can be kept.
    pub tune: Option<bool>,
    /// What was found about devices before, if it is kept.
    pub devices: Option<BTreeMap<String, String>>,
}

impl Settings {
    /// From JSON.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is something else, or a name in it is unknown.
    pub fn parse(json: &str) -> Result<Self> {
        let settings: Settings = parse(json)?;
        settings.tier()?;
        settings.kv()?;
        Ok(settings)
    }

    /// The tier that was asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none of its name.
    pub fn tier(&self) -> Result<Option<Tier>> {
        named("tier", &self.tier, Tier::from_name)
    }

    fn kv(&self) -> Result<Option<KvType>> {
        named("kv", &self.kv, KvType::from_name)
    }

    /// The session's options on an adapter.
    pub fn options(&self, caps: &Caps) -> SessionOptions {
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

/// What is asked: one of `messages`, `prompt` and `tokens`, and how to answer. What is left out has the library's
/// default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ask {
    messages: Option<Vec<Value>>,
    prompt: Option<String>,
    tokens: Option<Vec<u32>>,
    tools: Option<Vec<Value>>,
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

impl Ask {
    /// From JSON.
    ///
    /// # Errors
    /// [`Error::Usage`] if a field is of the wrong kind.
    pub fn parse(json: &str) -> Result<Self> {
        parse(json)
    }

    /// The request, and what its prompt has begun of the answer: some templates open its thought.
    ///
    /// # Errors
    /// [`Error::Text`] if the template or the tokenizer refuses; [`Error::Usage`] if nothing is asked.
    pub fn request(&self, model: &Model) -> Result<(Request, String)> {
        let (tokens, begun) = self.prompt(model)?;
        let request = Request {
            special: false,
            tokens,
            sampling: self.sampling()?,
            stop: self.stop.clone(),
            max_tokens: self.max_tokens,
            ignore_end: self.ignore_end,
            answered: 0,
        };
        Ok((request, begun))
    }

    /// The prompt's tokens.
    ///
    /// # Errors
    /// As [`Ask::request`].
    pub fn tokens(&self, model: &Model) -> Result<Vec<u32>> {
        Ok(self.prompt(model)?.0)
    }

    fn prompt(&self, model: &Model) -> Result<(Vec<u32>, String)> {
        match (&self.messages, &self.prompt, &self.tokens) {
            (Some(messages), None, None) => {
                let text = model.render_chat(TemplateInput {
                    messages: messages.clone(),
                    tools: self.tools.clone(),
                    add_generation_prompt: self.add_generation_prompt.unwrap_or(true),
                    date: self.date.clone(),
                    extra: self.template_variables.clone(),
                    ..Default::default()
                })?;
                Ok((model.tokenizer.encode(&text, Special::PARSE)?, begun_thought(&text).to_string()))
            }
            (None, Some(prompt), None) => {
                let special = Special { add: self.special.unwrap_or(true), parse: true };
                Ok((model.tokenizer.encode(prompt, special)?, String::new()))
            }
            (None, None, Some(tokens)) => Ok((tokens.clone(), String::new())),
            _ => Err(Error::Usage("a request has either messages, or a prompt, or tokens".into())),
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

/// An event as JavaScript gets it, if it is one that concerns an answer's text.
pub fn event(id: u64, event: Event, tokenizer: &Tokenizer) -> Option<Value> {
    Some(match event {
        Event::Begun { .. } | Event::Embedding(_) => return None,
        Event::Text(text) => json!({"id": id, "text": text}),
        Event::Token { id: token, logprobs: None } => json!({"id": id, "token": {"id": token}}),
        Event::Token { id: token, logprobs: Some(TokenLogprobs { logprob, top }) } => {
            let mut chosen = likely(token, logprob, tokenizer);
            chosen["top"] = top.into_iter().map(|(token, logprob)| likely(token, logprob, tokenizer)).collect();
            json!({"id": id, "token": chosen})
        }
        Event::Finished { reason, timings } => json!({"id": id, "finished": stats(reason, &timings)}),
    })
}

fn likely(token: u32, logprob: f32, tokenizer: &Tokenizer) -> Value {
    let bytes = tokenizer.bytes(token, true);
    json!({"id": token, "logprob": logprob, "text": String::from_utf8_lossy(&bytes), "bytes": bytes})
}

fn stats(reason: FinishReason, timings: &Timings) -> Value {
    let finish = match reason {
        FinishReason::End => "stop",
        FinishReason::StopString(_) => "stop-string",
        FinishReason::MaxTokens => "length",
        FinishReason::ContextFull => "context",
        FinishReason::Cancelled => "cancelled",
    };
    json!({
        "promptTokens": timings.prompt_tokens,
        "reusedTokens": timings.reused_tokens,
        "generatedTokens": timings.generated_tokens,
        "promptSeconds": timings.prompt_seconds,
        "decodeSeconds": timings.decode_seconds,
        "finish": finish,
    })
}
