//! Hugging Face's `tokenizer.json`, encoded by the `tokenizers` crate. Decoding is Firelight's own, so that streaming
//! is the same for all files; it supports byte-level and SentencePiece-like decoders.

use std::sync::OnceLock;

use tokenizers::normalizers::{Replace, Sequence};
use tokenizers::{DecoderWrapper, Tokenizer};

use super::Special;
use super::vocab::{ESCAPE, TokenKind, TokenSpelling, Vocab, byte_token};
use crate::{Error, Result};

/// Limit of ids; no vocabulary has more. A file's largest id determines the size of its table.
const MAX_ID: u32 = 1 << 22;

pub(super) struct JsonTokenizer {
    parsing: Tokenizer,
    /// Treats special tokens as plain text; created on first use.
    plain: OnceLock<Tokenizer>,
}

impl JsonTokenizer {
    /// Parses a file: the encoder and its vocabulary.
    pub fn new(bytes: &[u8]) -> Result<(Self, Vocab)> {
        let mut parsing = Tokenizer::from_bytes(bytes)
            .map_err(|e| Error::format(format_args!("tokenizer.json: {e}")).caused_by(e))?;
        parsing.with_truncation(None).map_err(text_error)?;
        parsing.with_padding(None);
        let (spelling, drop_space) = spelling(parsing.get_decoder())?;
        let mut vocab = read_vocab(&parsing, spelling)?;
        vocab.drop_space = drop_space;
        // Normalizers run after special tokens are split off, so they can remove the escapes.
        let bare = Replace::new(ESCAPE.to_string(), "").map_err(text_error)?;
        let own = parsing.get_normalizer().cloned();
        let all = [bare.into()].into_iter().chain(own).collect();
        parsing.with_normalizer(Some(Sequence::new(all))).map_err(text_error)?;
        Ok((JsonTokenizer { parsing, plain: OnceLock::new() }, vocab))
    }

    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        let tokenizer = match special.parse {
            true => &self.parsing,
            false => self.plain.get_or_init(|| {
                let mut plain = self.parsing.clone();
                plain.set_encode_special_tokens(true);
                plain
            }),
        };
        Ok(tokenizer.encode_fast(text, special.add).map_err(text_error)?.get_ids().to_vec())
    }
}

fn text_error(error: tokenizers::Error) -> Error {
    Error::text(format!("tokenizer.json: {error}")).caused_by(error)
}

/// How tokens spell text, and whether one leading space is dropped, judged by the decoder the file asks for.
fn spelling(decoder: Option<&DecoderWrapper>) -> Result<(TokenSpelling, bool)> {
    let text = serde_json::to_string(&decoder).unwrap_or_default();
    let has = |part: &str| text.contains(part);
    if has(r#""type":"ByteLevel""#) {
        return Ok((TokenSpelling::ByteLevel, false));
    }
    let metaspace = has(r#""type":"Metaspace""#);
    if metaspace || has(super::spm::SPACE) {
        let added = metaspace && !has(r#""prepend_scheme":"never""#);
        return Ok((TokenSpelling::Spaces, added || has(r#""type":"Strip""#)));
    }
    Err(Error::Unsupported(format!("tokenizer.json: the decoder {text} is not supported; convert the model to GGUF")))
}

fn read_vocab(tokenizer: &Tokenizer, spelling: TokenSpelling) -> Result<Vocab> {
    let ids = tokenizer.get_vocab(true);
    let most = ids.values().copied().max().unwrap_or(0);
    if most >= MAX_ID {
        return Err(Error::format(format_args!("tokenizer.json: the token id {most} is out of range")));
    }
    let count = if ids.is_empty() { 0 } else { most as usize + 1 };
    let mut tokens = vec![String::new(); count];
    let mut kinds = vec![TokenKind::Unused; count];
    for (text, id) in ids {
        let byte = spelling == TokenSpelling::Spaces && byte_token(&text).is_some();
        kinds[id as usize] = if byte { TokenKind::Byte } else { TokenKind::Normal };
        tokens[id as usize] = text;
    }
    for (id, added) in tokenizer.get_added_tokens_decoder() {
        if let Some(kind) = kinds.get_mut(id as usize) {
            *kind = if added.special { TokenKind::Control } else { TokenKind::UserDefined };
        }
    }
    Vocab::new(tokens, kinds, spelling)
}
