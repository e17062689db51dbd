//! Streaming parser of tool calls: emits the name as soon as it is complete, then streams the arguments.
//!
//! A call that does not begin with its name is not streamed: `ToolFormat::calls` parses it at its end.
//! Pure.

use serde_json::{Map, Value};

use super::AnswerEvent;
use super::tool_format::{DEEPSEEK_CALL, DEEPSEEK_NAME, ToolFormat};

/// The progress of emitting the tool calls of a text.
#[derive(Clone, Debug, Default)]
pub struct ToolCallStream {
    /// Bytes of the text that have been parsed.
    at: usize,
    /// Whether it is within the arguments of a call.
    pub within: bool,
    /// Calls that were emitted to their end.
    pub complete: usize,
    object: ObjectScanner,
}

impl ToolCallStream {
    /// Emits the new part of `text`, which is everything since the marker that opened the calls.
    pub fn advance(&mut self, format: ToolFormat, text: &str, events: &mut Vec<AnswerEvent>) {
        loop {
            let new = &text[self.at..];
            if !self.within {
                let Some((name, arguments)) = opening(format, new) else { return };
                events.push(AnswerEvent::ToolCall { id: String::new(), name });
                (self.at, self.within, self.object) = (self.at + arguments, true, ObjectScanner::default());
                continue;
            }
            let (length, ended) = self.object.take(new);
            if length > 0 {
                events.push(AnswerEvent::Arguments(new[..length].to_string()));
                self.at += length;
            }
            if !ended {
                return;
            }
            events.push(AnswerEvent::ToolCallEnd { complete: true });
            (self.within, self.complete) = (false, self.complete + 1);
        }
    }
}

/// The complete members of a JSON object that may be truncated anywhere.
pub fn complete_members(text: &str) -> Map<String, Value> {
    let (mut object, mut whole) = (ObjectScanner::default(), 0);
    for (at, byte) in text.bytes().enumerate() {
        object.take_byte(byte);
        if byte == b',' && object.depth == 1 && !object.in_string {
            whole = at;
        }
    }
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&format!("{}}}", &text[..whole]))).unwrap_or_default()
}

/// Finds the end of a JSON object that arrives in pieces.
#[derive(Clone, Debug, Default)]
struct ObjectScanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ObjectScanner {
    /// The number of bytes of `text` that belong to the object, and whether it ends with them.
    fn take(&mut self, text: &str) -> (usize, bool) {
        for (i, byte) in text.bytes().enumerate() {
            self.take_byte(byte);
            if self.depth == 0 {
                return (i + 1, true);
            }
        }
        (text.len(), false)
    }

    fn take_byte(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// The next call's name, and the start of its arguments.
fn opening(format: ToolFormat, text: &str) -> Option<(String, usize)> {
    let (name, arguments) = match format {
        ToolFormat::DeepSeek => deepseek(text),
        ToolFormat::Mistral => object(text).or_else(|| named(text)),
        _ => object(text),
    }?;
    (arguments.starts_with('{') && !name.is_empty()).then(|| (name, text.len() - arguments.len()))
}

/// `{"name": "f", "arguments": {`, after what may separate two such objects.
fn object(text: &str) -> Option<(String, &str)> {
    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || "[},;".contains(c)).strip_prefix('{')?;
    let rest = key(begin, "name")?;
    let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let name = strings.next()?.ok()?;
    let rest = rest[strings.byte_offset()..].trim_start().strip_prefix(',')?;
    Some((name, key(rest, "arguments").or_else(|| key(rest, "parameters"))?))
}

/// What follows `"name":`.
fn key<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.trim_start().strip_prefix('"')?.strip_prefix(name)?.strip_prefix('"')?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// `name[CALL_ID]id[ARGS]{`, after another mark from the second call on.
fn named(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let (head, arguments) = text.strip_prefix("[TOOL_CALLS]").unwrap_or(text).split_once("[ARGS]")?;
    Some((head.split('[').next()?.trim().to_string(), arguments.trim_start()))
}

/// ``function<｜tool▁sep｜>name\n```json\n{``, or without the word and the fence.
fn deepseek(text: &str) -> Option<(String, &str)> {
    let (_, call) = text.split_once(DEEPSEEK_CALL)?;
    let (head, rest) = call.split_once(DEEPSEEK_NAME)?;
    let (name, rest) = if head.trim() == "function" { rest.split_once('\n')? } else { (head, rest) };
    let rest = rest.trim_start();
    Some((name.trim().to_string(), rest.strip_prefix("```json").unwrap_or(rest).trim_start()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn complete_members_are_read() {
        let rows = [
            ("{\"a\": 1, \"b\": {}}", json!({ "a": 1, "b": {} })),
            ("{\"a\": \"é,\", \"b\": [1, {\"c\": 2, ", json!({ "a": "é," })),
            ("{\"a\": 1, \"b\": [1, 2, ", json!({ "a": 1 })),
            ("{\"a\": \"x", json!({})),
            ("{\"a\": 1, ", json!({ "a": 1 })),
            ("", json!({})),
        ];
        for (text, want) in rows {
            assert_eq!(Value::from(complete_members(text)), want, "{text}");
        }
    }
}
