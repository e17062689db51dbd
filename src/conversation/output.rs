//! A streaming parser for the text of an answer: reasoning, content and tool calls.
//!
//! Each model family has its own markers for tool calls; [`ToolFormat`] lists them. The parser holds text back while it
//! could be the start of a marker, so its events do not depend on how the text is split. Text that only looks like a
//! call stays content. A call's arguments stream (`tool_call`), so a truncated answer is the same streamed and whole.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::AnswerEvent;
use super::tool_call::ToolCallStream;
use super::tool_format::ToolFormat;
use crate::text::partial_suffix;

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Only white space so far.
    Start,
    Reasoning,
    Content,
    Call,
}

/// The parser of one answer; see the module.
#[derive(Clone, Debug)]
pub struct OutputParser {
    format: ToolFormat,
    mode: Mode,
    /// Text that has not been emitted.
    held: String,
    /// The marker that opened the current call.
    opened: &'static str,
    /// Whether white space before the next text is dropped.
    trim: bool,
    /// The calls in progress.
    stream: ToolCallStream,
    /// Whether the answer is constrained to calls or a response format: one that does not begin with a call has none.
    constrained: bool,
    /// The tools that a constrained answer can call.
    tools: Vec<String>,
    /// The source of the ids of calls, and how many calls have been emitted.
    ids: u64,
    calls: usize,
}

impl OutputParser {
    /// A parser. With `reasoning`, the answer starts within a reasoning block.
    pub fn new(format: ToolFormat, reasoning: bool) -> Self {
        let mode = match format {
            ToolFormat::Text => Mode::Content,
            ToolFormat::Forced => Mode::Call,
            _ if reasoning => Mode::Reasoning,
            _ => Mode::Start,
        };
        let (held, opened, stream, constrained, tools, ids, calls) = Default::default();
        OutputParser { format, mode, held, opened, trim: reasoning, stream, constrained, tools, ids, calls }
    }

    /// The same, for an answer that is constrained to calls of these tools or, if `format`, to these or a response
    /// format.
    pub fn constrained(self, format: bool, tools: Vec<String>) -> Self {
        OutputParser { constrained: format, tools, ..self }
    }

    /// The same, for an answer that continues a text: it begins with neither white space to drop nor reasoning.
    pub fn continuing(self) -> Self {
        let mode = if self.mode == Mode::Start && !self.constrained { Mode::Content } else { self.mode };
        OutputParser { mode, trim: false, ..self }
    }

    /// The same; the ids of its calls are derived from those of the prompt's tokens and `seed`.
    pub fn with_seed(self, seed: u64) -> Self {
        OutputParser { ids: hash((self.ids, seed)), ..self }
    }

    pub(super) fn with_prompt(self, tokens: &[u32]) -> Self {
        OutputParser { ids: hash(tokens), ..self }
    }

    /// The answer's tool call format.
    pub fn format(&self) -> ToolFormat {
        self.format
    }

    /// Whether it is within the reasoning.
    pub fn is_reasoning(&self) -> bool {
        self.mode == Mode::Reasoning
    }

    /// Whether the text of control tokens is needed, because the marks of calls are control tokens.
    pub fn needs_special(&self) -> bool {
        !matches!(self.format, ToolFormat::Text | ToolFormat::Chat | ToolFormat::Harmony)
    }

    /// Parses more text and returns the events that it completes.
    pub fn push(&mut self, text: &str) -> Vec<AnswerEvent> {
        self.held.push_str(text);
        let mut events = Vec::new();
        while self.advance(&mut events) {}
        self.give_ids(&mut events);
        events
    }

    /// Ends the answer and returns the events of the text that was held back.
    pub fn finish(mut self) -> Vec<AnswerEvent> {
        let mut events = Vec::new();
        let rest = std::mem::take(&mut self.held);
        match self.mode {
            Mode::Call => drop(self.settle(rest, 0, &mut events)),
            // Only the beginning of another call can follow a call.
            Mode::Content if self.constrained && self.format.open().is_some() => {}
            _ => self.emit(rest, &mut events),
        }
        self.give_ids(&mut events);
        events
    }

    fn give_ids(&mut self, events: &mut [AnswerEvent]) {
        for event in events {
            if let AnswerEvent::ToolCall { id, .. } = event {
                *id = call_id(hash((self.ids, self.calls)));
                self.calls += 1;
            }
        }
    }

    /// Parses what can be parsed without more text. Returns whether the mode changed, so that there may be more.
    fn advance(&mut self, events: &mut Vec<AnswerEvent>) -> bool {
        match self.mode {
            Mode::Start => self.start(),
            Mode::Reasoning => {
                let ended = self.pass(Some(THINK_END), events);
                if ended {
                    self.mode = if self.constrained { Mode::Start } else { Mode::Content };
                    self.trim = true;
                }
                ended
            }
            Mode::Content => {
                let opened = self.pass(self.format.open(), events);
                if opened {
                    (self.mode, self.opened) = (Mode::Call, self.format.open().unwrap_or_default());
                }
                opened
            }
            Mode::Call => self.call(events),
        }
    }

    fn start(&mut self) -> bool {
        let text = self.held.trim_start();
        if let Some(rest) = text.strip_prefix(THINK) {
            self.held = rest.to_string();
            (self.mode, self.trim) = (Mode::Reasoning, true);
            return true;
        }
        if THINK.starts_with(text) {
            return false;
        }
        let object = self.format == ToolFormat::Llama3 && text.starts_with('{');
        if self.constrained && !object {
            match self.format.open() {
                Some(mark) if text.starts_with(mark) => {}
                Some(mark) if mark.starts_with(text) => return false,
                _ => self.format = ToolFormat::Chat,
            }
        }
        self.mode = if object { Mode::Call } else { Mode::Content };
        true
    }

    /// Emits the text before `mark`, except for a possible beginning of it. Returns whether the mark was found; it is
    /// then removed.
    fn pass(&mut self, mark: Option<&str>, events: &mut Vec<AnswerEvent>) -> bool {
        let Some(mark) = mark else {
            let text = std::mem::take(&mut self.held);
            self.emit(text, events);
            return false;
        };
        if let Some(at) = self.held.find(mark) {
            let rest = self.held.split_off(at + mark.len());
            let before = std::mem::replace(&mut self.held, rest);
            self.emit(before[..at].trim_end().to_string(), events);
            return true;
        }
        // White space before a mark is not emitted, either.
        let known = self.held[..self.held.len() - partial_suffix(&self.held, mark)].trim_end().len();
        let rest = self.held.split_off(known);
        let text = std::mem::replace(&mut self.held, rest);
        self.emit(text, events);
        false
    }

    fn call(&mut self, events: &mut Vec<AnswerEvent>) -> bool {
        if self.is_bare() && !may_be_call(&self.held) {
            self.mode = Mode::Content;
            if self.constrained {
                self.format = ToolFormat::Chat;
            }
            return true;
        }
        let close = self.format.close().and_then(|close| Some((self.held.find(close)?, close)));
        let Some((at, close)) = close else {
            self.stream.advance(self.format, &self.held, events);
            return false;
        };
        // The end of the envelope does not belong to arguments that were truncated.
        let inner = self.held[..at].trim_end();
        self.stream.advance(self.format, inner.strip_suffix('}').unwrap_or(inner), events);
        let rest = self.held.split_off(at + close.len());
        let whole = std::mem::replace(&mut self.held, rest);
        self.mode = Mode::Content;
        self.trim = self.settle(whole, close.len(), events);
        true
    }

    /// Whether the call that is being read has no mark before it.
    fn is_bare(&self) -> bool {
        self.format == ToolFormat::Llama3 && self.opened.is_empty()
    }

    /// Emits the rest of the calls in `whole`, whose last bytes are the mark that closed them. Returns whether they
    /// were calls: if not, and if nothing of them was emitted, the text is content.
    fn settle(&mut self, whole: String, mark: usize, events: &mut Vec<AnswerEvent>) -> bool {
        let streamed = std::mem::take(&mut self.stream);
        if streamed.within {
            events.push(AnswerEvent::ToolCallEnd { complete: false });
        }
        let begun = streamed.within || streamed.complete > 0;
        // JSON of a response format may have a name, too.
        let form = self.constrained
            && self.is_bare()
            && !["\"parameters\"", "\"arguments\""].iter().any(|key| whole.contains(key));
        match self.format.calls(&whole[..whole.len() - mark]).filter(|_| !form) {
            Some(calls) => {
                for (name, arguments) in calls.into_iter().skip(streamed.complete) {
                    let arguments = Value::Object(arguments).to_string();
                    events.extend([
                        call(name),
                        AnswerEvent::Arguments(arguments),
                        AnswerEvent::ToolCallEnd { complete: true },
                    ]);
                }
            }
            None if begun => {}
            // A call truncated before its name is known is not an answer.
            None if self.format == ToolFormat::Forced || self.constrained && !self.opened.is_empty() => {
                events.extend(self.only_tool(whole.trim_start()));
            }
            None => {
                self.emit(self.opened.to_string() + &whole, events);
                return false;
            }
        }
        true
    }

    /// A call truncated within its name, if only one tool can be meant.
    fn only_tool(&self, begun: &str) -> Vec<AnswerEvent> {
        let head = |name: &str| format!("{{\"name\":{}", Value::from(name));
        let is_meant = |name: &&String| head(name).starts_with(begun) || begun.starts_with(&head(name));
        let mut meant = self.tools.iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(name), None) => vec![call(name.clone()), AnswerEvent::ToolCallEnd { complete: false }],
            _ => Vec::new(),
        }
    }

    /// Emits text of the current mode.
    fn emit(&mut self, text: String, events: &mut Vec<AnswerEvent>) {
        let text = if self.trim { text.trim_start().to_string() } else { text };
        if text.is_empty() {
            return;
        }
        self.trim = false;
        match (self.mode == Mode::Reasoning, events.last_mut()) {
            (true, Some(AnswerEvent::Reasoning(last))) | (false, Some(AnswerEvent::Content(last))) => {
                last.push_str(&text)
            }
            (true, _) => events.push(AnswerEvent::Reasoning(text)),
            (false, _) => events.push(AnswerEvent::Content(text)),
        }
    }
}

/// A tool call without its id.
fn call(name: String) -> AnswerEvent {
    AnswerEvent::ToolCall { id: String::new(), name }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Nine letters and digits.
fn call_id(mut number: u64) -> String {
    const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut next = || {
        let letter = LETTERS[(number % 62) as usize];
        number /= 62;
        char::from(letter)
    };
    (0..9).map(|_| next()).collect()
}

/// Whether an object that has begun may be a call, by the names of its members.
fn may_be_call(text: &str) -> bool {
    let (mut depth, mut string, mut escaped, mut key) = (0, None, false, true);
    for (at, byte) in text.bytes().enumerate() {
        match (byte, string) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(begin)) => {
                let name = &text[begin + 1..at];
                if depth == 1 && key && !["name", "parameters", "arguments", "type", "id", "function"].contains(&name) {
                    return false;
                }
                (string, key) = (None, false);
            }
            (b'"', None) => string = Some(at),
            (_, Some(_)) => {}
            (b'{' | b'[', None) => depth += 1,
            (b'}' | b']', None) => depth -= 1,
            (b',', None) => key = depth == 1,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Parses a text in pieces of `piece` characters, and joins the events: a complete call is a `ToolCall` that has
    /// its arguments in place of its id.
    fn read(mut parser: OutputParser, text: &str, piece: usize) -> Vec<AnswerEvent> {
        let letters: Vec<char> = text.chars().collect();
        let mut parts: Vec<AnswerEvent> =
            letters.chunks(piece).flat_map(|c| parser.push(&String::from_iter(c))).collect();
        parts.extend(parser.finish());
        blank_ids(&mut parts);
        let mut joined: Vec<AnswerEvent> = Vec::new();
        for part in parts {
            match (joined.last_mut(), part) {
                (Some(AnswerEvent::Reasoning(a)), AnswerEvent::Reasoning(b))
                | (Some(AnswerEvent::Content(a)), AnswerEvent::Content(b)) => a.push_str(&b),
                (Some(AnswerEvent::Arguments(a)), AnswerEvent::Arguments(b)) => a.push_str(&b),
                (Some(AnswerEvent::Arguments(arguments)), AnswerEvent::ToolCallEnd { complete: true }) => {
                    let arguments: Value = serde_json::from_str(arguments).expect("whole arguments");
                    let Some(AnswerEvent::ToolCall { name, .. }) = joined.iter().rev().nth(1).cloned() else {
                        panic!("{joined:?}")
                    };
                    joined.truncate(joined.len() - 2);
                    joined.push(f(&name, arguments));
                }
                (_, part) => joined.push(part),
            }
        }
        joined
    }

    fn blank_ids(events: &mut [AnswerEvent]) {
        for event in events {
            if let AnswerEvent::ToolCall { id, .. } = event {
                assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id:?}");
                id.clear();
            }
        }
    }

    fn c(text: &str) -> AnswerEvent {
        AnswerEvent::Content(text.into())
    }

    fn r(text: &str) -> AnswerEvent {
        AnswerEvent::Reasoning(text.into())
    }

    fn f(name: &str, arguments: Value) -> AnswerEvent {
        AnswerEvent::ToolCall { id: arguments.to_string(), name: name.into() }
    }

    #[test]
    fn events_do_not_depend_on_how_the_text_is_cut() {
        use ToolFormat::{Chat, DeepSeek, Forced, Harmony, Hermes, Llama3, Mistral, Text};
        let rain = || f("rain", json!({"place": "Rome", "days": [1, 2]}));
        let args = r#"{"place": "Rome", "days": [1, 2]}"#;
        let hermes = format!("<tool_call>\n{{\"name\": \"rain\", \"arguments\": {args}}}\n</tool_call>");
        let llama = format!("{{\"name\": \"rain\", \"parameters\": {args}}}");
        let deepseek = format!(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>rain\n```json\n{args}\n```<｜tool▁call▁end｜>\n\
             <｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{{}}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        );
        let now = || f("now", json!({}));
        let rows: Vec<(ToolFormat, bool, String, Vec<AnswerEvent>)> = vec![
            (Text, false, "<think>a</think> <tool_call>".into(), vec![c("<think>a</think> <tool_call>")]),
            (Chat, false, "  plain <b>text</b> \n".into(), vec![c("  plain <b>text</b> \n")]),
            (Chat, false, "<think>\nhm < hm\n</think>\n\nYes. ".into(), vec![r("hm < hm"), c("Yes. ")]),
            (Chat, false, "a <think>b</think>".into(), vec![c("a <think>b</think>")]),
            (Chat, false, "<thin".into(), vec![c("<thin")]),
            (Chat, true, "hm</think>Yes.".into(), vec![r("hm"), c("Yes.")]),
            (Chat, true, "never ends </thin".into(), vec![r("never ends </thin")]),
            (Hermes, false, hermes.clone(), vec![rain()]),
            (
                Hermes,
                true,
                format!("so\n</think>\n\nI look.\n{hermes}\n{hermes} ok"),
                vec![r("so"), c("I look."), rain(), rain(), c("ok")],
            ),
            (Hermes, false, hermes.replace("</tool_call>", ""), vec![rain()]),
            (Harmony, false, format!("<think>\nso\n</think>\n\n{hermes}"), vec![r("so"), rain()]),
            (Hermes, false, "<tool_call>no</tool_call> <tool".into(), vec![c("<tool_call>no</tool_call> <tool")]),
            (Hermes, false, "a  <tool_call>{\"name\": 1}".into(), vec![c("a<tool_call>{\"name\": 1}")]),
            (Llama3, false, llama.clone(), vec![rain()]),
            (Llama3, false, format!(" <|python_tag|>{llama}; {{\"name\": \"now\"}}"), vec![rain(), now()]),
            (Llama3, false, "{\"place\": \"Rome\"}".into(), vec![c("{\"place\": \"Rome\"}")]),
            (Llama3, false, format!("Sure: {llama}"), vec![c(&format!("Sure: {llama}"))]),
            (Mistral, false, format!("[TOOL_CALLS] [{{\"name\": \"rain\", \"arguments\": {args}}}]"), vec![rain()]),
            (
                Mistral,
                false,
                format!("[TOOL_CALLS]rain[ARGS]{args}[TOOL_CALLS]now[CALL_ID]x[ARGS]{{}}"),
                vec![rain(), now()],
            ),
            (Mistral, false, "[TOOL".into(), vec![c("[TOOL")]),
            (DeepSeek, true, format!("so</think>{deepseek}"), vec![r("so"), rain(), now()]),
            (
                DeepSeek,
                false,
                format!("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>rain<｜tool▁sep｜>{args}<｜tool▁call▁end｜>"),
                vec![rain()],
            ),
            (Forced, false, format!("{{\"name\":\"rain\",\"arguments\":{args}}}"), vec![rain()]),
        ];
        for (format, thinking, text, want) in rows {
            for piece in [1, 2, 3, 7, 1000] {
                let parser = OutputParser::new(format, thinking);
                assert_eq!(read(parser, &text, piece), want, "{format:?}, {piece} at a time: {text:?}");
            }
        }
    }

    #[test]
    fn calls_are_emitted_while_they_come() {
        let piece = |text: &str| AnswerEvent::Arguments(text.into());
        let open = || call("f".into());
        let rows = [
            (ToolFormat::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"", "}"),
            (ToolFormat::Llama3, "{\"name\": \"f\", \"parameters\": {\"a\": \"}\\\"", "}"),
            (ToolFormat::Mistral, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"", "}"),
            (ToolFormat::Mistral, "[TOOL_CALLS]f[ARGS]{\"a\": \"}\\\"", ""),
            (
                ToolFormat::DeepSeek,
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"}\\\"",
                "",
            ),
            (ToolFormat::Forced, "{\"name\":\"f\",\"arguments\":{\"a\": \"}\\\"", "}"),
        ];
        for (format, begin, close) in rows {
            let mut parser = OutputParser::new(format, false);
            let mut events = parser.push(begin);
            blank_ids(&mut events);
            assert_eq!(events, [open(), piece("{\"a\": \"}\\\"")], "{format:?}");
            assert_eq!(parser.push(": 1\", "), [piece(": 1\", ")], "{format:?}");
            assert_eq!(
                parser.push(&format!("\"b\": 2}}{close}")),
                [piece("\"b\": 2}"), AnswerEvent::ToolCallEnd { complete: true }],
                "{format:?}"
            );
            assert_eq!(parser.finish(), [], "{format:?}");
            // One that is cut off ends where it is.
            let mut parser = OutputParser::new(format, false);
            parser.push(begin);
            assert_eq!(parser.finish(), [AnswerEvent::ToolCallEnd { complete: false }], "{format:?}");
        }
    }

    #[test]
    fn truncated_calls_are_emitted_as_far_as_they_came() {
        let (open, cut) = (|name: &str| call(name.into()), || AnswerEvent::ToolCallEnd { complete: false });
        let piece = |text: &str| AnswerEvent::Arguments(text.into());
        let tools = || vec!["rain".to_string(), "run".to_string()];
        let rows: Vec<(ToolFormat, &str, Vec<AnswerEvent>)> = vec![
            // Two names begin with "r".
            (ToolFormat::Forced, "{\"name\":\"r", vec![]),
            (ToolFormat::Forced, "", vec![]),
            (ToolFormat::Forced, "{\"name\":\"ra", vec![open("rain"), cut()]),
            (ToolFormat::Forced, "{\"name\":\"rain\"", vec![open("rain"), cut()]),
            (ToolFormat::Forced, "{\"name\":\"rain\",\"argu", vec![open("rain"), cut()]),
            (
                ToolFormat::Forced,
                "{\"name\":\"rain\",\"arguments\":{\"a\":",
                vec![open("rain"), piece("{\"a\":"), cut()],
            ),
            // gpt-oss's tokenizer closes unfinished messages.
            (
                ToolFormat::Harmony,
                "<tool_call>{\"name\": \"rain\", \"arguments\": {\"a\": \"x}</tool_call>",
                vec![open("rain"), piece("{\"a\": \"x"), cut()],
            ),
            (
                ToolFormat::Harmony,
                "<tool_call>{\"name\": \"rain\", \"arguments\": }</tool_call>",
                vec![c("<tool_call>{\"name\": \"rain\", \"arguments\": }</tool_call>")],
            ),
        ];
        for (format, text, want) in rows {
            let parser = OutputParser::new(format, false).constrained(false, tools());
            assert_eq!(read(parser, text, 1000), want, "{format:?}: {text}");
        }
        let one = OutputParser::new(ToolFormat::Forced, false).constrained(false, vec!["rain".into()]);
        assert_eq!(read(one, "", 1), [open("rain"), cut()]);
        // With a response format, too: neither the envelope nor a partial marker is content.
        let call = "<tool_call>\n{\"name\":\"rain\",\"arguments\":{}}\n</tool_call>";
        for (text, want) in [
            ("<tool_call>\n{\"na".to_string(), vec![]),
            ("<tool_call>\n{\"name\":\"rai".into(), vec![open("rain"), cut()]),
            (format!("{call}\n<tool_"), vec![f("rain", json!({}))]),
            (format!("{call}\n<tool_call>"), vec![f("rain", json!({}))]),
        ] {
            for piece in [1, 1000] {
                let parser = OutputParser::new(ToolFormat::Hermes, false).constrained(true, tools());
                assert_eq!(read(parser, &text, piece), want, "{text}");
            }
        }
    }

    #[test]
    fn a_response_format_beside_calls_stays_content() {
        let rows: Vec<(ToolFormat, &str, Vec<AnswerEvent>)> = vec![
            (ToolFormat::Hermes, "{\"a\":\"x  <tool_call>{}\"}", vec![c("{\"a\":\"x  <tool_call>{}\"}")]),
            (
                ToolFormat::Hermes,
                "<tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>",
                vec![f("f", json!({}))],
            ),
            (ToolFormat::Hermes, "<tool", vec![c("<tool")]),
            (
                ToolFormat::Hermes,
                "<think>\nhm</think>\n\n{\"a\":\"<tool_call>\"}",
                vec![r("hm"), c("{\"a\":\"<tool_call>\"}")],
            ),
            (
                ToolFormat::Llama3,
                "<think>hm</think>{\"name\":\"f\",\"parameters\":{}}",
                vec![r("hm"), f("f", json!({}))],
            ),
            (ToolFormat::Llama3, "{\"name\":\"Ann\",\"age\":3}", vec![c("{\"name\":\"Ann\",\"age\":3}")]),
            (ToolFormat::Llama3, "{\"name\":\"Ann\"}", vec![c("{\"name\":\"Ann\"}")]),
            (ToolFormat::Llama3, "{\"name\":\"f\",\"parameters\":{}}", vec![f("f", json!({}))]),
            (ToolFormat::Llama3, "{\"q\":{\"name\":[1,\"\\\"\"]}}", vec![c("{\"q\":{\"name\":[1,\"\\\"\"]}}")]),
            (ToolFormat::Llama3, "\"<|python_tag|>\"", vec![c("\"<|python_tag|>\"")]),
            (ToolFormat::Mistral, "[1,2]", vec![c("[1,2]")]),
            (ToolFormat::Mistral, "[TOOL_CALLS]f[ARGS]{}", vec![f("f", json!({}))]),
        ];
        for (format, text, want) in rows {
            for piece in [1, 3, 1000] {
                let parser = OutputParser::new(format, false).constrained(true, Vec::new());
                assert_eq!(read(parser, text, piece), want, "{format:?}, {piece} at a time: {text}");
            }
        }
        // Arguments are streamed, not emitted at the end.
        let mut parser = OutputParser::new(ToolFormat::Llama3, false).constrained(true, Vec::new());
        assert_eq!(parser.push("{\"name\":\"Ann\",\"age\""), [c("{\"name\":\"Ann\",\"age\"")]);
    }

    #[test]
    fn ids_of_calls_differ_between_calls_and_answers() {
        let ids = |seed: u64| -> Vec<String> {
            let mut parser = OutputParser::new(ToolFormat::Mistral, false).with_seed(seed);
            let events = [parser.push("[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[ARGS]{}"), parser.finish()].concat();
            let id = |event| if let AnswerEvent::ToolCall { id, .. } = event { Some(id) } else { None };
            events.into_iter().filter_map(id).collect()
        };
        let (one, other) = (ids(1), ids(2));
        assert!(one.len() == 2 && one[0] != one[1] && one == ids(1) && !one.iter().any(|id| other.contains(id)));
    }
}
