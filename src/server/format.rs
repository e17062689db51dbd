//! How each family of models writes its calls of tools: the marks around them, and what stands between. Pure.

use serde_json::{Map, Value};

use super::reply::Part;

/// How a model writes down that it calls a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// There is nothing to look for: a text that goes on.
    #[default]
    Text,
    /// An answer that may think first, and calls nothing.
    Chat,
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` (Hermes, Qwen 2.5 and 3).
    Hermes,
    /// gpt-oss's messages, which the tokenizer tells in Hermes's words.
    Harmony,
    /// `{"name": ..., "parameters": {...}}` as the whole answer, or behind `<|python_tag|>` (Llama 3).
    Llama3,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`, or `[TOOL_CALLS]name[ARGS]{...}` (Mistral).
    Mistral,
    /// `<｜tool▁calls▁begin｜>` and so on (DeepSeek).
    DeepSeek,
    /// The whole answer is one call: it was made so.
    Forced,
}

/// DeepSeek's marks: before all calls, before each, behind its name, behind it, and behind all.
pub const DEEPSEEK_BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub const DEEPSEEK_CALL: &str = "<｜tool▁call▁begin｜>";
pub const DEEPSEEK_NAME: &str = "<｜tool▁sep｜>";
pub const DEEPSEEK_ENDED: &str = "<｜tool▁call▁end｜>";
pub const DEEPSEEK_END: &str = "<｜tool▁calls▁end｜>";

impl Format {
    /// The format of a model, by what its template mentions. `None` if it mentions none.
    pub fn of_template(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        match () {
            () if has("<|channel|>") && has("<|message|>") => Some(Format::Harmony),
            () if has("[TOOL_CALLS]") => Some(Format::Mistral),
            () if has(DEEPSEEK_BEGIN) => Some(Format::DeepSeek),
            () if has("<tool_call>") => Some(Format::Hermes),
            () if has("<|python_tag|>") || (has("tools") && has("\"parameters\"")) => Some(Format::Llama3),
            () => None,
        }
    }

    /// How a call is written, for models that have to be told.
    pub fn example(self) -> &'static str {
        match self {
            Format::Llama3 => "{\"name\": NAME, \"parameters\": {...}}",
            Format::Mistral => "[TOOL_CALLS][{\"name\": NAME, \"arguments\": {...}}]",
            Format::DeepSeek => {
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{...}\n\
                 ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
            }
            _ => "<tool_call>{\"name\": NAME, \"arguments\": {...}}</tool_call>",
        }
    }

    /// What opens a call.
    pub fn open(self) -> Option<&'static str> {
        match self {
            Format::Hermes | Format::Harmony => Some("<tool_call>"),
            Format::Llama3 => Some("<|python_tag|>"),
            Format::Mistral => Some("[TOOL_CALLS]"),
            Format::DeepSeek => Some(DEEPSEEK_BEGIN),
            Format::Text | Format::Chat | Format::Forced => None,
        }
    }

    /// What closes it, if not the end of the answer.
    pub fn close(self) -> Option<&'static str> {
        match self {
            Format::Hermes | Format::Harmony => Some("</tool_call>"),
            Format::DeepSeek => Some(DEEPSEEK_END),
            _ => None,
        }
    }

    /// The calls between the marks; `None` if it is not what it looked like.
    pub fn calls(self, text: &str) -> Option<Vec<Part>> {
        let calls: Option<Vec<Part>> = match self {
            Format::Mistral if !text.trim_start().starts_with('[') => text.split("[TOOL_CALLS]").map(named).collect(),
            Format::DeepSeek => text.split(DEEPSEEK_CALL).skip(1).map(deepseek).collect(),
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
fn call(value: Value) -> Option<Part> {
    let Value::Object(mut object) = value else { return None };
    let Some(Value::String(name)) = object.remove("name") else { return None };
    let arguments = object.remove("arguments").or_else(|| object.remove("parameters")).unwrap_or(Value::Null);
    let arguments = match arguments {
        Value::Object(arguments) => arguments,
        Value::Null => Map::new(),
        Value::String(text) => serde_json::from_str(&text).ok()?,
        _ => return None,
    };
    (!name.is_empty()).then_some(Part::Call { name, arguments })
}

/// `name[CALL_ID]id[ARGS]{...}`
fn named(text: &str) -> Option<Part> {
    let (head, _) = text.split_once('{')?;
    let name = head.split('[').next().unwrap_or_default().trim();
    let arguments = serde_json::from_str(text[head.len()..].trim()).ok()?;
    (!name.is_empty()).then(|| Part::Call { name: name.into(), arguments })
}

/// ``function<｜tool▁sep｜>name\n```json\n{...}\n```<｜tool▁call▁end｜>``, or without the word and the fence.
fn deepseek(text: &str) -> Option<Part> {
    let (head, rest) = text.split_once(DEEPSEEK_NAME)?;
    let (name, rest) = if head.trim() == "function" { rest.split_once('\n')? } else { (head, rest) };
    let json = rest.split(DEEPSEEK_ENDED).next()?.trim();
    let json = json.trim_start_matches("```json").trim_end_matches("```");
    Some(Part::Call { name: name.trim().into(), arguments: serde_json::from_str(json.trim()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_tell_their_format() {
        let of = Format::of_template;
        assert_eq!(of("{% if tools %}<tool_call>"), Some(Format::Hermes));
        assert_eq!(of("{% if tools %}[TOOL_CALLS]"), Some(Format::Mistral));
        assert_eq!(of("{% if tools %}<|start|>{{ role }}<|channel|>final<|message|>"), Some(Format::Harmony));
        assert_eq!(of("{{ tools }}"), None);
        assert_eq!(of("\"parameters\""), None);
    }
}
