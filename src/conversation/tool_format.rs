//! The tool call format of each model family: the markers around calls, and the text between. Pure.

use serde_json::{Map, Value};

/// A model's tool call format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolFormat {
    /// No parsing, for the continuation of a text.
    #[default]
    Text,
    /// An answer without tool calls, which may begin with reasoning.
    Chat,
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` (Hermes, Qwen 2.5 and 3).
    Hermes,
    /// gpt-oss's messages, which the tokenizer writes in Hermes's format.
    Harmony,
    /// `{"name": ..., "parameters": {...}}` as the whole answer, or after `<|python_tag|>` (Llama 3).
    Llama3,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`, or `[TOOL_CALLS]name[ARGS]{...}` (Mistral).
    Mistral,
    /// `<｜tool▁calls▁begin｜>` and so on (DeepSeek).
    DeepSeek,
    /// The whole answer is one call, by a constraint.
    Forced,
}

/// A tool's name, and the arguments of its call.
type ParsedCall = (String, Map<String, Value>);

/// DeepSeek's marks: before all calls, before each, after its name, after it, and after all.
pub(super) const DEEPSEEK_BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub(super) const DEEPSEEK_CALL: &str = "<｜tool▁call▁begin｜>";
pub(super) const DEEPSEEK_NAME: &str = "<｜tool▁sep｜>";
pub(super) const DEEPSEEK_ENDED: &str = "<｜tool▁call▁end｜>";
pub(super) const DEEPSEEK_END: &str = "<｜tool▁calls▁end｜>";

impl ToolFormat {
    /// The format of a model, by the marks in its chat template; `None` if there are none.
    pub fn of_template(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        match () {
            () if has("<|channel|>") && has("<|message|>") => Some(ToolFormat::Harmony),
            () if has("[TOOL_CALLS]") => Some(ToolFormat::Mistral),
            () if has(DEEPSEEK_BEGIN) => Some(ToolFormat::DeepSeek),
            () if has("<tool_call>") => Some(ToolFormat::Hermes),
            () if has("<|python_tag|>") || (has("tools") && has("\"parameters\"")) => Some(ToolFormat::Llama3),
            () => None,
        }
    }

    /// An example of a call, for the instructions to models whose template has no tools.
    pub(super) fn example(self) -> &'static str {
        match self {
            ToolFormat::Llama3 => "{\"name\": NAME, \"parameters\": {...}}",
            ToolFormat::Mistral => "[TOOL_CALLS][{\"name\": NAME, \"arguments\": {...}}]",
            ToolFormat::DeepSeek => {
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{...}\n\
                 ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
            }
            _ => "<tool_call>{\"name\": NAME, \"arguments\": {...}}</tool_call>",
        }
    }

    /// The mark that opens a call.
    pub(super) fn open(self) -> Option<&'static str> {
        match self {
            ToolFormat::Hermes | ToolFormat::Harmony => Some("<tool_call>"),
            ToolFormat::Llama3 => Some("<|python_tag|>"),
            ToolFormat::Mistral => Some("[TOOL_CALLS]"),
            ToolFormat::DeepSeek => Some(DEEPSEEK_BEGIN),
            ToolFormat::Text | ToolFormat::Chat | ToolFormat::Forced => None,
        }
    }

    /// The mark that closes a call; `None` if the end of the answer does.
    pub(super) fn close(self) -> Option<&'static str> {
        match self {
            ToolFormat::Hermes | ToolFormat::Harmony => Some("</tool_call>"),
            ToolFormat::DeepSeek => Some(DEEPSEEK_END),
            _ => None,
        }
    }

    /// The calls between the marks, each with its arguments; `None` if the text has another form.
    pub(super) fn calls(self, text: &str) -> Option<Vec<ParsedCall>> {
        let calls: Option<Vec<ParsedCall>> = match self {
            ToolFormat::Mistral if !text.trim_start().starts_with('[') => {
                text.split("[TOOL_CALLS]").map(named).collect()
            }
            ToolFormat::DeepSeek => text.split(DEEPSEEK_CALL).skip(1).map(deepseek).collect(),
            _ => objects(text)?.into_iter().map(call).collect(),
        };
        calls.filter(|calls| !calls.is_empty())
    }
}

/// JSON objects one after another, or in arrays, with white space or semicolons between.
fn objects(text: &str) -> Option<Vec<Value>> {
    let (mut rest, mut all) = (text, Vec::new());
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        if rest.is_empty() {
            return Some(all);
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next()?.ok()? {
            Value::Array(values) => all.extend(values),
            value => all.push(value),
        }
        rest = &rest[values.byte_offset()..];
    }
}

/// `{"name": ..., "arguments": {...}}`
fn call(value: Value) -> Option<ParsedCall> {
    let Value::Object(mut object) = value else { return None };
    let Some(Value::String(name)) = object.remove("name") else { return None };
    let arguments = object.remove("arguments").or_else(|| object.remove("parameters")).unwrap_or(Value::Null);
    let arguments = match arguments {
        Value::Object(arguments) => arguments,
        Value::Null => Map::new(),
        Value::String(text) => serde_json::from_str(&text).ok()?,
        _ => return None,
    };
    (!name.is_empty()).then_some((name, arguments))
}

/// `name[CALL_ID]id[ARGS]{...}`
fn named(text: &str) -> Option<ParsedCall> {
    let (head, _) = text.split_once('{')?;
    let name = head.split('[').next().unwrap_or_default().trim();
    let arguments = serde_json::from_str(text[head.len()..].trim()).ok()?;
    (!name.is_empty()).then(|| (name.into(), arguments))
}

/// ``function<｜tool▁sep｜>name\n```json\n{...}\n```<｜tool▁call▁end｜>``, or without the word and the fence.
fn deepseek(text: &str) -> Option<ParsedCall> {
    let (head, rest) = text.split_once(DEEPSEEK_NAME)?;
    let (name, rest) = if head.trim() == "function" { rest.split_once('\n')? } else { (head, rest) };
    let json = rest.split(DEEPSEEK_ENDED).next()?.trim();
    let json = json.trim_start_matches("```json").trim_end_matches("```");
    Some((name.trim().into(), serde_json::from_str(json.trim()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_reveal_their_format() {
        let of = ToolFormat::of_template;
        assert_eq!(of("{% if tools %}<tool_call>"), Some(ToolFormat::Hermes));
        assert_eq!(of("{% if tools %}[TOOL_CALLS]"), Some(ToolFormat::Mistral));
        assert_eq!(of("{% if tools %}<|start|>{{ role }}<|channel|>final<|message|>"), Some(ToolFormat::Harmony));
        assert_eq!(of("{{ tools }}"), None);
        assert_eq!(of("\"parameters\""), None);
    }
}
