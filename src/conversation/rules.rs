//! The constraints on an answer: a response format, tool calls in the model's format, or either.

use serde_json::Value;

use super::{Conversation, ResponseFormat, ToolChoice, ToolFormat, tool_names};

/// The constraints on an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutputRules {
    /// The response format.
    pub format: ResponseFormat,
    /// Tools that may be called instead. If `tool_format` is [`ToolFormat::Forced`], one must be, and `format` is
    /// ignored.
    pub tools: Vec<Value>,
    /// The tool call format.
    pub tool_format: ToolFormat,
    /// Whether a call is written as name and arguments, in families whose older models put it into JSON or a code
    /// fence.
    pub bare: bool,
    /// The reasoning before the answer.
    pub reasoning: ReasoningRule,
}

/// The reasoning that comes before an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReasoningRule {
    /// None.
    #[default]
    None,
    /// The prompt has opened it.
    Prefilled,
    /// Within `<think>` and `</think>`.
    Tagged,
    /// A message of gpt-oss's.
    Harmony,
}

impl OutputRules {
    /// The rules for an answer, if there are any. `known` is the tool format of the model's chat template, and
    /// `template` the template's text.
    pub(super) fn of(
        chat: &Conversation,
        format: &ResponseFormat,
        known: Option<ToolFormat>,
        template: &str,
    ) -> Option<Self> {
        let reasoning = ReasoningRule::None;
        let bare = match known {
            Some(ToolFormat::Mistral) => template.contains("[ARGS]"),
            _ => !template.contains("```json"),
        };
        let named = |tool: &&Value| match &chat.tool_choice {
            ToolChoice::Named(name) => tool["function"]["name"] == name.as_str(),
            _ => true,
        };
        let tools: Vec<Value> = chat.tools.iter().filter(named).cloned().collect();
        match (&chat.tool_choice, format) {
            (ToolChoice::Auto, ResponseFormat::Text) => None,
            (ToolChoice::Auto, format) => {
                let tool_format = known.unwrap_or(ToolFormat::Hermes);
                Some(OutputRules { format: format.clone(), tools, tool_format, bare, reasoning })
            }
            (ToolChoice::Required | ToolChoice::Named(_), _) => {
                let (format, tool_format) = (ResponseFormat::Text, ToolFormat::Forced);
                Some(OutputRules { format, tools, tool_format, bare, reasoning })
            }
        }
    }

    /// Whether the answer may have the response format.
    pub(super) fn allows_format(&self) -> bool {
        self.tool_format != ToolFormat::Forced
    }

    /// The names of the tools that it may call.
    pub(super) fn tool_names(&self) -> Vec<String> {
        tool_names(&self.tools).into_iter().map(String::from).collect()
    }
}
