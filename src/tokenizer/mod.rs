//! Tokenization: text to token ids and back, as the model's file defines it.
//!
//! A GGUF file contains a SentencePiece (`spm`) or byte-pair (`bpe`) vocabulary in its `tokenizer.ggml.*` keys; a
//! Hugging Face folder contains a `tokenizer.json` (`json`). The token ids must equal those of llama.cpp and of the
//! `tokenizers` crate; tests compare them. Nothing here depends on models or chat templates.

mod bpe;
#[cfg(feature = "huggingface")]
mod export;
mod harmony;
#[cfg_attr(not(feature = "huggingface"), path = "json_unavailable.rs")]
mod json;
mod merge;
mod pre;
mod reasoning;
mod spm;
mod stream;
mod vocab;

#[cfg(feature = "huggingface")]
pub use export::to_gguf;
pub use stream::TokenStream;

use crate::checkpoint::{Checkpoint, Metadata};
use crate::{Error, Result};
use bpe::Bpe;
use json::JsonTokenizer;
use pre::WordSplitter;
use spm::Spm;
use std::borrow::Cow;
use std::sync::Arc;

use vocab::{ESCAPE, TextPart, TokenKind, TokenSpelling, Vocab};

/// How [`Tokenizer::encode`] handles special tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// Add BOS and EOS where the model's file asks for them.
    pub add: bool,
    /// Parse control tokens in the text (`<|im_end|>`); otherwise they are encoded as plain text.
    pub parse: bool,
}

impl Special {
    /// Plain text.
    pub const NONE: Special = Special { add: false, parse: false };
    /// A raw prompt of plain text, with BOS if the file asks for it.
    pub const ADD: Special = Special { add: true, parse: false };
    /// A rendered chat template, which contains all its special tokens.
    pub const PARSE: Special = Special { add: false, parse: true };
    /// A raw prompt that may contain special tokens.
    pub const ALL: Special = Special { add: true, parse: true };
}

/// A model's tokenizer.
pub struct Tokenizer {
    vocab: Arc<Vocab>,
    encoder: Encoder,
    add_bos: bool,
    add_eos: bool,
    notices: Vec<String>,
}

enum Encoder {
    Spm(Spm),
    Bpe(Bpe),
    Json(Box<JsonTokenizer>),
}

impl Tokenizer {
    /// Loads a checkpoint's tokenizer, from its `tokenizer.json` if it has one, or else from its metadata.
    ///
    /// # Errors
    /// If there is no tokenizer, or it is unsupported or inconsistent.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        match &checkpoint.tokenizer_json {
            Some(json) => Self::from_json(json, &checkpoint.metadata),
            None => Self::from_metadata(&checkpoint.metadata),
        }
    }

    /// Loads a `tokenizer.json`; `metadata` may contain the ids of special tokens.
    ///
    /// # Errors
    /// If the file is damaged, or its decoder is neither byte-level nor SentencePiece-like.
    pub fn from_json(json: &[u8], metadata: &Metadata) -> Result<Self> {
        let (json, mut vocab) = JsonTokenizer::new(json)?;
        read_special_ids(&mut vocab, metadata)?;
        // The file's post-processor adds BOS and EOS; the first token that it adds is BOS.
        if vocab.bos.is_none() {
            vocab.bos = json.encode("", Special::ALL)?.first().copied().filter(|&id| Some(id) != vocab.eos);
        }
        let encoder = Encoder::Json(Box::new(json));
        Ok(Tokenizer { vocab: Arc::new(vocab), encoder, add_bos: false, add_eos: false, notices: Vec::new() })
    }

    /// Loads the tokenizer in GGUF metadata.
    ///
    /// # Errors
    /// If arrays are missing or differ in length, merges or ids refer to no token, or the type is unsupported.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let missing = |key: &str| Error::format(format_args!("the file has no tokenizer: {key} is missing"));
        let model = metadata.get_str("tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
        let spelling = match model {
            "llama" | "gemma4" => TokenSpelling::Spaces,
            "gpt2" => TokenSpelling::ByteLevel,
            other => {
                let message = format!("the tokenizer type {other:?} is not supported (llama, gpt2 and gemma4 are)");
                return Err(Error::Unsupported(message));
            }
        };
        let tokens =
            metadata.get_strings("tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?.to_vec();
        let kinds = match metadata.get_i32s("tokenizer.ggml.token_type")? {
            Some(types) => types.into_iter().map(TokenKind::from_gguf).collect(),
            None => vec![TokenKind::Normal; tokens.len()],
        };
        let mut vocab = Vocab::new(tokens, kinds, spelling)?;
        read_special_ids(&mut vocab, metadata)?;
        if is_phi3(metadata)? {
            vocab.strip_after_specials(&["<unk>", "<s>", "<|endoftext|>"]);
        }
        let mut notices = Vec::new();
        let (encoder, add_bos) = match model {
            "llama" => (read_spm(&mut vocab, metadata)?, true),
            _ => read_bpe(&vocab, metadata, model, &mut notices)?,
        };
        let add_bos = adds_token("bos", vocab.bos, metadata.get_bool("tokenizer.ggml.add_bos_token")?, add_bos)?;
        let add_eos = adds_token("eos", vocab.eos, metadata.get_bool("tokenizer.ggml.add_eos_token")?, false)?;
        Ok(Tokenizer { vocab: Arc::new(vocab), encoder, add_bos, add_eos, notices })
    }

    /// Escapes special tokens in untrusted text (`<|im_end|>`), so that it can be inserted into a prompt:
    /// [`encode`](Self::encode) encodes them as plain text and removes the escapes.
    pub fn escape_special(&self, text: &str) -> String {
        self.vocab.escape_special(text)
    }

    /// Encodes text to token ids.
    ///
    /// # Errors
    /// If the vocabulary has no token for a byte of the text and no unknown token.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        if let Encoder::Json(json) = &self.encoder {
            return json.encode(text, special);
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        ids.extend(self.vocab.bos.filter(|_| special.add && self.add_bos));
        let mut first = true;
        for part in self.vocab.split(text, special.parse) {
            match (part, &self.encoder) {
                (TextPart::Special(id), _) => ids.push(id),
                (TextPart::Text(text), Encoder::Spm(spm)) => {
                    spm.encode(&self.vocab, &without_escapes(text), first, &mut ids)?
                }
                (TextPart::Text(text), Encoder::Bpe(bpe)) => {
                    bpe.encode(&self.vocab, &without_escapes(text), &mut ids)?
                }
                (TextPart::Text(_), Encoder::Json(_)) => {}
            }
            first = matches!(part, TextPart::Special(_));
        }
        ids.extend(self.vocab.eos.filter(|_| special.add && self.add_eos));
        Ok(ids)
    }

    /// Decodes ids to text, without control tokens. Invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        decode_all(self.stream(), ids)
    }

    /// Like [`decode`](Self::decode), but includes control tokens.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        decode_all(self.stream().with_special(), ids)
    }

    /// Decodes ids one at a time, starting at the beginning of a text.
    pub fn stream(&self) -> TokenStream {
        TokenStream::new(self.vocab.clone())
    }

    /// Number of token ids; all ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The id of the token with exactly this text in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocab.id(token)
    }

    /// A token's text in the vocabulary (`Ġhello`, `▁hello`, `<0x0A>`).
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.vocab.piece(id)
    }

    /// The bytes that a token decodes to. A control token has none unless `special` is true.
    pub fn bytes(&self, id: u32, special: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.vocab.spell(id, special, &mut bytes);
        bytes
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The end-of-sequence token. Generation ends at any of [`end_ids`](Self::end_ids).
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// Whether this token ends a generation.
    pub fn is_end(&self, id: u32) -> bool {
        self.vocab.ends.binary_search(&id).is_ok()
    }

    /// All ids that end a generation, in ascending order.
    pub fn end_ids(&self) -> &[u32] {
        &self.vocab.ends
    }

    /// Warnings for the user, such as an unknown pre-tokenizer.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// Removes escapes.
fn without_escapes(text: &str) -> Cow<'_, str> {
    if text.contains(ESCAPE) { text.replace(ESCAPE, "").into() } else { text.into() }
}

fn decode_all(mut stream: TokenStream, ids: &[u32]) -> String {
    let text: String = ids.iter().map(|&id| stream.push(id)).collect();
    text + &stream.finish()
}

fn read_special_ids(vocab: &mut Vocab, metadata: &Metadata) -> Result<()> {
    let size = vocab.len();
    let read = |name: &str| {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match metadata.get_u32(&key)? {
            Some(id) if id as usize >= size => {
                Err(Error::format(format_args!("{key} is {id}, but there are {size} tokens")))
            }
            id => Ok(id),
        }
    };
    vocab.bos = read("bos")?;
    vocab.eos = read("eos")?;
    vocab.unknown = read("unknown")?;
    let ends = ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"].map(read);
    let mut ends: Vec<u32> = ends.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
    // Hugging Face folders may list several.
    let listed = metadata.get_u32s("tokenizer.ggml.eos_token_ids")?.unwrap_or_default();
    ends.extend(listed.into_iter().filter(|id| (*id as usize) < size));
    vocab.find_ends(ends);
    Ok(())
}

/// Whether BOS or EOS is added: the file's setting, or `default` if the token exists.
fn adds_token(name: &str, id: Option<u32>, asked: Option<bool>, default: bool) -> Result<bool> {
    if asked == Some(true) && id.is_none() {
        let message = format!("tokenizer.ggml.add_{name}_token is true, but tokenizer.ggml.{name}_token_id is missing");
        return Err(Error::format(message));
    }
    Ok(asked.unwrap_or(default) && id.is_some())
}

/// Whether this is Phi-3, which drops white space after most special tokens. GGUF has no key for that, so the model's
/// name decides.
fn is_phi3(metadata: &Metadata) -> Result<bool> {
    let name = metadata.get_str("general.name")?.unwrap_or_default().to_lowercase();
    Ok(name.contains("phi-3") || name.contains("phi3"))
}

fn read_spm(vocab: &mut Vocab, metadata: &Metadata) -> Result<Encoder> {
    let scores = metadata.get_f32s("tokenizer.ggml.scores")?.unwrap_or_default();
    if scores.len() != vocab.len() {
        let message = format!("tokenizer.ggml.scores has {} entries for {} tokens", scores.len(), vocab.len());
        return Err(Error::format(message));
    }
    let space_prefix = metadata.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    vocab.drop_space = space_prefix;
    Ok(Encoder::Spm(Spm::new(&scores, space_prefix)))
}

/// Returns the encoder, and whether BOS is added by default.
fn read_bpe(vocab: &Vocab, metadata: &Metadata, model: &str, notices: &mut Vec<String>) -> Result<(Encoder, bool)> {
    let Some(merges) = metadata.get_strings("tokenizer.ggml.merges")? else {
        return Err(Error::format("the tokenizer has no merges (tokenizer.ggml.merges)"));
    };
    let gemma4 = model == "gemma4";
    let name = if gemma4 { Some(model) } else { metadata.get_str("tokenizer.ggml.pre")? };
    let row = name.and_then(pre::find).or_else(|| {
        notices.push(match name {
            Some(name) => format!("unknown pre-tokenizer {name:?}: using the default; answers may be worse"),
            None => "the file does not name its pre-tokenizer: using the default; answers may be worse".to_owned(),
        });
        pre::find("default")
    });
    let row = row.ok_or_else(|| Error::Unsupported("there is no default pre-tokenizer".to_owned()))?;
    let bpe = Bpe::new(vocab, merges, WordSplitter::new(row)?, row.whole_words, !gemma4)?;
    Ok((Encoder::Bpe(bpe), row.add_bos || gemma4))
}
