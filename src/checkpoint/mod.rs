//! Opens model files: metadata, the tensor table, and reads of byte ranges.
//!
//! One GGUF file, a split GGUF, and a Hugging Face folder all become a [`Checkpoint`] with GGUF keys and GGUF tensor
//! names, so no other module needs to know the format. Opening reads only headers; weights are read by range when they
//! are needed. Nothing here knows what a tensor is used for, and no value in a file is trusted.
//!
//! `gguf` and `hf` parse the two formats, `fused` splits tensors that older files store in one, and `read.rs`
//! reads a tensor's bytes.

mod fused;
mod gguf;
mod hf;
mod metadata;
mod read;
mod source;
mod tensor;

pub use gguf::{GgufWriter, split_name};
pub use metadata::{GgufArray, GgufValue, Metadata};
pub use source::{ReadFuture, Source};
pub use tensor::{RowStride, Span, TensorInfo, TensorLayout};

use crate::{Error, Result};
use indexmap::IndexMap;
use std::path::Path;

/// An open model: metadata and the tensor table. Weights are read on demand.
#[derive(Debug)]
pub struct Checkpoint {
    /// GGUF keys, whatever the format of the files.
    pub metadata: Metadata,
    /// Tensors by GGUF name, in the order of the files.
    pub tensors: IndexMap<String, TensorInfo>,
    /// The unparsed `tokenizer.json` of a Hugging Face folder.
    pub tokenizer_json: Option<Vec<u8>>,
    /// Warnings for the user, such as parts of the model that are ignored.
    pub notices: Vec<String>,
    sources: Vec<Source>,
}

impl Checkpoint {
    /// Opens a GGUF file, a split GGUF by any of its files, or a Hugging Face folder.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or needs an unsupported feature; the message names the file.
    pub async fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_sources(hf::files(path)?).await;
        }
        let source = Source::file(path)?;
        let header = gguf::read(&source, 0).await?;
        match header.metadata.get_u32("split.count")? {
            None | Some(0 | 1) => Self::from_headers(vec![source], vec![header]),
            Some(count) => Self::from_sources(open_all(path, count)?).await,
        }
    }

    /// Opens the files of one GGUF model in order, or, if one of them is named `config.json`, the files of a Hugging
    /// Face folder in any order.
    ///
    /// # Errors
    /// See [`open`](Self::open).
    pub async fn from_sources(sources: Vec<Source>) -> Result<Self> {
        if sources.iter().any(|source| source.file_name() == hf::CONFIG) {
            return hf::open(sources).await;
        }
        let mut headers = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            headers.push(gguf::read(source, index).await?);
        }
        Self::from_headers(sources, headers)
    }

    fn from_headers(sources: Vec<Source>, headers: Vec<gguf::GgufHeader>) -> Result<Self> {
        let (metadata, mut tensors) = gguf::join(&sources, headers)?;
        fused::split(&metadata, &mut tensors)?;
        Ok(Self { metadata, tensors, tokenizer_json: None, notices: Vec::new(), sources })
    }

    /// Looks up a tensor by its GGUF name.
    ///
    /// # Errors
    /// If the model has no such tensor.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| {
            let file = self.sources.first().map_or("the model", Source::name);
            Error::format(format!("{file} has no tensor {name}; is it a complete model of its architecture?"))
        })
    }
}

/// Opens all files of the model at `path`, for [`Checkpoint::from_sources`]: a folder, a file, or every part of a split
/// GGUF, which is recognized by its name.
///
/// # Errors
/// If a file is missing or cannot be opened.
pub fn sources(path: &Path) -> Result<Vec<Source>> {
    if path.is_dir() {
        return hf::files(path);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match split_name(name) {
        Some((.., count)) if count > 1 => open_all(path, count),
        _ => Ok(vec![Source::file(path)?]),
    }
}

/// Opens all `count` files of a split GGUF.
fn open_all(path: &Path, count: u32) -> Result<Vec<Source>> {
    gguf::siblings(path, count)?.iter().map(|path| Source::file(path)).collect()
}
