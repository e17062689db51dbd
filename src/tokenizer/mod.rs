//! Text to token ids and back, as the model's file defines it.
//!
//! A GGUF file carries a vocabulary (`tokenizer.ggml.*`) of one of two families, SentencePiece or byte-pair; a Hugging
//! Face folder carries a `tokenizer.json`. The ids must be exactly those of the programs the models were made with: the
//! files here follow llama.cpp and the `tokenizers` crate, and are tested against their ids. Nothing here knows of
//! models or chats.

mod bpe;
mod export;
mod harmony;
mod json;
mod merge;
mod pre;
mod spm;
mod stream;
mod thoughts;
mod vocab;

pub use export::to_gguf;
pub use stream::TokenStream;

use crate::checkpoint::{Checkpoint, Metadata};
use crate::{Error, Result};
use bpe::Bpe;
use json::Json;
use pre::Splitter;
use spm::Spm;
use std::borrow::Cow;
use std::sync::Arc;

use vocab::{GUARD, Kind, Part, Spelling, Vocab};

/// What [`Tokenizer::encode`] does about special tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// Put BOS before and EOS after the text, where the file asks for them.
    pub add: bool,
    /// Control tokens written out in the text (`<|im_end|>`) become those tokens; otherwise they are only text.
    pub parse: bool,
}

impl Special {
    /// Text as it is.
    pub const NONE: Special = Special { add: false, parse: false };
    /// A raw prompt: BOS where the file asks for it; the text is only text.
    pub const ADD: Special = Special { add: true, parse: false };
    /// A rendered chat template, which writes all its special tokens itself.
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
    Json(Box<Json>),
}

impl Tokenizer {
    /// The checkpoint's tokenizer: its `tokenizer.json` if it has one, else what its metadata says.
    ///
    /// # Errors
    /// If there is no tokenizer, it is of an unsupported kind, or it contradicts itself.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        match &checkpoint.tokenizer_json {
            Some(json) => Self::from_json(json, &checkpoint.metadata),
            None => Self::from_metadata(&checkpoint.metadata),
        }
    }

    /// A `tokenizer.json`; `metadata` may name the special ids.
    ///
    /// # Errors
    /// If the file is broken, or decodes in a way other than byte-level or SentencePiece-like.
    pub fn from_json(json: &[u8], metadata: &Metadata) -> Result<Self> {
        let (json, mut vocab) = Json::new(json)?;
        read_special_ids(&mut vocab, metadata)?;
        // The file's own post-processor adds BOS and EOS; what it puts first is BOS.
        if vocab.bos.is_none() {
            vocab.bos = json.encode("", Special::ALL)?.first().copied().filter(|&id| Some(id) != vocab.eos);
        }
        let encoder = Encoder::Json(Box::new(json));
        Ok(Tokenizer { vocab: Arc::new(vocab), encoder, add_bos: false, add_eos: false, notices: Vec::new() })
    }

    /// The tokenizer in GGUF metadata.
    ///
    /// # Errors
    /// If arrays are missing or of different lengths, merges or ids name no token, or the kind is not supported.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let missing = |key: &str| Error::format(format_args!("the file has no tokenizer: {key} is missing"));
        let model = metadata.get_str("tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
        let spelling = match model {
            "llama" | "gemma4" => Spelling::Spaces,
            "gpt2" => Spelling::ByteLevel,
            other => {
                let message = format!("the tokenizer kind {other:?} is not supported (there are llama, gpt2, gemma4)");
                return Err(Error::Unsupported(message));
            }
        };
        let tokens =
            metadata.get_strings("tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?.to_vec();
        let kinds = match metadata.get_i32s("tokenizer.ggml.token_type")? {
            Some(types) => types.into_iter().map(Kind::from_gguf).collect(),
            None => vec![Kind::Normal; tokens.len()],
        };
        let mut vocab = Vocab::new(tokens, kinds, spelling)?;
        read_special_ids(&mut vocab, metadata)?;
        if names_phi3(metadata)? {
            vocab.strip_after_specials(&["<unk>", "<s>", "<|endoftext|>"]);
        }
        let mut notices = Vec::new();
        let (encoder, add_bos) = match model {
            "llama" => (read_spm(&mut vocab, metadata)?, true),
            _ => read_bpe(&vocab, metadata, model, &mut notices)?,
        };
        let add_bos = wanted("bos", vocab.bos, metadata.get_bool("tokenizer.ggml.add_bos_token")?, add_bos)?;
        let add_eos = wanted("eos", vocab.eos, metadata.get_bool("tokenizer.ggml.add_eos_token")?, false)?;
        Ok(Tokenizer { vocab: Arc::new(vocab), encoder, add_bos, add_eos, notices })
    }

    /// `text`, which somebody typed, as it may stand in a rendered prompt: [`encode`](Self::encode) makes text of it
    /// again, and no tokens that steer the model, whatever is written out in it (`<|im_end|>`).
    pub fn guard(&self, text: &str) -> String {
        self.vocab.guard(text)
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// If the vocabulary cannot say a byte of the text and has no unknown token.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        if let Encoder::Json(json) = &self.encoder {
            return json.encode(text, special);
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        ids.extend(self.vocab.bos.filter(|_| special.add && self.add_bos));
        let mut first = true;
        for part in self.vocab.split(text, special.parse) {
            match (part, &self.encoder) {
                (Part::Special(id), _) => ids.push(id),
                (Part::Text(text), Encoder::Spm(spm)) => spm.encode(&self.vocab, &bare(text), first, &mut ids)?,
                (Part::Text(text), Encoder::Bpe(bpe)) => bpe.encode(&self.vocab, &bare(text), &mut ids)?,
                (Part::Text(_), Encoder::Json(_)) => {}
            }
            first = matches!(part, Part::Special(_));
        }
        ids.extend(self.vocab.eos.filter(|_| special.add && self.add_eos));
        Ok(ids)
    }

    /// The text of `ids`, without control tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        read_all(self.stream(), ids)
    }

    /// As [`decode`](Self::decode), with control tokens written out.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        read_all(self.stream().with_special(), ids)
    }

    /// Decodes ids one by one, from the start of a text.
    pub fn stream(&self) -> TokenStream {
        TokenStream::new(self.vocab.clone())
    }

    /// How many ids there are: all are below this.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The id of the token with exactly this text, as the file writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocab.id(token)
    }

    /// The token's text as the file writes it (`Ġhello`, `▁hello`, `<0x0A>`).
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.vocab.piece(id)
    }

    /// The bytes that the token adds to a text. A control token adds none, unless `special`: then it is written out.
    pub fn bytes(&self, id: u32, special: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.vocab.spell(id, special, &mut bytes);
        bytes
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The token that ends a text. Generation ends at any of [`end_ids`](Self::end_ids).
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// Whether the model says with this token that it has finished.
    pub fn is_end(&self, id: u32) -> bool {
        self.vocab.ends.binary_search(&id).is_ok()
    }

    /// All ids that end a generation, ascending.
    pub fn end_ids(&self) -> &[u32] {
        &self.vocab.ends
    }

    /// What the caller should tell the user, such as an unknown pre-tokenizer.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// The text without guards.
fn bare(text: &str) -> Cow<'_, str> {
    if text.contains(GUARD) { text.replace(GUARD, "").into() } else { text.into() }
}

fn read_all(mut stream: TokenStream, ids: &[u32]) -> String {
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
    // Folders list several.
    let listed = metadata.get_u32s("tokenizer.ggml.eos_token_ids")?.unwrap_or_default();
    ends.extend(listed.into_iter().filter(|id| (*id as usize) < size));
    vocab.find_ends(ends);
    Ok(())
}

/// Whether BOS or EOS is added: as the file says, else by `default` where the token exists.
fn wanted(name: &str, id: Option<u32>, asked: Option<bool>, default: bool) -> Result<bool> {
    if asked == Some(true) && id.is_none() {
        let message = format!("tokenizer.ggml.add_{name}_token is true, but tokenizer.ggml.{name}_token_id is missing");
        return Err(Error::Format(message));
    }
    Ok(asked.unwrap_or(default) && id.is_some())
}

/// Phi-3 drops white space after most special tokens; GGUF has no key for it, so the model's name decides.
fn names_phi3(metadata: &Metadata) -> Result<bool> {
    let name = metadata.get_str("general.name")?.unwrap_or_default().to_lowercase();
    Ok(name.contains("phi-3") || name.contains("phi3"))
}

fn read_spm(vocab: &mut Vocab, metadata: &Metadata) -> Result<Encoder> {
    let scores = metadata.get_f32s("tokenizer.ggml.scores")?.unwrap_or_default();
    if scores.len() != vocab.len() {
        let message = format!("tokenizer.ggml.scores has {} entries for {} tokens", scores.len(), vocab.len());
        return Err(Error::Format(message));
    }
    let space_prefix = metadata.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    vocab.drop_space = space_prefix;
    Ok(Encoder::Spm(Spm::new(&scores, space_prefix)))
}

/// The encoder, and whether texts start with BOS by default.
fn read_bpe(vocab: &Vocab, metadata: &Metadata, model: &str, notices: &mut Vec<String>) -> Result<(Encoder, bool)> {
    let Some(merges) = metadata.get_strings("tokenizer.ggml.merges")? else {
        return Err(Error::format("the tokenizer has no merges (tokenizer.ggml.merges)"));
    };
    let gemma4 = model == "gemma4";
    let name = if gemma4 { Some(model) } else { metadata.get_str("tokenizer.ggml.pre")? };
    let row = name.and_then(pre::find).or_else(|| {
        notices.push(match name {
            Some(name) => format!("the pre-tokenizer {name:?} is unknown; the default is used, answers may be worse"),
            None => "the file names no pre-tokenizer; the default is used, answers may be worse".to_owned(),
        });
        pre::find("default")
    });
    let row = row.ok_or_else(|| Error::Unsupported("there is no default pre-tokenizer".to_owned()))?;
    let bpe = Bpe::new(vocab, merges, Splitter::new(row)?, row.whole_words, !gemma4)?;
    Ok((Encoder::Bpe(bpe), row.add_bos || gemma4))
}
