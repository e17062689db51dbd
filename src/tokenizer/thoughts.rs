//! Thoughts that a vocabulary marks with tokens of its own (Gemma 4, Ministral 3), told as other models write them:
//! within `<think>`. Knows ids and text, no prompts.

use super::vocab::Vocab;

/// Tokens around a thought: the first, the last, and whether a line with the thought's name follows the first.
const MARKS: [(&str, &str, bool); 2] = [("<|channel>", "<channel|>", true), ("[THINK]", "[/THINK]", false)];

/// Reads an answer.
pub struct Thoughts {
    open: u32,
    close: u32,
    named: bool,
    /// The line that is being read behind a first token.
    name: Option<Vec<u8>>,
}

impl Thoughts {
    /// For a vocabulary that has such tokens.
    pub fn of(vocab: &Vocab) -> Option<Self> {
        MARKS.iter().find_map(|(open, close, named)| {
            Some(Thoughts { open: vocab.id(open)?, close: vocab.id(close)?, named: *named, name: None })
        })
    }

    /// Takes a token; `spelled` writes it out. What is said instead of a mark; nothing if it is text.
    pub fn turn(&mut self, id: u32, spelled: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
        if id == self.open {
            self.name = self.named.then(Vec::new);
            return Some(if self.named { Vec::new() } else { b"<think>\n".to_vec() });
        }
        if id == self.close {
            // A thought without a line is none.
            return Some(if self.name.take().is_some() { Vec::new() } else { b"\n</think>\n\n".to_vec() });
        }
        let name = self.name.as_mut()?;
        spelled(name);
        let Some(end) = name.iter().position(|byte| *byte == b'\n') else { return Some(Vec::new()) };
        let said = [b"<think>\n", &name[end + 1..]].concat();
        self.name = None;
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::TokenStream;
    use super::super::vocab::{Kind, Spelling};
    use super::*;
    use std::sync::Arc;

    fn read(marks: [&str; 2], parts: &[&str], special: bool) -> String {
        let words = [&marks[..], &["thought", "\u{10a}", "Hm.", "Yes.", "\u{10a}Hm."]].concat();
        let kind = |w: &&str| if marks.contains(w) { Kind::Control } else { Kind::Normal };
        let tokens = words.iter().map(|w| w.to_string()).collect();
        let vocab = Vocab::new(tokens, words.iter().map(kind).collect(), Spelling::ByteLevel).unwrap();
        let mut stream = TokenStream::new(Arc::new(vocab));
        if special {
            stream = stream.with_special();
        }
        let id = |part: &&str| words.iter().position(|w| w == part).unwrap() as u32;
        let mut text: String = parts.iter().map(|part| stream.push(id(part))).collect();
        text.push_str(&stream.finish());
        text
    }

    #[test]
    fn thoughts_are_told_as_other_models_write() {
        let gemma = ["<|channel>", "<channel|>"];
        let thought = ["<|channel>", "thought", "\u{10a}", "Hm.", "<channel|>", "Yes."];
        assert_eq!(read(gemma, &thought, false), "<think>\nHm.\n</think>\n\nYes.");
        assert_eq!(read(gemma, &thought[..4], false), "<think>\nHm.");
        assert_eq!(read(gemma, &["<|channel>", "thought", "\u{10a}Hm."], false), "<think>\nHm.");
        assert_eq!(read(gemma, &["<|channel>", "<channel|>", "Yes."], false), "Yes.");
        assert_eq!(read(gemma, &thought, true), "<|channel>thought\nHm.<channel|>Yes.");
        let mistral = ["[THINK]", "[/THINK]"];
        assert_eq!(read(mistral, &["[THINK]", "Hm.", "[/THINK]", "Yes."], false), "<think>\nHm.\n</think>\n\nYes.");
        assert_eq!(read(["<a>", "<b>"], &["<a>", "thought", "<b>"], false), "thought");
    }
}
