//! Maps one Hugging Face tensor to the GGUF tensors that it contains: runs of rows, interleaved rows, transposed
//! matrices. No weights are read; the result is shapes and spans.

use super::safetensors::SafeTensor;
use crate::checkpoint::{RowStride, Span, TensorLayout};
use crate::dtype::DType;

/// How a Hugging Face tensor stores its matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredAs {
    /// Like GGUF: row after row.
    Rows,
    /// One transposed matrix per expert.
    Transposed,
    /// MXFP4 weights without scales: (experts, rows, blocks, 16).
    Blocks,
    /// MXFP4 scales: (experts, rows, blocks).
    Scales,
}

/// The parsed right-hand side of a [`Rename`](super::families::Rename).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameMapping<'a> {
    pub stored_as: StoredAs,
    /// GGUF names.
    pub names: Vec<&'a str>,
    /// The names take alternating rows rather than equal runs.
    pub interleaved: bool,
}

/// A GGUF tensor that is (a part of) a Hugging Face tensor.
pub(super) struct MappedTensor {
    pub dims: Vec<u64>,
    pub dtype: DType,
    pub layout: TensorLayout,
    pub spans: Vec<Span>,
}

impl<'a> NameMapping<'a> {
    pub fn parse(text: &'a str) -> Self {
        let (stored_as, names) = match text.split_once(": ") {
            Some(("transposed", names)) => (StoredAs::Transposed, names),
            Some(("blocks", names)) => (StoredAs::Blocks, names),
            Some(("scales", names)) => (StoredAs::Scales, names),
            _ => (StoredAs::Rows, text),
        };
        let interleaved = names.contains(" / ");
        let names = names.split(if interleaved { " / " } else { " + " }).collect();
        NameMapping { stored_as, names, interleaved }
    }

    /// The GGUF tensor of each name.
    ///
    /// # Errors
    /// Says why the tensor's shape or type does not fit.
    pub fn map(&self, tensor: &SafeTensor, experts: u32) -> Result<Vec<MappedTensor>, String> {
        let (parts, experts) = (self.names.len() as u64, u64::from(experts));
        let mut dims: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        match self.stored_as {
            // 16 bytes hold a block of 32 weights.
            StoredAs::Blocks if dims.len() == 4 && dims[0] == 16 => drop(dims.remove(0)),
            StoredAs::Blocks => return Err(format!("its shape {:?} is not one of blocks", tensor.shape)),
            // A depthwise convolution's kernel: (channels, 1, kernel size).
            StoredAs::Rows if dims.len() == 3 && dims[1] == 1 => drop(dims.remove(1)),
            _ => {}
        }
        let mxfp4 = matches!(self.stored_as, StoredAs::Blocks | StoredAs::Scales);
        let stacked = mxfp4 || self.stored_as == StoredAs::Transposed;
        if (dims.len() > 2 || stacked) && dims.get(2..) != Some(&[experts]) {
            return Err(format!("its shape {:?} does not begin with the {experts} experts", tensor.shape));
        }
        let dtype = match tensor.dtype {
            None if mxfp4 => DType::MXFP4,
            Some(dtype) if !mxfp4 => dtype,
            _ => return Err("its type is not supported; use the model in BF16, F16 or F32, or as GGUF".into()),
        };
        match self.stored_as {
            StoredAs::Blocks | StoredAs::Scales => dims[0] = dims[0].saturating_mul(32),
            StoredAs::Transposed => dims.swap(0, 1),
            StoredAs::Rows => {}
        }
        // Interleaved vectors (biases) alternate single numbers.
        let divided = if self.interleaved && dims.len() == 2 { 0 } else { 1 };
        if parts > 1 {
            if dims.len() < 2 || !dims[divided].is_multiple_of(parts) {
                return Err(format!("its shape {:?} cannot be divided into {parts}", tensor.shape));
            }
            dims[divided] /= parts;
        }
        Ok((0..parts).map(|part| self.part(&tensor.span, &dims, dtype, experts, part)).collect())
    }

    /// One of the equal parts of a tensor; `dims` are the part's.
    fn part(&self, span: &Span, dims: &[u64], dtype: DType, experts: u64, part: u64) -> MappedTensor {
        let parts = self.names.len() as u64;
        let alternating = RowStride { first: part, step: parts };
        let run = RowStride { first: part * dims.get(1).copied().unwrap_or(1), step: 1 };
        let stride = if self.interleaved { alternating } else { run };
        let (layout, spans) = match self.stored_as {
            StoredAs::Transposed => {
                (TensorLayout::Transposed(dtype, dims[1] * parts, stride), part_spans(span, experts, 1, 0))
            }
            StoredAs::Blocks | StoredAs::Scales => (TensorLayout::SplitScales(alternating), vec![span.clone()]),
            // A vector of alternating numbers is one column of a transposed matrix.
            StoredAs::Rows if self.interleaved => {
                let numbers = dims.iter().product::<u64>() * parts;
                (TensorLayout::Transposed(dtype, numbers, alternating), vec![span.clone()])
            }
            StoredAs::Rows => {
                let matrices = if parts > 1 { dims.get(2).copied().unwrap_or(1) } else { 1 };
                (TensorLayout::Contiguous, part_spans(span, matrices, parts, part))
            }
        };
        MappedTensor { dims: dims.to_vec(), dtype, layout, spans }
    }
}

/// The spans of part number `part` of each matrix, where every matrix has `parts` equal parts.
fn part_spans(span: &Span, matrices: u64, parts: u64, part: u64) -> Vec<Span> {
    let bytes = span.bytes / (matrices * parts).max(1);
    let at = |matrix: u64| span.offset + (matrix * parts + part) * bytes;
    (0..matrices).map(|matrix| Span { offset: at(matrix), bytes, ..*span }).collect()
}
