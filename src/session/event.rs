//! What goes into a session and what comes out: plain data, which may cross a channel or a worker's messages.

use serde::{Deserialize, Serialize};

use crate::sampler::{Sampling, TokenLogprobs};
use crate::send::BoxFnMutRef;

/// What to generate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// So many of the last tokens are the answer's already (its beginning was given out before a device was lost): it
    /// goes on behind them as if nothing had happened.
    pub answered: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Most tokens to generate; by default as many as the context holds.
    pub max_tokens: Option<usize>,
    /// Go on after the model says that it has finished.
    pub ignore_end: bool,
    /// Control tokens (`<|python_tag|>`) are written out in the answer's text; what ends it is not.
    pub special: bool,
}

/// Says which tokens may come next, given all of the answer so far: bit `t % 32` of word `t / 32` stands for token `t`,
/// missing words are 0. If none may, the answer ends. What a caller wants of an answer's form (a JSON schema, a
/// grammar) is thus no matter of the session.
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
    /// It was cancelled.
    Cancelled,
}

/// Counts and times of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of which this many were in the cache from before.
    pub reused_tokens: usize,
    /// Tokens generated, the one that ended the answer included.
    pub generated_tokens: usize,
    /// Until the first token.
    pub prompt_seconds: f64,
    /// From the first token to the last.
    pub decode_seconds: f64,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// It has its turn: its prompt is being read.
    Begun {
        /// Tokens of the prompt that were in the cache from before.
        reused_tokens: usize,
    },
    /// More of the answer.
    Text(String),
    /// The token behind the text (which may come later, or be empty).
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
    /// All there is of a text to be embedded.
    Embedding(Vec<f32>),
}
