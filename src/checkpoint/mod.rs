//! Model files: metadata, the tensor table, and reading ranges of them.
//!
//! Whatever lies on the disk (one GGUF file, a split one, a Hugging Face folder), what comes out is a [`Checkpoint`]
//! with GGUF's keys and GGUF's tensor names, so that everything above knows one language. Opening reads only heads;
//! weights are read by range, when and where they are wanted. Nothing here knows what a tensor is for, and nothing
//! trusts a file.

mod config;
mod delta;
mod folder;
mod gguf;
mod latent;
mod layout;
mod metadata;
mod nested;
mod rename;
mod safetensors;
mod share;
mod source;
mod write;

pub use layout::{Layout, Stride};
pub use metadata::{Array, Metadata, Value};
pub use source::{Reading, Source};
pub use write::GgufWriter;

use crate::dtype::DType;
use crate::{Error, Result};
use indexmap::IndexMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A run of bytes in one of the checkpoint's sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which source.
    pub source: usize,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// A tensor: its shape, and where its data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// GGUF's name for it.
    pub name: String,
    /// Sizes in GGUF's order: `dims[0]` is the length of a row, which lies contiguously.
    pub dims: Vec<u64>,
    /// The type of its weights.
    pub dtype: DType,
    /// The runs of bytes that make up its data, in order.
    pub parts: Vec<Span>,
    /// How they lie there.
    pub layout: Layout,
}

impl TensorInfo {
    /// Bytes of the whole data.
    pub fn bytes(&self) -> u64 {
        match self.layout {
            Layout::Rows => self.parts.iter().map(|part| part.bytes).sum(),
            _ => self.rows() * self.dtype.row_bytes(self.dims[0]).unwrap_or(0),
        }
    }

    /// Bytes that are best read at once, or more: of what lies turned around, a part.
    pub fn bytes_at_once(&self) -> u64 {
        match self.layout {
            Layout::Columns(..) => self.bytes() / self.parts.len().max(1) as u64,
            _ => 1,
        }
    }

    /// Rows of `dims[0]` weights each.
    pub fn rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> u64 {
        self.bytes() / self.rows()
    }
}

/// An opened model.
#[derive(Debug)]
pub struct Checkpoint {
    /// GGUF keys, whatever format the files have.
    pub metadata: Metadata,
    /// Tensors under GGUF names, in the files' order.
    pub tensors: IndexMap<String, TensorInfo>,
    /// A Hugging Face folder's `tokenizer.json`, as it is.
    pub tokenizer_json: Option<Vec<u8>>,
    /// What the user should know: parts that are left out.
    pub notices: Vec<String>,
    sources: Vec<Source>,
}

impl Checkpoint {
    /// Opens a GGUF file, any file of a split GGUF (its siblings are found by name), or a Hugging Face folder.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or asks for something that is not supported; the message names it.
    pub async fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_sources(folder::files(path)?).await;
        }
        let source = Source::file(path)?;
        let head = gguf::read(&source, 0).await?;
        match head.metadata.get_u32("split.count")? {
            None | Some(0 | 1) => Self::join(vec![source], vec![head]),
            Some(count) => {
                let files = siblings(path, count)?.iter().map(|path| Source::file(path)).collect::<Result<_>>()?;
                Self::from_sources(files).await
            }
        }
    }

    /// Opens the files of one GGUF model in order, or, if one of them is named `config.json`, those of a Hugging Face
    /// folder in any order.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn from_sources(sources: Vec<Source>) -> Result<Self> {
        if sources.iter().any(|source| source.file_name() == folder::CONFIG) {
            return folder::open(sources).await;
        }
        let mut heads = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            heads.push(gguf::read(source, index).await?);
        }
        Self::join(sources, heads)
    }

    /// Makes one model of the heads of its files; the first one's metadata is the model's.
    fn join(sources: Vec<Source>, heads: Vec<gguf::Head>) -> Result<Self> {
        check_split(&sources, &heads)?;
        let mut heads = heads.into_iter();
        let Some(gguf::Head { metadata, mut tensors }) = heads.next() else {
            return Err(Error::Usage("a model needs at least one file".into()));
        };
        for tensor in heads.flat_map(|head| head.tensors.into_values()) {
            if let Some(twice) = tensors.insert(tensor.name.clone(), tensor) {
                let (first, name) = (sources[twice.parts[0].source].name(), twice.name);
                return Err(Error::Format(format!("tensor {name} is in {first} and again in a later file")));
            }
        }
        let expected = metadata.get_u64("split.tensors.count")?.filter(|_| sources.len() > 1);
        if let Some(expected) = expected.filter(|&expected| expected != tensors.len() as u64) {
            let (first, got) = (sources[0].name(), tensors.len());
            return Err(Error::Format(format!("{first} promises {expected} tensors, its files hold {got}")));
        }
        divide(&metadata, &mut tensors)?;
        Ok(Self { metadata, tensors, tokenizer_json: None, notices: Vec::new(), sources })
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| {
            let file = self.sources.first().map_or("the model", Source::name);
            Error::Format(format!("{file} has no tensor {name}; is it a complete model of its architecture?"))
        })
    }

    /// A range of a tensor's data, counted from its first byte.
    ///
    /// # Errors
    /// If the range is not within the data, or reading fails.
    pub async fn read(&self, tensor: &TensorInfo, range: Range<u64>) -> Result<Vec<u8>> {
        let Range { start, end } = range;
        if start > end || end > tensor.bytes() {
            let (name, len) = (&tensor.name, tensor.bytes());
            return Err(Error::Usage(format!("bytes {start}..{end} are not within tensor {name}, which has {len}")));
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        match tensor.layout {
            Layout::Rows => {}
            Layout::Columns(from, of, stride) => return self.read_columns(tensor, (from, of, stride), range).await,
            Layout::Blocks(stride) => return self.read_blocks(tensor, stride, range).await,
        }
        let mut bytes = Vec::new();
        let mut at = 0;
        for part in &tensor.parts {
            let (from, to) = (start.max(at), end.min(at + part.bytes));
            if from < to {
                let piece = self.source(tensor, part)?.read(part.offset + (from - at)..part.offset + (to - at)).await?;
                if bytes.is_empty() { bytes = piece } else { bytes.extend(piece) }
            }
            at += part.bytes;
        }
        Ok(bytes)
    }

    fn source(&self, tensor: &TensorInfo, part: &Span) -> Result<&Source> {
        let source = self.sources.get(part.source);
        source.ok_or_else(|| Error::Usage(format!("{} is another model's tensor", tensor.name)))
    }
}

/// Puts two tensors in the place of each that older files and Hugging Face folders have for both.
fn divide(metadata: &Metadata, tensors: &mut IndexMap<String, TensorInfo>) -> Result<()> {
    type Parts = fn(&Metadata, &TensorInfo) -> Result<Option<[TensorInfo; 2]>>;
    let kinds: [(&str, Parts); 2] = [(".attn_kv_b.weight", latent::divide), (".ssm_in.weight", delta::divide)];
    for (end, parts_of) in kinds {
        let whole: Vec<String> = tensors.keys().filter(|name| name.ends_with(end)).cloned().collect();
        for name in whole {
            if let Some(parts) = parts_of(metadata, &tensors[&name])? {
                tensors.shift_remove(&name);
                tensors.extend(parts.map(|part| (part.name.clone(), part)));
            }
        }
    }
    Ok(())
}

/// A tensor that cannot be divided as the keys want it.
fn shape_error(tensor: &TensorInfo, heads: &dyn fmt::Debug) -> Error {
    Error::Format(format!("tensor {} has the shape {:?}, the model's keys say {heads:?}", tensor.name, tensor.dims))
}

/// Checks that the files are all parts of one split model, in order.
fn check_split(sources: &[Source], heads: &[gguf::Head]) -> Result<()> {
    for (index, (source, head)) in sources.iter().zip(heads).enumerate() {
        let count = head.metadata.get_u32("split.count")?.unwrap_or(1).max(1);
        let number = head.metadata.get_u32("split.no")?.unwrap_or(0);
        if (count as usize, number as usize) != (sources.len(), index) {
            let (name, part, given, place) = (source.name(), u64::from(number) + 1, sources.len(), index + 1);
            let message = format!("{name} is part {part} of {count}, but was given as part {place} of {given}");
            return Err(Error::Usage(message));
        }
    }
    Ok(())
}

/// The files of the model that `path` is, or is a part of (told by its name), for [`Checkpoint::from_sources`].
///
/// # Errors
/// If one is missing or cannot be opened.
pub fn sources(path: &Path) -> Result<Vec<Source>> {
    if path.is_dir() {
        return folder::files(path);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match split_name(name) {
        Some((.., count)) if count > 1 => siblings(path, count)?.iter().map(|path| Source::file(path)).collect(),
        _ => Ok(vec![Source::file(path)?]),
    }
}

/// The paths of all `count` files of a split model, told by the name of one: `model-00001-of-00003.gguf`.
fn siblings(path: &Path, count: u32) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (prefix, ..) = split_name(name).filter(|(_, _, of)| *of == count).ok_or_else(|| {
        let path = path.display();
        Error::Usage(format!("{path} is one of {count} files, but its name does not end in -00001-of-{count:05}.gguf"))
    })?;
    let paths = (1..=count).map(|number| path.with_file_name(format!("{prefix}-{number:05}-of-{count:05}.gguf")));
    paths
        .map(|sibling| match sibling.is_file() {
            true => Ok(sibling),
            false => {
                let (path, sibling) = (path.display(), sibling.display());
                Err(Error::Usage(format!("{path} is one of {count} files; {sibling} is missing: put it beside it")))
            }
        })
        .collect()
}

/// What the name of a split model's file tells: `model-00002-of-00003.gguf` is `model`, the second of three.
pub fn split_name(name: &str) -> Option<(&str, u32, u32)> {
    let (head, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, number) = head.rsplit_once('-')?;
    let five = |text: &str| text.parse().ok().filter(|_| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()));
    Some((prefix, five(number)?, five(count)?))
}

/// Bytes of a tensor's data, or why there can be no such tensor.
fn data_bytes(dtype: DType, dims: &[u64]) -> Result<u64, String> {
    let (Some(&cols), Some(rows)) = (dims.first(), dims.get(1..)) else {
        return Err("it has no dimensions".into());
    };
    if dims.contains(&0) {
        return Err(format!("its shape {dims:?} has a zero"));
    }
    if cols % dtype.block_len() as u64 != 0 {
        return Err(format!("its rows of {cols} are not whole {} blocks of {}", dtype.name(), dtype.block_len()));
    }
    let bytes = rows.iter().try_fold(dtype.row_bytes(cols), |bytes, &size| Some(bytes?.checked_mul(size)));
    bytes.flatten().ok_or_else(|| format!("its shape {dims:?} is larger than any file"))
}

/// Checks that no two of a file's spans share a byte.
fn check_overlaps<'a>(file: &str, spans: impl Iterator<Item = (&'a str, &'a Span)>) -> Result<()> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort_unstable_by_key(|(_, span)| span.offset);
    for pair in spans.windows(2) {
        let [(a, first), (b, second)] = pair else { continue };
        if first.offset + first.bytes > second.offset {
            return Err(Error::Format(format!("{file}: the tensors {a} and {b} overlap; the file is damaged")));
        }
    }
    Ok(())
}
