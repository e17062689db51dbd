//! What a model writes, taken apart while it comes: reasoning, content, and calls of tools.
//!
//! Each family of models marks its calls in its own way; [`Format`] is the table of them. Text that might begin a mark
//! is held back until it is known to be one or not, so that how a text is cut into pieces makes no difference. What looks
//! like a call and is none stays content: nothing is lost. A call's arguments are given out while they come, once its name
//! is known (`follow`), so that an answer that is cut within them says the same as a stream and as a whole. Pure; knows
//! neither models nor dialects.

use serde_json::{Map, Value};

use super::follow::Follow;
use super::format::Format;

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// What the model thinks before it answers.
    Reasoning(String),
    /// The answer.
    Content(String),
    /// A tool is to be called.
    Call { name: String, arguments: Map<String, Value> },
    /// A tool is to be called; its arguments follow as pieces of JSON.
    Open { name: String },
    /// More of the arguments.
    Piece(String),
    /// There is no more of the arguments; `whole` unless the answer ended within them.
    Close { whole: bool },
}

const THINK: &str = "<think>";
const THOUGHT: &str = "</think>";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing came but white space.
    Start,
    Reasoning,
    Content,
    Call,
}

/// Takes a reply apart; see the module.
#[derive(Clone)]
pub struct Splitter {
    format: Format,
    mode: Mode,
    /// What is not given out yet.
    held: String,
    /// What opened the call that is being read.
    opened: &'static str,
    /// White space before the next text is dropped.
    trim: bool,
    /// The calls that are being given out.
    follow: Follow,
    /// Whether the reply is held to calls or a form: what does not begin with a call has none.
    form: bool,
    /// The tools that a reply that is held can call.
    tools: Vec<String>,
}

impl Splitter {
    /// For a reply that begins within its reasoning if `thinking`.
    pub fn new(format: Format, thinking: bool) -> Self {
        let mode = match format {
            Format::Text => Mode::Content,
            Format::Forced => Mode::Call,
            _ if thinking => Mode::Reasoning,
            _ => Mode::Start,
        };
        let (held, opened, follow, form, tools) = Default::default();
        Splitter { format, mode, held, opened, trim: thinking, follow, form, tools }
    }

    /// The same, for a reply that is held to calls of these tools or, if `form`, to these or a form.
    pub fn held(self, form: bool, tools: Vec<String>) -> Self {
        Splitter { form, tools, ..self }
    }

    /// The same, for a reply that continues a text: it begins with neither white space to drop nor a thought.
    pub fn continuing(self) -> Self {
        let mode = if self.mode == Mode::Start && !self.form { Mode::Content } else { self.mode };
        Splitter { mode, trim: false, ..self }
    }

    /// The parts that more text completes.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.turn(&mut parts) {}
        parts
    }

    /// What was held back, at the end.
    pub fn finish(mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = std::mem::take(&mut self.held);
        match self.mode {
            Mode::Call => drop(self.settle(rest, 0, &mut parts)),
            // Behind a call nothing can come but what begins another.
            Mode::Content if self.form && self.format.open().is_some() => {}
            _ => self.say(rest, &mut parts),
        }
        parts
    }

    /// Does what can be done without more text; whether the mode changed, so that there may be more to do.
    fn turn(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.mode {
            Mode::Start => self.start(),
            Mode::Reasoning => {
                let ended = self.pass(Some(THOUGHT), parts);
                if ended {
                    self.mode = if self.form { Mode::Start } else { Mode::Content };
                    self.trim = true;
                }
                ended
            }
            Mode::Content => {
                let opened = self.pass(self.format.open(), parts);
                if opened {
                    (self.mode, self.opened) = (Mode::Call, self.format.open().unwrap_or_default());
                }
                opened
            }
            Mode::Call => self.call(parts),
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
        let object = self.format == Format::Llama3 && text.starts_with('{');
        if self.form && !object {
            match self.format.open() {
                Some(mark) if text.starts_with(mark) => {}
                Some(mark) if mark.starts_with(text) => return false,
                _ => self.format = Format::Chat,
            }
        }
        self.mode = if object { Mode::Call } else { Mode::Content };
        true
    }

    /// Gives out the text before `mark`, and all that cannot begin it. Whether the mark came; it is then taken away.
    fn pass(&mut self, mark: Option<&str>, parts: &mut Vec<Part>) -> bool {
        let Some(mark) = mark else {
            let text = std::mem::take(&mut self.held);
            self.say(text, parts);
            return false;
        };
        if let Some(at) = self.held.find(mark) {
            let rest = self.held.split_off(at + mark.len());
            let before = std::mem::replace(&mut self.held, rest);
            self.say(before[..at].trim_end().to_string(), parts);
            return true;
        }
        // White space before a mark is not given out, either.
        let known = self.held[..self.held.len() - overlap(&self.held, mark)].trim_end().len();
        let rest = self.held.split_off(known);
        let text = std::mem::replace(&mut self.held, rest);
        self.say(text, parts);
        false
    }

    fn call(&mut self, parts: &mut Vec<Part>) -> bool {
        if self.is_bare() && !may_be_call(&self.held) {
            self.mode = Mode::Content;
            if self.form {
                self.format = Format::Chat;
            }
            return true;
        }
        let close = self.format.close().and_then(|close| Some((self.held.find(close)?, close)));
        let Some((at, close)) = close else {
            self.follow.more(self.format, &self.held, parts);
            return false;
        };
        // The envelope's own end is none of arguments that were cut.
        let inner = self.held[..at].trim_end();
        self.follow.more(self.format, inner.strip_suffix('}').unwrap_or(inner), parts);
        let rest = self.held.split_off(at + close.len());
        let whole = std::mem::replace(&mut self.held, rest);
        self.mode = Mode::Content;
        self.trim = self.settle(whole, close.len(), parts);
        true
    }

    /// Whether what is being read as a call has no mark before it.
    fn is_bare(&self) -> bool {
        self.format == Format::Llama3 && self.opened.is_empty()
    }

    /// Gives out what is not given out yet of the calls in `whole`, whose last bytes are the mark that closed them.
    /// Whether they were calls: if not, and if nothing of them was given out, it was content.
    fn settle(&mut self, whole: String, mark: usize, parts: &mut Vec<Part>) -> bool {
        let followed = std::mem::take(&mut self.follow);
        if followed.within {
            parts.push(Part::Close { whole: false });
        }
        let begun = followed.within || followed.complete > 0;
        // A form may have a name, too.
        let form =
            self.form && self.is_bare() && !["\"parameters\"", "\"arguments\""].iter().any(|key| whole.contains(key));
        match self.format.calls(&whole[..whole.len() - mark]).filter(|_| !form) {
            Some(calls) => parts.extend(calls.into_iter().skip(followed.complete)),
            None if begun => {}
            // One that was cut before it said enough: it is no answer of the model's.
            None if self.format == Format::Forced || self.form && !self.opened.is_empty() => {
                parts.extend(self.only_tool(whole.trim_start()));
            }
            None => {
                self.say(self.opened.to_string() + &whole, parts);
                return false;
            }
        }
        true
    }

    /// A call that was cut within its name, if only one tool can be meant.
    fn only_tool(&self, begun: &str) -> Vec<Part> {
        let head = |name: &str| format!("{{\"name\":{}", Value::from(name));
        let is_meant = |name: &&String| head(name).starts_with(begun) || begun.starts_with(&head(name));
        let mut meant = self.tools.iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(name), None) => vec![Part::Open { name: name.clone() }, Part::Close { whole: false }],
            _ => Vec::new(),
        }
    }

    /// Gives out text of the present mode.
    fn say(&mut self, text: String, parts: &mut Vec<Part>) {
        let text = if self.trim { text.trim_start().to_string() } else { text };
        if text.is_empty() {
            return;
        }
        self.trim = false;
        match (self.mode == Mode::Reasoning, parts.last_mut()) {
            (true, Some(Part::Reasoning(last))) | (false, Some(Part::Content(last))) => last.push_str(&text),
            (true, _) => parts.push(Part::Reasoning(text)),
            (false, _) => parts.push(Part::Content(text)),
        }
    }
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

/// The length of the longest end of `text` that begins `mark`, but is not all of it.
fn overlap(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    lengths.rev().find(|n| text.ends_with(&mark[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Reads a reply in pieces of so many characters, and joins what belongs together.
    fn read(mut splitter: Splitter, text: &str, piece: usize) -> Vec<Part> {
        let letters: Vec<char> = text.chars().collect();
        let mut parts: Vec<Part> = letters.chunks(piece).flat_map(|c| splitter.push(&String::from_iter(c))).collect();
        parts.extend(splitter.finish());
        let mut joined: Vec<Part> = Vec::new();
        for part in parts {
            match (joined.last_mut(), part) {
                (Some(Part::Reasoning(a)), Part::Reasoning(b)) | (Some(Part::Content(a)), Part::Content(b)) => {
                    a.push_str(&b)
                }
                (Some(Part::Piece(a)), Part::Piece(b)) => a.push_str(&b),
                (Some(Part::Piece(arguments)), Part::Close { whole: true }) => {
                    let arguments = serde_json::from_str(arguments).expect("whole arguments");
                    let Some(Part::Open { name }) = joined.iter().rev().nth(1).cloned() else { panic!("{joined:?}") };
                    joined.truncate(joined.len() - 2);
                    joined.push(Part::Call { name, arguments });
                }
                (_, part) => joined.push(part),
            }
        }
        joined
    }

    fn c(text: &str) -> Part {
        Part::Content(text.into())
    }

    fn r(text: &str) -> Part {
        Part::Reasoning(text.into())
    }

    fn f(name: &str, arguments: Value) -> Part {
        Part::Call { name: name.into(), arguments: arguments.as_object().unwrap().clone() }
    }

    #[test]
    fn replies_are_taken_apart_however_they_are_cut() {
        use Format::*;
        let rain = || f("rain", json!({"place": "Rome", "days": [1, 2]}));
        let args = r#"{"place": "Rome", "days": [1, 2]}"#;
        let hermes = format!("<tool_call>\n{{\"name\": \"rain\", \"arguments\": {args}}}\n</tool_call>");
        let llama = format!("{{\"name\": \"rain\", \"parameters\": {args}}}");
        let deepseek = format!(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>rain\n```json\n{args}\n```<｜tool▁call▁end｜>\n\
             <｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{{}}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        );
        let now = || f("now", json!({}));
        let rows: Vec<(Format, bool, String, Vec<Part>)> = vec![
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
                let splitter = Splitter::new(format, thinking);
                assert_eq!(read(splitter, &text, piece), want, "{format:?}, {piece} at a time: {text:?}");
            }
        }
    }

    #[test]
    fn calls_are_given_out_while_they_come() {
        let piece = |text: &str| Part::Piece(text.into());
        let open = || Part::Open { name: "f".into() };
        let rows = [
            (Format::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"", "}"),
            (Format::Llama3, "{\"name\": \"f\", \"parameters\": {\"a\": \"}\\\"", "}"),
            (Format::Mistral, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"", "}"),
            (Format::Mistral, "[TOOL_CALLS]f[ARGS]{\"a\": \"}\\\"", ""),
            (
                Format::DeepSeek,
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"}\\\"",
                "",
            ),
            (Format::Forced, "{\"name\":\"f\",\"arguments\":{\"a\": \"}\\\"", "}"),
        ];
        for (format, begin, close) in rows {
            let mut splitter = Splitter::new(format, false);
            assert_eq!(splitter.push(begin), [open(), piece("{\"a\": \"}\\\"")], "{format:?}");
            assert_eq!(splitter.push(": 1\", "), [piece(": 1\", ")], "{format:?}");
            assert_eq!(
                splitter.push(&format!("\"b\": 2}}{close}")),
                [piece("\"b\": 2}"), Part::Close { whole: true }],
                "{format:?}"
            );
            assert_eq!(splitter.finish(), [], "{format:?}");
            // One that is cut off ends where it is.
            let mut splitter = Splitter::new(format, false);
            splitter.push(begin);
            assert_eq!(splitter.finish(), [Part::Close { whole: false }], "{format:?}");
        }
    }

    #[test]
    fn a_call_that_is_cut_is_one_whatever_came_of_it() {
        let (open, cut) = (|name: &str| Part::Open { name: name.into() }, || Part::Close { whole: false });
        let piece = |text: &str| Part::Piece(text.into());
        let tools = || vec!["rain".to_string(), "run".to_string()];
        let rows: Vec<(Format, &str, Vec<Part>)> = vec![
            // Two names begin with "r".
            (Format::Forced, "{\"name\":\"r", vec![]),
            (Format::Forced, "", vec![]),
            (Format::Forced, "{\"name\":\"ra", vec![open("rain"), cut()]),
            (Format::Forced, "{\"name\":\"rain\"", vec![open("rain"), cut()]),
            (Format::Forced, "{\"name\":\"rain\",\"argu", vec![open("rain"), cut()]),
            (Format::Forced, "{\"name\":\"rain\",\"arguments\":{\"a\":", vec![open("rain"), piece("{\"a\":"), cut()]),
            // gpt-oss's tokenizer ends what was not ended.
            (
                Format::Harmony,
                "<tool_call>{\"name\": \"rain\", \"arguments\": {\"a\": \"x}</tool_call>",
                vec![open("rain"), piece("{\"a\": \"x"), cut()],
            ),
            (
                Format::Harmony,
                "<tool_call>{\"name\": \"rain\", \"arguments\": }</tool_call>",
                vec![c("<tool_call>{\"name\": \"rain\", \"arguments\": }</tool_call>")],
            ),
        ];
        for (format, text, want) in rows {
            let splitter = Splitter::new(format, false).held(false, tools());
            assert_eq!(read(splitter, text, 1000), want, "{format:?}: {text}");
        }
        let one = Splitter::new(Format::Forced, false).held(false, vec!["rain".into()]);
        assert_eq!(read(one, "", 1), [open("rain"), cut()]);
        // Beside a form as well: neither the envelope nor half a mark is content.
        let call = "<tool_call>\n{\"name\":\"rain\",\"arguments\":{}}\n</tool_call>";
        for (text, want) in [
            ("<tool_call>\n{\"na".to_string(), vec![]),
            ("<tool_call>\n{\"name\":\"rai".into(), vec![open("rain"), cut()]),
            (format!("{call}\n<tool_"), vec![f("rain", json!({}))]),
            (format!("{call}\n<tool_call>"), vec![f("rain", json!({}))]),
        ] {
            for piece in [1, 1000] {
                let splitter = Splitter::new(Format::Hermes, false).held(true, tools());
                assert_eq!(read(splitter, &text, piece), want, "{text}");
            }
        }
    }

    #[test]
    fn a_form_beside_calls_stays_content() {
        let rows: Vec<(Format, &str, Vec<Part>)> = vec![
            (Format::Hermes, "{\"a\":\"x  <tool_call>{}\"}", vec![c("{\"a\":\"x  <tool_call>{}\"}")]),
            (Format::Hermes, "<tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>", vec![f("f", json!({}))]),
            (Format::Hermes, "<tool", vec![c("<tool")]),
            (
                Format::Hermes,
                "<think>\nhm</think>\n\n{\"a\":\"<tool_call>\"}",
                vec![r("hm"), c("{\"a\":\"<tool_call>\"}")],
            ),
            (Format::Llama3, "<think>hm</think>{\"name\":\"f\",\"parameters\":{}}", vec![r("hm"), f("f", json!({}))]),
            (Format::Llama3, "{\"name\":\"Ann\",\"age\":3}", vec![c("{\"name\":\"Ann\",\"age\":3}")]),
            (Format::Llama3, "{\"name\":\"Ann\"}", vec![c("{\"name\":\"Ann\"}")]),
            (Format::Llama3, "{\"name\":\"f\",\"parameters\":{}}", vec![f("f", json!({}))]),
            (Format::Llama3, "{\"q\":{\"name\":[1,\"\\\"\"]}}", vec![c("{\"q\":{\"name\":[1,\"\\\"\"]}}")]),
            (Format::Llama3, "\"<|python_tag|>\"", vec![c("\"<|python_tag|>\"")]),
            (Format::Mistral, "[1,2]", vec![c("[1,2]")]),
            (Format::Mistral, "[TOOL_CALLS]f[ARGS]{}", vec![f("f", json!({}))]),
        ];
        for (format, text, want) in rows {
            for piece in [1, 3, 1000] {
                let splitter = Splitter::new(format, false).held(true, Vec::new());
                assert_eq!(read(splitter, text, piece), want, "{format:?}, {piece} at a time: {text}");
            }
        }
        // It comes as it is written, not at its end.
        let mut splitter = Splitter::new(Format::Llama3, false).held(true, Vec::new());
        assert_eq!(splitter.push("{\"name\":\"Ann\",\"age\""), [c("{\"name\":\"Ann\",\"age\"")]);
    }
}
