//! Conversations: from messages to a prompt, and from the text of an answer to reasoning, content and tool calls.
//!
//! [`Prompt::prepare`] renders messages and tools by the model's chat template and says how the answer is to be read
//! ([`OutputParser`]) and to what it is constrained ([`OutputRules`], compiled to a mask over the vocabulary by
//! `grammar`, feature `grammar`). An answer comes out as [`AnswerEvent`]s. Nothing here generates: `session` does.
//! It is independent of HTTP and JavaScript.

mod event;
#[cfg(feature = "grammar")]
pub mod grammar;
mod messages;
mod output;
mod prompt;
mod reader;
mod rules;
mod tool_call;
mod tool_format;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::setters::setters;

pub use event::{AnswerEnd, AnswerEvent, AnswerToken};
pub use messages::{check_tools, content_text, read_messages, tool_names, tool_result};
pub use output::OutputParser;
pub use prompt::{Prepared, RenderedPrompt, render};
pub use reader::AnswerReader;
pub use rules::{OutputRules, ReasoningRule};
pub use tool_call::complete_members;
pub use tool_format::ToolFormat;

/// The input of an answer: a conversation or a text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Prompt {
    /// A text to be continued. Special tokens in it are parsed, and BOS is added if the tokenizer adds it.
    Text(String),
    /// The same as token ids.
    Tokens(Vec<u32>),
    /// A conversation, through the model's chat template.
    Conversation(Conversation),
}

/// A conversation with messages in the format of chat templates; see [`read_messages`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Conversation {
    /// `{"role", "content", ...}`, oldest first.
    pub messages: Vec<Value>,
    /// `{"type": "function", "function": {"name", "description", "parameters"}}`
    pub tools: Vec<Value>,
    /// Whether the model calls a tool.
    pub tool_choice: ToolChoice,
    /// Whether the answer is a new message even if the last one is the assistant's; see [`Conversation::continues`].
    pub new_turn: bool,
    /// Whether the prompt ends after the last message, without the beginning of an answer: for counting tokens.
    pub without_answer: bool,
    /// Whether the model reasons before it answers, if its template has a switch for that.
    pub reasoning: Option<bool>,
    /// The current date, for templates that include it (`YYYY-MM-DD`, or with `THH:MM:SS`).
    pub date: Option<String>,
    /// More variables for the template.
    pub template_variables: Map<String, Value>,
}

setters!(Conversation {
    messages: Vec<Value>,
    tools: Vec<Value>,
    tool_choice: ToolChoice,
    new_turn: bool,
    without_answer: bool,
    reasoning: impl Into<Option<bool>>,
    date: impl Into<Option<String>>,
    template_variables: Map<String, Value>,
});

impl Conversation {
    /// These messages, without tools.
    pub fn new(messages: Vec<Value>) -> Self {
        Conversation { messages, ..Conversation::default() }
    }

    /// Whether the answer continues the last message: if that is a text of the assistant, unless a new turn is asked
    /// for.
    pub fn continues(&self) -> bool {
        let called = |message: &Value| message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
        let said = |message: &Value| message["role"] == "assistant" && !called(message);
        !self.new_turn && !self.without_answer && self.messages.last().is_some_and(said)
    }
}

/// Whether the model calls a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(String),
}

/// The format of an answer. The first text of a variant is the name of the request's field that asked for it, for error
/// messages; it may be empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// JSON of a schema.
    JsonSchema(String, Value),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text that a regular expression matches as a whole.
    Regex(String, String),
    /// A text of a Lark grammar.
    Lark(String, String),
}

impl ResponseFormat {
    /// The request's field that asked for it, if it is known.
    pub fn field(&self) -> Option<String> {
        match self {
            ResponseFormat::Text | ResponseFormat::Choice(_) => None,
            ResponseFormat::JsonSchema(field, _) | ResponseFormat::Regex(field, _) | ResponseFormat::Lark(field, _) => {
                Some(field.clone())
            }
        }
    }
}
