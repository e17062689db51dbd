//! Reads the header of a safetensors file: the tensor table, without weights.
//!
//! A file is an 8-byte header length, a JSON header, and the data. It is untrusted, as GGUF files are: sizes are
//! checked against shapes, and every tensor must be inside the file and must not overlap another one.

use crate::checkpoint::tensor::{check_overlaps, data_bytes};
use crate::checkpoint::{Source, Span};
use crate::dtype::DType;
use crate::{Error, Result};
use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// The limit of the safetensors library.
const HEADER_LIMIT: u64 = 100_000_000;

/// A tensor with its sizes in the order of the file (row length last).
#[derive(Clone, Debug)]
pub(super) struct SafeTensor {
    pub shape: Vec<u64>,
    /// `None` for bytes (`U8`).
    pub dtype: Option<DType>,
    pub span: Span,
}

/// Reads the tensor table. `index` is the source's index in the checkpoint.
pub(super) async fn read(source: &Source, index: usize) -> Result<IndexMap<String, SafeTensor>> {
    let file = source.name();
    if source.len() < 8 {
        return Err(Error::format(format!("{file} is truncated: it has {} bytes; download it again", source.len())));
    }
    let mut len = [0; 8];
    len.copy_from_slice(&source.read(0..8).await?);
    let len = u64::from_le_bytes(len);
    if len > HEADER_LIMIT {
        return Err(Error::format(format!("{file} is not a safetensors file (its header would have {len} bytes)")));
    }
    let start = 8 + len;
    if start > source.len() {
        let message = format!("{file} is truncated: its header ends at byte {start} of {}", source.len());
        return Err(Error::format(format!("{message}; download it again")));
    }
    let header = source.read(8..start).await?;
    let SafeHeader(entries) = serde_json::from_slice(&header)
        .map_err(|error| Error::format(format!("{file}: its header: {error}")).caused_by(error))?;

    let mut tensors = IndexMap::new();
    for (name, entry) in entries {
        let tensor = entry.tensor(source, index, start).map_err(|error| prefixed(error, file, &name))?;
        tensors.insert(name, tensor);
    }
    check_overlaps(file, tensors.iter().map(|(name, tensor)| (name.as_str(), &tensor.span)))?;
    Ok(tensors)
}

fn prefixed(error: Error, file: &str, name: &str) -> Error {
    match error {
        Error::Unsupported(why) => Error::Unsupported(format!("{file}: tensor {name}: {why}")),
        other => Error::format(format!("{file}: tensor {name}: {other}")),
    }
}

#[derive(serde::Deserialize)]
struct SafeEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl SafeEntry {
    fn tensor(self, source: &Source, index: usize, start: u64) -> Result<SafeTensor> {
        let dtype = match self.dtype.as_str() {
            "F32" => Some(DType::F32),
            "F16" => Some(DType::F16),
            "BF16" => Some(DType::BF16),
            "U8" => None,
            other => {
                let message =
                    format!("its type {other} is not supported; use the model in BF16, F16 or F32, or as GGUF");
                return Err(Error::Unsupported(message));
            }
        };
        let (from, to) = self.data_offsets;
        let dims: Vec<u64> = self.shape.iter().rev().copied().collect();
        // A U8 tensor has a quarter of the bytes of an F32 tensor of its shape.
        let bytes =
            dtype.map_or_else(|| data_bytes(DType::F32, &dims).map(|n| n / 4), |dtype| data_bytes(dtype, &dims));
        let bytes = bytes.map_err(Error::format)?;
        if to.checked_sub(from) != Some(bytes) {
            return Err(Error::format(format!("bytes {from}..{to} do not hold its {bytes} bytes")));
        }
        let end = start.saturating_add(to);
        if end > source.len() {
            let len = source.len();
            return Err(Error::format(format!(
                "it ends at byte {end} of {len}: the file is truncated; download it again"
            )));
        }
        Ok(SafeTensor { shape: self.shape, dtype, span: Span { source: index, offset: start + from, bytes } })
    }
}

/// The header's JSON object. A duplicate name is an error, which deserializing to a map would hide.
struct SafeHeader(IndexMap<String, SafeEntry>);

impl<'de> Deserialize<'de> for SafeHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = SafeHeader;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SafeHeader, A::Error> {
        let mut entries = IndexMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else if entries.contains_key(&name) {
                return Err(A::Error::custom(format!("the tensor {name} occurs twice")));
            } else {
                let entry = map.next_value()?;
                entries.insert(name, entry);
            }
        }
        Ok(SafeHeader(entries))
    }
}
