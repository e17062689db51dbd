//! SentencePiece (`tokenizer.ggml.model` = `llama`): merges characters into the tokens with the best score; a character
//! without a token is encoded as bytes.

use std::ops::Range;

use super::merge::{Join, NONE, Symbol, merge};
use super::vocab::Vocab;
use crate::Result;

/// The character for spaces in tokens.
pub(super) const SPACE: &str = "\u{2581}";

/// Scores by token, as an order: see [`order`].
pub(super) struct Spm {
    orders: Vec<u32>,
    /// Whether to add a space before the text (and after each special token).
    pub space_prefix: bool,
}

impl Spm {
    /// `scores` is indexed by token.
    pub fn new(scores: &[f32], space_prefix: bool) -> Self {
        Spm { orders: scores.iter().map(|&s| order(s)).collect(), space_prefix }
    }

    /// Appends the tokens of `text`; `first` is true at the start of the input and after a special token.
    pub fn encode(&self, vocab: &Vocab, text: &str, first: bool, out: &mut Vec<u32>) -> Result<()> {
        let mut escaped = String::with_capacity(text.len() + 8);
        if first && self.space_prefix {
            escaped.push_str(SPACE);
        }
        escaped.push_str(&text.replace(' ', SPACE));
        let joined = merge(characters(vocab, &escaped), |left, right| {
            let id = vocab.id(&escaped[left.start..right.end])?;
            Some(Join { order: *self.orders.get(id as usize)?, id })
        });
        push_symbols(vocab, &escaped, &joined, out)
    }
}

/// One symbol a character.
pub(super) fn characters(vocab: &Vocab, text: &str) -> Vec<Symbol> {
    text.char_indices()
        .map(|(start, c)| {
            let end = start + c.len_utf8();
            Symbol { start, end, id: vocab.id(&text[start..end]).unwrap_or(NONE) }
        })
        .collect()
}

/// Appends the symbols' tokens; a symbol that is not a token becomes `<0xNN>` tokens, one a byte.
pub(super) fn push_symbols(vocab: &Vocab, text: &str, symbols: &[Symbol], out: &mut Vec<u32>) -> Result<()> {
    for symbol in symbols {
        if symbol.id != NONE {
            out.push(symbol.id);
            continue;
        }
        let bytes: Range<usize> = symbol.start..symbol.end;
        for &byte in &text.as_bytes()[bytes] {
            out.push(vocab.byte_id(byte)?);
        }
    }
    Ok(())
}

/// A number that sorts ascending as scores sort descending (the best score first).
fn order(score: f32) -> u32 {
    // Adding zero makes -0 and 0 equal. The rest is the usual total order of floats by their bits, reversed.
    let bits = (score + 0.0).to_bits();
    !(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
}

#[cfg(test)]
mod tests {
    #[test]
    fn better_scores_come_first() {
        let scores = [3.5, 0.0, -0.5, -1.0, -1e30, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|w| super::order(w[0]) < super::order(w[1])));
        assert_eq!(super::order(0.0), super::order(-0.0));
    }
}
