//! gpt-oss's "Harmony" format (<https://github.com/openai/harmony>), converted to the markup of other models: reasoning
//! inside `<think>`, tool calls as JSON inside `<tool_call>`, and no markup around the answer.
//!
//! A message is `<|start|>` role `<|channel|>` channel `<|message|>` text `<|end|>`. The channel `analysis` contains
//! reasoning, `to=functions.name` in the header names a tool, and `<|call|>` ends a call's arguments.

use super::vocab::Vocab;

/// The part of a message that the next token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HarmonyState {
    /// The answer's text.
    Text,
    /// The header before `<|message|>`.
    Header,
    /// The text of the `analysis` channel.
    Reasoning,
    /// The arguments of a tool call.
    Call,
}

/// The ids of the tokens that delimit messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HarmonyTokens {
    start: u32,
    channel: u32,
    message: u32,
    end: u32,
}

impl HarmonyTokens {
    /// Looks the tokens up; `None` unless the vocabulary has all of them.
    pub fn of(vocab: &Vocab) -> Option<Self> {
        let id = |text: &str| vocab.id(text);
        Some(HarmonyTokens {
            start: id("<|start|>")?,
            channel: id("<|channel|>")?,
            message: id("<|message|>")?,
            end: id("<|end|>")?,
        })
    }
}

/// Converts an answer token by token.
pub struct Harmony {
    tokens: HarmonyTokens,
    state: HarmonyState,
    /// The header so far.
    header: Vec<u8>,
}

impl Harmony {
    pub fn new(tokens: HarmonyTokens) -> Self {
        Harmony { tokens, state: HarmonyState::Text, header: Vec::new() }
    }

    /// Processes a token; `spell` appends its text. Returns the markup to emit instead of the token, or `None` if the
    /// token is text.
    pub fn push(&mut self, id: u32, spell: impl FnOnce(&mut Vec<u8>)) -> Option<String> {
        Some(match id {
            id if id == self.tokens.start || id == self.tokens.channel => {
                let left = self.leave();
                if self.state != HarmonyState::Header {
                    self.header.clear();
                }
                self.state = HarmonyState::Header;
                self.header.push(b'\n');
                left
            }
            id if id == self.tokens.message => self.enter(),
            id if id == self.tokens.end => self.leave(),
            _ if self.state == HarmonyState::Header => {
                spell(&mut self.header);
                String::new()
            }
            _ => return None,
        })
    }

    /// Starts a message's text: returns the opening markup.
    fn enter(&mut self) -> String {
        let header = String::from_utf8_lossy(&self.header).into_owned();
        let tool = header.split_once("to=functions.").map(|(_, rest)| rest);
        let name = tool.and_then(|rest| rest.split(|c: char| c.is_whitespace() || c == '<').next());
        let (state, text) = match name.filter(|name| !name.is_empty()) {
            Some(name) => (HarmonyState::Call, format!("<tool_call>{{\"name\": {}, \"arguments\": ", quoted(name))),
            None if header.lines().any(|line| line.trim() == "analysis") => {
                (HarmonyState::Reasoning, "<think>\n".into())
            }
            None => (HarmonyState::Text, String::new()),
        };
        self.state = state;
        text
    }

    /// Ends a message: returns the closing markup.
    fn leave(&mut self) -> String {
        let markup = match self.state {
            HarmonyState::Reasoning => "\n</think>\n\n",
            HarmonyState::Call => "}</tool_call>",
            HarmonyState::Text | HarmonyState::Header => "",
        };
        if self.state != HarmonyState::Header {
            self.state = HarmonyState::Text;
        }
        markup.into()
    }

    /// Ends the answer: closes a tool call, but not reasoning, which was cut off.
    pub fn finish(mut self) -> String {
        if self.state == HarmonyState::Call { self.leave() } else { String::new() }
    }
}

/// Quotes a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::stream::TokenStream;
    use super::super::vocab::{TokenKind, TokenSpelling};
    use super::*;
    use std::sync::Arc;

    const MARKS: [&str; 6] = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|constrain|>"];
    const WORDS: [&str; 11] = [
        "assistant",
        "analysis",
        "final",
        "commentary",
        " to=functions.",
        "rain",
        " json",
        "Hm.",
        "Yes.",
        "{\"a\": 1}",
        "\u{120}x",
    ];

    fn vocabulary(words: &[&str]) -> Arc<Vocab> {
        let tokens = words.iter().map(|w| w.replace(' ', "\u{120}")).collect();
        let kind = |w: &&str| if MARKS.contains(w) { TokenKind::Control } else { TokenKind::Normal };
        Arc::new(Vocab::new(tokens, words.iter().map(kind).collect(), TokenSpelling::ByteLevel).unwrap())
    }

    fn read(parts: &[&str], special: bool) -> String {
        let words: Vec<&str> = MARKS.into_iter().chain(WORDS).collect();
        let vocab = vocabulary(&words);
        let mut stream = TokenStream::new(vocab);
        if special {
            stream = stream.with_special();
        }
        let id = |part: &&str| words.iter().position(|w| w == part).unwrap() as u32;
        let mut text: String = parts.iter().map(|part| stream.push(id(part))).collect();
        text.push_str(&stream.finish());
        text
    }

    #[test]
    fn messages_use_the_markup_of_other_models() {
        let thought = ["<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>"];
        let answer = ["<|start|>", "assistant", "<|channel|>", "final", "<|message|>", "Yes."];
        assert_eq!(read(&[&thought[..], &answer].concat(), false), "<think>\nHm.\n</think>\n\nYes.");
        assert_eq!(read(&thought[..4], false), "<think>\nHm.");
        // A template may prefill the message's header.
        assert_eq!(read(&["Yes."], false), "Yes.");
        let call = ["commentary", " to=functions.", "rain", "<|constrain|>", " json", "<|message|>", "{\"a\": 1}"];
        let call = [&thought[..], &["<|start|>", "assistant", "<|channel|>"], &call].concat();
        let want = "<think>\nHm.\n</think>\n\n<tool_call>{\"name\": \"rain\", \"arguments\": {\"a\": 1}}</tool_call>";
        assert_eq!(read(&call, false), want);
        assert_eq!(read(&[&call[..], &["<|call|>"]].concat(), false), want);
        assert_eq!(read(&answer, true), "<|start|>assistant<|channel|>final<|message|>Yes.");
    }

    #[test]
    fn other_vocabularies_have_no_such_messages() {
        assert_eq!(HarmonyTokens::of(&vocabulary(&["<|start|>", "<|message|>", "<|end|>"])), None);
    }
}
