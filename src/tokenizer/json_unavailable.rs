//! Stands in for `json.rs` in builds without the feature `huggingface`.

use super::Special;
use super::vocab::Vocab;
use crate::{Error, Result};

pub(super) enum JsonTokenizer {}

impl JsonTokenizer {
    pub fn new(_: &[u8]) -> Result<(Self, Vocab)> {
        Err(Error::Unsupported("tokenizer.json needs the feature `huggingface`; enable it, or use a GGUF file".into()))
    }

    pub fn encode(&self, _: &str, _: Special) -> Result<Vec<u32>> {
        match *self {}
    }
}
