//! Calls of tools while they are being written: the name as soon as it is there, then the arguments as they come.
//!
//! A call that begins otherwise (its arguments before its name, say) is not followed, and comes whole at its end. Pure.

use serde_json::{Map, Value};

use super::format::{DEEPSEEK_CALL, DEEPSEEK_NAME, Format};
use super::reply::Part;

/// How far the calls of a text are given out.
#[derive(Clone, Default)]
pub struct Follow {
    /// Bytes of the text that are done with.
    at: usize,
    /// Whether the arguments of a call are being given out.
    pub within: bool,
    /// Calls that were given out to their end.
    pub complete: usize,
    object: Object,
}

impl Follow {
    /// Gives out what is new in `text`: all that came since the mark that opened the calls.
    pub fn more(&mut self, format: Format, text: &str, parts: &mut Vec<Part>) {
        loop {
            let new = &text[self.at..];
            if !self.within {
                let Some((name, arguments)) = opening(format, new) else { return };
                parts.push(Part::Open { name });
                (self.at, self.within, self.object) = (self.at + arguments, true, Object::default());
                continue;
            }
            let (length, ended) = self.object.take(new);
            if length > 0 {
                parts.push(Part::Piece(new[..length].to_string()));
                self.at += length;
            }
            if !ended {
                return;
            }
            parts.push(Part::Close { whole: true });
            (self.within, self.complete) = (false, self.complete + 1);
        }
    }
}

/// The members of an object that are whole, of JSON that was cut anywhere.
pub fn whole_members(text: &str) -> Map<String, Value> {
    let (mut object, mut whole) = (Object::default(), 0);
    for (at, byte) in text.bytes().enumerate() {
        object.take_byte(byte);
        if byte == b',' && object.depth == 1 && !object.in_string {
            whole = at;
        }
    }
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&format!("{}}}", &text[..whole]))).unwrap_or_default()
}

/// A JSON object that comes in pieces: where it ends.
#[derive(Clone, Default)]
struct Object {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Object {
    /// How many bytes of `text` belong to the object, and whether it ends with them.
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

/// The next call's name, and where its arguments begin.
fn opening(format: Format, text: &str) -> Option<(String, usize)> {
    let (name, arguments) = match format {
        Format::DeepSeek => deepseek(text),
        Format::Mistral => object(text).or_else(|| named(text)),
        _ => object(text),
    }?;
    (arguments.starts_with('{') && !name.is_empty()).then(|| (name, text.len() - arguments.len()))
}

/// `{"name": "f", "arguments": {`, behind what may stand between two such objects.
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

/// `name[CALL_ID]id[ARGS]{`, from the second on behind another mark.
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
    fn the_members_that_are_whole_are_read() {
        let rows = [
            ("{\"a\": 1, \"b\": {}}", json!({ "a": 1, "b": {} })),
            ("{\"a\": \"é,\", \"b\": [1, {\"c\": 2, ", json!({ "a": "é," })),
            ("{\"a\": 1, \"b\": [1, 2, ", json!({ "a": 1 })),
            ("{\"a\": \"x", json!({})),
            ("{\"a\": 1, ", json!({ "a": 1 })),
            ("", json!({})),
        ];
        for (text, want) in rows {
            assert_eq!(Value::from(whole_members(text)), want, "{text}");
        }
    }
}
