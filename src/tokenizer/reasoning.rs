//! Special tokens around reasoning (Gemma 4, Ministral 3), converted to the markup of other models: `<think>`.

use super::vocab::Vocab;

/// The opening token, the closing token, and whether a line with a channel name follows the opening token.
const MARKS: [(&str, &str, bool); 2] = [("<|channel>", "<channel|>", true), ("[THINK]", "[/THINK]", false)];

/// Converts an answer token by token.
pub struct ReasoningMarkers {
    open: u32,
    close: u32,
    named: bool,
    /// The channel name so far, after an opening token.
    name: Option<Vec<u8>>,
}

impl ReasoningMarkers {
    /// Looks the tokens up; `None` if the vocabulary has none.
    pub fn of(vocab: &Vocab) -> Option<Self> {
        MARKS.iter().find_map(|(open, close, named)| {
            Some(ReasoningMarkers { open: vocab.id(open)?, close: vocab.id(close)?, named: *named, name: None })
        })
    }

    /// Processes a token; `spell` appends its text. Returns the markup to emit instead of the token, or `None` if the
    /// token is text.
    pub fn push(&mut self, id: u32, spell: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
        if id == self.open {
            self.name = self.named.then(Vec::new);
            return Some(if self.named { Vec::new() } else { b"<think>\n".to_vec() });
        }
        if id == self.close {
            // A block that ends before its name does is empty, and omitted.
            return Some(if self.name.take().is_some() { Vec::new() } else { b"\n</think>\n\n".to_vec() });
        }
        let name = self.name.as_mut()?;
        spell(name);
        let Some(end) = name.iter().position(|byte| *byte == b'\n') else { return Some(Vec::new()) };
        let markup = [b"<think>\n", &name[end + 1..]].concat();
        self.name = None;
        Some(markup)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::TokenStream;
    use super::super::vocab::{TokenKind, TokenSpelling};
    use super::*;
    use std::sync::Arc;

    fn read(marks: [&str; 2], parts: &[&str], special: bool) -> String {
        let words = [&marks[..], &["thought", "\u{10a}", "Hm.", "Yes.", "\u{10a}Hm."]].concat();
        let kind = |w: &&str| if marks.contains(w) { TokenKind::Control } else { TokenKind::Normal };
        let tokens = words.iter().map(|w| w.to_string()).collect();
        let vocab = Vocab::new(tokens, words.iter().map(kind).collect(), TokenSpelling::ByteLevel).unwrap();
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
    fn reasoning_uses_the_markup_of_other_models() {
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
