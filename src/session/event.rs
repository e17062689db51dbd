//! Requests and events: plain data that can be sent through a channel or in a worker's messages.

use serde::{Deserialize, Serialize};

use crate::sampler::{Sampling, TokenLogprobs};
use crate::send::BoxFnMutRef;
use crate::setters::setters;

/// A request for an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Request {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// How many trailing tokens of `tokens` were already generated. Used to resume an answer after its device was lost.
    pub answered: usize,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Most tokens to generate; by default as many as the context holds.
    pub max_tokens: Option<usize>,
    /// Whether to continue after an end token.
    pub ignore_end: bool,
    /// Whether control tokens (`<|python_tag|>`) are part of the text. End tokens never are.
    pub special: bool,
}

impl Request {
    /// A request to continue these tokens, with the default sampling and as long as the context allows.
    pub fn new(tokens: Vec<u32>) -> Self {
        Request { tokens, ..Request::default() }
    }
}

setters!(Request {
    tokens: Vec<u32>,
    answered: usize,
    sampling: Sampling,
    stop: Vec<String>,
    max_tokens: impl Into<Option<usize>>,
    ignore_end: bool,
    special: bool,
});

/// Returns the tokens that may follow the answer so far, as a bit mask: token `t` is bit `t % 32` of word `t / 32`;
/// missing words are 0. If no token may follow, the answer ends. JSON schemas and grammars are constraints; the session
/// does not know them.
pub type Constraint = BoxFnMutRef<[u32], Vec<u32>>;

/// A request's number.
pub type RequestId = u64;

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model generated an end token, or its constraint allows no further token.
    End,
    /// The text reached this string of [`Request::stop`].
    StopString(String),
    /// `max_tokens` was reached.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The request was cancelled.
    Cancelled,
}

/// Counts and times of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were in the prefix cache.
    pub reused_tokens: usize,
    /// Generated tokens, including the one that ended the answer.
    pub generated_tokens: usize,
    /// From the request to the first token.
    pub prompt_seconds: f64,
    /// From the first token to the last.
    pub decode_seconds: f64,
}

/// An event of a request, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// Its prefill begins.
    Begun {
        /// Tokens of the prompt that are in the prefix cache.
        reused_tokens: usize,
    },
    /// More of the answer.
    Text(String),
    /// The next token. Its text follows in the same or a later [`Event::Text`], or it has none.
    Token {
        /// Its id.
        id: u32,
        /// Log-probabilities, if the request asks for them.
        logprobs: Option<TokenLogprobs>,
    },
    /// The answer is complete.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Counts and times.
        timings: Timings,
    },
    /// The vector of an embedded text; its only event.
    Embedding(Vec<f32>),
}
