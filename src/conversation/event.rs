//! The events of an answer, for every front end. They are plain data, so they can cross channels and worker messages.

use serde::{Deserialize, Serialize};

use crate::session::{FinishReason, Timings};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum AnswerEvent {
    /// The prompt is being read.
    Started {
        /// Prompt tokens that came from the prefix cache.
        reused_tokens: usize,
    },
    /// More of the reasoning before the answer.
    Reasoning(String),
    /// More of the answer.
    Content(String),
    /// The model calls a tool; its arguments follow.
    ToolCall {
        /// Nine letters and digits: Mistral's templates require this form.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the arguments of the last call: a piece of a JSON object.
    Arguments(String),
    /// The last call's arguments are complete, or the answer ended within them.
    ToolCallEnd {
        /// Whether they are a complete JSON object.
        complete: bool,
    },
    /// A token of the answer. Its text follows, at once or with a later token.
    Token {
        /// The token; its log-probability is 0 unless log-probabilities were requested.
        token: AnswerToken,
        /// The most likely alternatives, best first, if log-probabilities were requested.
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
    /// Its text, which may be part of a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AnswerEnd {
    /// Why it ended.
    pub reason: FinishReason,
    /// Whether it has a complete tool call.
    pub tool_calls: bool,
    /// Tokens of the reasoning.
    pub reasoning_tokens: usize,
    /// Counts and times.
    pub timings: Timings,
}

impl AnswerEnd {
    /// The end of an answer without tool calls and reasoning.
    pub fn new(reason: FinishReason, timings: Timings) -> Self {
        AnswerEnd { reason, tool_calls: false, reasoning_tokens: 0, timings }
    }

    /// Whether a token limit or the context cut it off.
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
