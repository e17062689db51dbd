//! What happens to an answer, as front ends are told. Plain data, which may cross a channel or a worker's messages.

use serde::{Deserialize, Serialize};

use crate::session::{FinishReason, Timings};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AnswerEvent {
    /// The prompt is being read.
    Started {
        /// Tokens of the prompt that were in the cache from before.
        reused_tokens: usize,
    },
    /// More of the reasoning before the answer.
    Reasoning(String),
    /// More of the answer.
    Content(String),
    /// The model calls a tool; its arguments follow.
    ToolCall {
        /// Nine letters and digits, as Mistral's templates demand.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the arguments of the last call, a piece of a JSON object.
    Arguments(String),
    /// The arguments of the last call have ended.
    ToolCallEnd {
        /// Whether they are a whole JSON object: false if the answer ended within them.
        complete: bool,
    },
    /// A token of the answer. The text that it completes follows, or comes later.
    Token {
        /// The token; its log-probability is 0 if none was asked for.
        token: AnswerToken,
        /// The likeliest tokens in its place, best first, if log-probabilities were asked for.
        top: Option<Vec<AnswerToken>>,
    },
    /// The answer is complete.
    Finished(AnswerEnd),
}

/// A token with its log-probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerToken {
    /// The token.
    pub id: u32,
    /// Its text, which may be a part of a character only.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerEnd {
    /// Why.
    pub reason: FinishReason,
    /// Whether it has a complete tool call.
    pub tool_calls: bool,
    /// Tokens of the reasoning.
    pub reasoning_tokens: usize,
    /// Counts and times.
    pub timings: Timings,
}

impl AnswerEnd {
    /// Whether it ended because there was no more room.
    pub fn truncated(&self) -> bool {
        matches!(self.reason, FinishReason::MaxTokens | FinishReason::ContextFull)
    }

    /// The stop string that ended it.
    pub fn stop(&self) -> Option<&str> {
        match &self.reason {
            FinishReason::StopString(stop) => Some(stop),
            _ => None,
        }
    }
}
