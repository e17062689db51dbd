//! Hugging Face's `tokenizer.json`, run by the `tokenizers` crate. Decoding stays ours, so that streaming is the same
//! for all files; only the two spellings that language models use are known.

use std::sync::OnceLock;

use tokenizers::normalizers::{Replace, Sequence};
use tokenizers::{DecoderWrapper, Tokenizer};

use super::Special;
use super::vocab::{GUARD, Kind, Spelling, Vocab, byte_token};
use crate::{Error, Result};

/// More ids than any vocabulary has; a file's largest id decides how much memory its table takes.
const MAX_ID: u32 = 1 << 22;

pub(super) struct Json {
    parsing: Tokenizer,
    /// The same, for texts in which special tokens are only text; made when first needed.
    plain: OnceLock<Tokenizer>,
}

impl Json {
    /// The encoder and the vocabulary of a file.
    pub fn new(bytes: &[u8]) -> Result<(Self, Vocab)> {
        let mut parsing =
            Tokenizer::from_bytes(bytes).map_err(|e| Error::format(format_args!("tokenizer.json: {e}")))?;
        parsing.with_truncation(None).map_err(text_error)?;
        parsing.with_padding(None);
        let (spelling, drop_space) = spelling(parsing.get_decoder())?;
        let mut vocab = read_vocab(&parsing, spelling)?;
        vocab.drop_space = drop_space;
        // Normalizers see what special tokens were cut out of.
        let bare = Replace::new(GUARD.to_string(), "").map_err(text_error)?;
        let own = parsing.get_normalizer().cloned();
        let all = [bare.into()].into_iter().chain(own).collect();
        parsing.with_normalizer(Some(Sequence::new(all))).map_err(text_error)?;
        Ok((Json { parsing, plain: OnceLock::new() }, vocab))
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
    Error::Text(format!("tokenizer.json: {error}"))
}

/// How tokens spell text, and whether one leading space is dropped, judged by the decoder the file asks for.
fn spelling(decoder: Option<&DecoderWrapper>) -> Result<(Spelling, bool)> {
    let text = serde_json::to_string(&decoder).unwrap_or_default();
    let has = |part: &str| text.contains(part);
    if has(r#""type":"ByteLevel""#) {
        return Ok((Spelling::ByteLevel, false));
    }
    let metaspace = has(r#""type":"Metaspace""#);
    if metaspace || has(super::spm::SPACE) {
        let added = metaspace && !has(r#""prepend_scheme":"never""#);
        return Ok((Spelling::Spaces, added || has(r#""type":"Strip""#)));
    }
    Err(Error::Unsupported(format!("tokenizer.json: the decoder {text} is not supported; convert the model to GGUF")))
}

fn read_vocab(tokenizer: &Tokenizer, spelling: Spelling) -> Result<Vocab> {
    let ids = tokenizer.get_vocab(true);
    let most = ids.values().copied().max().unwrap_or(0);
    if most >= MAX_ID {
        return Err(Error::format(format_args!("tokenizer.json: the token id {most} is out of range")));
    }
    let count = if ids.is_empty() { 0 } else { most as usize + 1 };
    let mut tokens = vec![String::new(); count];
    let mut kinds = vec![Kind::Unused; count];
    for (text, id) in ids {
        let byte = spelling == Spelling::Spaces && byte_token(&text).is_some();
        kinds[id as usize] = if byte { Kind::Byte } else { Kind::Normal };
        tokens[id as usize] = text;
    }
    for (id, added) in tokenizer.get_added_tokens_decoder() {
        if let Some(kind) = kinds.get_mut(id as usize) {
            *kind = if added.special { Kind::Control } else { Kind::UserDefined };
        }
    }
    Vocab::new(tokens, kinds, spelling)
}
