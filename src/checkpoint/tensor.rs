//! A tensor's entry in a checkpoint: its name, shape, weight type, and the byte spans of its data.

use crate::dtype::DType;
use crate::{Error, Result};

/// A contiguous byte range in one of the checkpoint's sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of the source.
    pub source: usize,
    /// Offset of the first byte in that source.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// A tensor's shape and the location of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The GGUF name.
    pub name: String,
    /// Sizes in GGUF's order: `dims[0]` is the length of a row, the contiguous dimension.
    pub dims: Vec<u64>,
    /// The weight type that [`Checkpoint::read`](super::Checkpoint::read) returns.
    pub dtype: DType,
    /// The spans that hold its data, in order.
    pub parts: Vec<Span>,
    /// How the spans store the rows.
    pub layout: TensorLayout,
}

impl TensorInfo {
    /// Size of the data in bytes, as GGUF would store it.
    pub fn bytes(&self) -> u64 {
        match self.layout {
            TensorLayout::Contiguous => self.parts.iter().map(|part| part.bytes).sum(),
            _ => self.rows() * self.dtype.row_bytes(self.dims[0]).unwrap_or(0),
        }
    }

    /// The smallest read, in bytes, that does not read parts of the file twice: a whole matrix of a transposed tensor.
    pub fn bytes_at_once(&self) -> u64 {
        match self.layout {
            TensorLayout::Transposed(..) => self.bytes() / self.parts.len().max(1) as u64,
            _ => 1,
        }
    }

    /// Number of rows of `dims[0]` weights.
    pub fn rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }

    /// Size of one row in bytes.
    pub fn row_bytes(&self) -> u64 {
        self.bytes() / self.rows()
    }
}

/// How the spans of a tensor store its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorLayout {
    /// Row after row through all spans, as GGUF does.
    Contiguous,
    /// Each span is a transposed matrix: its weight type, the length of its rows, and which of its columns are the
    /// tensor's rows.
    Transposed(DType, u64, RowStride),
    /// MXFP4 as Hugging Face stores it: one span holds the 4-bit weights, a second one the scales.
    SplitScales(RowStride),
}

/// Selects rows (or columns) of a stored matrix: `first`, `first + step`, `first + 2 * step` ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowStride {
    /// Index of the first row.
    pub first: u64,
    /// Distance from one row to the next.
    pub step: u64,
}

impl RowStride {
    /// All rows in order.
    pub const ONE: RowStride = RowStride { first: 0, step: 1 };

    /// The stored index of row `n`.
    pub(super) fn index(self, n: u64) -> u64 {
        self.first + n * self.step
    }

    /// The stored indices from the first row of `rows` to the last.
    pub(super) fn range(self, rows: &std::ops::Range<u64>) -> std::ops::Range<u64> {
        self.index(rows.start)..self.index(rows.end - 1) + 1
    }
}

/// Size in bytes of a tensor's data.
///
/// # Errors
/// Says why no tensor can have this shape in this type.
pub(super) fn data_bytes(dtype: DType, dims: &[u64]) -> Result<u64, String> {
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

/// Checks that no two spans of one file overlap.
pub(super) fn check_overlaps<'a>(file: &str, spans: impl Iterator<Item = (&'a str, &'a Span)>) -> Result<()> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort_unstable_by_key(|(_, span)| span.offset);
    for pair in spans.windows(2) {
        let [(a, first), (b, second)] = pair else { continue };
        if first.offset + first.bytes > second.offset {
            return Err(Error::format(format!("{file}: the tensors {a} and {b} overlap; the file is damaged")));
        }
    }
    Ok(())
}
