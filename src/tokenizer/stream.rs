//! Ids to text, one at a time. A token may end in the middle of a character: what is not yet a character is held back.

use std::sync::Arc;

use super::harmony::{Harmony, Marks};
use super::thoughts::Thoughts;
use super::vocab::Vocab;

/// Turns ids into text as they come; made by [`Tokenizer::stream`](super::Tokenizer::stream).
///
/// The pieces joined, with [`finish`](Self::finish) at the end, are exactly what
/// [`Tokenizer::decode`](super::Tokenizer::decode) says for all ids.
pub struct TokenStream {
    vocab: Arc<Vocab>,
    pending: Vec<u8>,
    /// Whether the next byte, if a space, is the one SentencePiece puts before every text.
    drop_space: bool,
    special: bool,
    /// How messages are told, if the vocabulary has the marks for them.
    harmony: Option<Harmony>,
    /// How thoughts are, likewise.
    thoughts: Option<Thoughts>,
}

impl TokenStream {
    pub(super) fn new(vocab: Arc<Vocab>) -> Self {
        let drop_space = vocab.drop_space;
        let harmony = Marks::of(&vocab).map(Harmony::new);
        let thoughts = Thoughts::of(&vocab);
        TokenStream { vocab, pending: Vec::new(), drop_space, special: false, harmony, thoughts }
    }

    /// The stream goes on after other text: a leading space is part of it.
    pub fn continuing(mut self) -> Self {
        self.drop_space = false;
        self
    }

    /// Control tokens (`<|im_end|>`) appear as text instead of as nothing. gpt-oss's messages and marks of thoughts too appear as they
    /// are.
    pub fn with_special(mut self) -> Self {
        self.special = true;
        (self.harmony, self.thoughts) = (None, None);
        self
    }

    /// The text that `id` completes; often a word, sometimes nothing. Ids outside the vocabulary add nothing.
    pub fn push(&mut self, id: u32) -> String {
        let (vocab, special) = (&self.vocab, self.special);
        let harmony = self.harmony.as_mut();
        if let Some(said) = harmony.and_then(|harmony| harmony.turn(id, |head| vocab.spell(id, special, head))) {
            self.pending.extend(said.into_bytes());
            return take_text(&mut self.pending);
        }
        let thoughts = self.thoughts.as_mut();
        if let Some(said) = thoughts.and_then(|thoughts| thoughts.turn(id, |name| vocab.spell(id, special, name))) {
            self.pending.extend(said);
            return take_text(&mut self.pending);
        }
        let before = self.pending.len();
        self.vocab.spell(id, self.special, &mut self.pending);
        if self.drop_space && self.pending.len() > before {
            self.drop_space = false;
            if self.pending[before] == b' ' {
                self.pending.remove(before);
            }
        }
        take_text(&mut self.pending)
    }

    /// What is left at the end; bytes that never became a character are U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned() + &self.harmony.map(Harmony::finish).unwrap_or_default()
    }

    /// The same where an answer was cut: a character that it did not complete is left out.
    pub fn cut(mut self) -> String {
        self.pending.clear();
        self.finish()
    }
}

/// Takes all of `bytes` but a character that may still be completed.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = bytes.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(good) => {
                text.push_str(good);
                rest = &[];
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(good).unwrap_or_default());
                rest = bad;
                let Some(len) = error.error_len() else { break };
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &rest[len..];
            }
        }
    }
    *bytes = rest.to_vec();
    text
}
