//! Streaming detokenization. A token may end within a UTF-8 character; incomplete characters are held back.

use std::sync::Arc;

use super::harmony::{Harmony, HarmonyTokens};
use super::reasoning::ReasoningMarkers;
use super::vocab::Vocab;

/// Decodes ids to text one at a time; created by [`Tokenizer::stream`](super::Tokenizer::stream).
///
/// The concatenated pieces, including the one of [`finish`](Self::finish), equal the result of
/// [`Tokenizer::decode`](super::Tokenizer::decode) for all ids.
pub struct TokenStream {
    vocab: Arc<Vocab>,
    pending: Vec<u8>,
    /// The next byte, if it is a space, is the prefix that SentencePiece adds to every text.
    drop_space: bool,
    special: bool,
    /// Set if the vocabulary has the tokens of gpt-oss messages.
    harmony: Option<Harmony>,
    /// Set if the vocabulary has special tokens around reasoning.
    reasoning: Option<ReasoningMarkers>,
}

impl TokenStream {
    pub(super) fn new(vocab: Arc<Vocab>) -> Self {
        let drop_space = vocab.drop_space;
        let harmony = HarmonyTokens::of(&vocab).map(Harmony::new);
        let reasoning = ReasoningMarkers::of(&vocab);
        TokenStream { vocab, pending: Vec::new(), drop_space, special: false, harmony, reasoning }
    }

    /// Continues after other text: a leading space is kept.
    pub fn continuing(mut self) -> Self {
        self.drop_space = false;
        self
    }

    /// Includes control tokens (`<|im_end|>`) in the text, and does not convert gpt-oss messages and reasoning markers.
    pub fn with_special(mut self) -> Self {
        self.special = true;
        (self.harmony, self.reasoning) = (None, None);
        self
    }

    /// Returns the text that `id` completes, which may be empty. Ids outside the vocabulary add nothing.
    pub fn push(&mut self, id: u32) -> String {
        let (vocab, special) = (&self.vocab, self.special);
        let harmony = self.harmony.as_mut();
        if let Some(markup) = harmony.and_then(|harmony| harmony.push(id, |head| vocab.spell(id, special, head))) {
            self.pending.extend(markup.into_bytes());
            return take_text(&mut self.pending);
        }
        let reasoning = self.reasoning.as_mut();
        if let Some(markup) = reasoning.and_then(|reasoning| reasoning.push(id, |name| vocab.spell(id, special, name)))
        {
            self.pending.extend(markup);
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

    /// Returns the rest of the text. An incomplete character becomes U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned() + &self.harmony.map(Harmony::finish).unwrap_or_default()
    }

    /// Like [`finish`](Self::finish) for an answer that was cut off: drops an incomplete character.
    pub fn cut(mut self) -> String {
        self.pending.clear();
        self.finish()
    }
}

/// Takes all of `bytes` except an incomplete character at the end.
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
