//! Byte-pair encoding (`tokenizer.ggml.model` = `gpt2` and `gemma4`): splits text into words (see `pre`) and merges the
//! bytes or characters of each word in the order of the merges' ranks.

use std::collections::HashMap;

use super::merge::{Join, NONE, Symbol, merge};
use super::pre::WordSplitter;
use super::spm::{SPACE, characters, push_symbols};
use super::vocab::{Vocab, byte_char};
use crate::{Error, Result};

/// The merges and the word splitter.
pub(super) struct Bpe {
    /// Maps (left id, right id) to the rank of the merge and the merged token.
    merges: HashMap<(u32, u32), Join>,
    splitter: WordSplitter,
    /// A word that is a token is encoded as that token, regardless of merges.
    whole_words: bool,
    /// The token of each byte, or [`NONE`]; `None` if symbols are characters, with U+2581 for spaces.
    bytes: Option<Box<[u32; 256]>>,
}

impl Bpe {
    /// `merges` are "left right" lines in order of rank; `byte_level` is true if tokens use GPT-2's byte alphabet.
    pub fn new<S: AsRef<str>>(
        vocab: &Vocab,
        merges: &[S],
        splitter: WordSplitter,
        whole_words: bool,
        byte_level: bool,
    ) -> Result<Self> {
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, line) in merges.iter().enumerate() {
            let (pair, id) = parse_merge(vocab, line.as_ref())?;
            table.entry(pair).or_insert(Join { order: rank as u32, id });
        }
        let bytes = byte_level.then(|| {
            let id = |byte: usize| vocab.id(byte_char(byte as u8).encode_utf8(&mut [0; 4])).unwrap_or(NONE);
            Box::new(std::array::from_fn(id))
        });
        Ok(Bpe { merges: table, splitter, whole_words, bytes })
    }

    /// Appends the tokens of `text`.
    pub fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) -> Result<()> {
        match &self.bytes {
            Some(bytes) => self.splitter.words(text).into_iter().try_for_each(|w| self.byte_word(vocab, bytes, w, out)),
            None => {
                let escaped = text.replace(' ', SPACE);
                self.splitter.words(&escaped).into_iter().try_for_each(|w| self.char_word(vocab, w, out))
            }
        }
    }

    fn byte_word(&self, vocab: &Vocab, bytes: &[u32; 256], word: &str, out: &mut Vec<u32>) -> Result<()> {
        if self.whole_words {
            let spelled: String = word.bytes().map(byte_char).collect();
            if let Some(id) = vocab.id(&spelled) {
                out.push(id);
                return Ok(());
            }
        }
        let symbol = |(start, byte): (usize, u8)| Symbol { start, end: start + 1, id: bytes[byte as usize] };
        for symbol in self.join(word.bytes().enumerate().map(symbol).collect()) {
            out.push(if symbol.id != NONE { symbol.id } else { vocab.unknown_byte(word.as_bytes()[symbol.start])? });
        }
        Ok(())
    }

    fn char_word(&self, vocab: &Vocab, word: &str, out: &mut Vec<u32>) -> Result<()> {
        // A run of newlines is one token where the vocabulary has it: no merge leads there.
        let newlines = word.bytes().all(|b| b == b'\n');
        if let Some(id) = (newlines || self.whole_words).then(|| vocab.id(word)).flatten() {
            out.push(id);
            return Ok(());
        }
        push_symbols(vocab, word, &self.join(characters(vocab, word)), out)
    }

    fn join(&self, symbols: Vec<Symbol>) -> Vec<Symbol> {
        merge(symbols, |left, right| self.merges.get(&(left.id, right.id)).copied())
    }
}

/// The ids of both sides and of what they make.
fn parse_merge(vocab: &Vocab, line: &str) -> Result<((u32, u32), u32)> {
    let bad = || Error::format(format_args!("tokenizer.ggml.merges: {line:?} does not name known tokens"));
    // The left side is never empty, so a first character that is a space belongs to it.
    let at = line.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(at, _)| at).ok_or_else(bad)?;
    let (left, right) = (&line[..at], &line[at + 1..]);
    let id = |text: &str| vocab.id(text).ok_or_else(bad);
    Ok(((id(left)?, id(right)?), id(&[left, right].concat())?))
}
