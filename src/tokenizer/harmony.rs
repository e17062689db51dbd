//! The messages in which gpt-oss answers ("Harmony", <https://github.com/openai/harmony>), told as other models write:
//! what it thinks within `<think>`, calls of tools as `<tool_call>` and JSON, and nothing around the answer itself.
//!
//! A message is `<|start|>` who `<|channel|>` where `<|message|>` text `<|end|>`; the channel `analysis` holds thoughts,
//! `to=functions.name` in the head names a tool, and `<|call|>` ends its arguments. Knows ids and text, no prompts.

use super::vocab::Vocab;

/// Where in its messages an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Text that is said as it is.
    Text,
    /// What stands before a message.
    Head,
    /// A thought.
    Thought,
    /// The arguments of a call.
    Call,
}

/// The ids that divide messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    start: u32,
    channel: u32,
    message: u32,
    end: u32,
}

impl Marks {
    /// Of a vocabulary that has them all.
    pub fn of(vocab: &Vocab) -> Option<Self> {
        let id = |text: &str| vocab.id(text);
        Some(Marks {
            start: id("<|start|>")?,
            channel: id("<|channel|>")?,
            message: id("<|message|>")?,
            end: id("<|end|>")?,
        })
    }
}

/// Reads an answer.
pub struct Harmony {
    marks: Marks,
    place: Place,
    /// The head that is being read.
    head: Vec<u8>,
}

impl Harmony {
    pub fn new(marks: Marks) -> Self {
        Harmony { marks, place: Place::Text, head: Vec::new() }
    }

    /// Takes a token; `spelled` writes it out. What is said instead of a part of the answer's form; nothing if it is text.
    pub fn turn(&mut self, id: u32, spelled: impl FnOnce(&mut Vec<u8>)) -> Option<String> {
        Some(match id {
            id if id == self.marks.start || id == self.marks.channel => {
                let left = self.leave();
                if self.place != Place::Head {
                    self.head.clear();
                }
                self.place = Place::Head;
                self.head.push(b'\n');
                left
            }
            id if id == self.marks.message => self.enter(),
            id if id == self.marks.end => self.leave(),
            _ if self.place == Place::Head => {
                spelled(&mut self.head);
                String::new()
            }
            _ => return None,
        })
    }

    /// A message begins.
    fn enter(&mut self) -> String {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let tool = head.split_once("to=functions.").map(|(_, rest)| rest);
        let name = tool.and_then(|rest| rest.split(|c: char| c.is_whitespace() || c == '<').next());
        let (place, said) = match name.filter(|name| !name.is_empty()) {
            Some(name) => (Place::Call, format!("<tool_call>{{\"name\": {}, \"arguments\": ", quoted(name))),
            None if head.lines().any(|line| line.trim() == "analysis") => (Place::Thought, "<think>\n".into()),
            None => (Place::Text, String::new()),
        };
        self.place = place;
        said
    }

    /// A message ends; also what an answer that ends here still needs.
    pub fn leave(&mut self) -> String {
        let said = match self.place {
            Place::Thought => "\n</think>\n\n",
            Place::Call => "}</tool_call>",
            Place::Text | Place::Head => "",
        };
        if self.place != Place::Head {
            self.place = Place::Text;
        }
        said.into()
    }

    /// What the end of an answer adds: a call is whole when its arguments are, a thought that was cut off is not.
    pub fn finish(mut self) -> String {
        if self.place == Place::Call { self.leave() } else { String::new() }
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::stream::TokenStream;
    use super::super::vocab::{Kind, Spelling};
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
        let kind = |w: &&str| if MARKS.contains(w) { Kind::Control } else { Kind::Normal };
        Arc::new(Vocab::new(tokens, words.iter().map(kind).collect(), Spelling::ByteLevel).unwrap())
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
    fn messages_are_told_as_other_models_write() {
        let thought = ["<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>"];
        let answer = ["<|start|>", "assistant", "<|channel|>", "final", "<|message|>", "Yes."];
        assert_eq!(read(&[&thought[..], &answer].concat(), false), "<think>\nHm.\n</think>\n\nYes.");
        assert_eq!(read(&thought[..4], false), "<think>\nHm.");
        // As a template may have begun the message itself.
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
        assert_eq!(Marks::of(&vocabulary(&["<|start|>", "<|message|>", "<|end|>"])), None);
    }
}
