//! How the tensors of a Hugging Face folder are shared among GGUF's: in runs of rows or by turns, and turned around where
//! they lie so. No byte is touched: what comes out says where to read.

use super::safetensors::Tensor;
use super::{Layout, Span, Stride};
use crate::dtype::DType;

/// What lies in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows, as GGUF has them.
    Rows,
    /// Of each expert a matrix that is turned around.
    Columns,
    /// MXFP4 without its scales: (experts, rows, blocks, 16).
    Blocks,
    /// The scales of such: (experts, rows, blocks).
    Scales,
}

/// Who gets what of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan<'a> {
    pub form: Form,
    /// GGUF's names.
    pub names: Vec<&'a str>,
    /// They take rows by turns, not in equal runs.
    pub turns: bool,
}

impl<'a> Plan<'a> {
    pub fn parse(text: &'a str) -> Self {
        let (form, names) = match text.split_once(" of ") {
            Some(("columns", names)) => (Form::Columns, names),
            Some(("blocks", names)) => (Form::Blocks, names),
            Some(("scales", names)) => (Form::Scales, names),
            _ => (Form::Rows, text),
        };
        let turns = names.contains(" / ");
        Plan { form, names: names.split(if turns { " / " } else { " + " }).collect(), turns }
    }

    /// What each name gets.
    pub fn shares(&self, tensor: &Tensor, experts: u32) -> Result<Vec<Share>, String> {
        let (parts, experts) = (self.names.len() as u64, u64::from(experts));
        let mut dims: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        match self.form {
            // Sixteen bytes hold a block of 32 weights, and so does a scale.
            Form::Blocks if dims.len() == 4 && dims[0] == 16 => drop(dims.remove(0)),
            Form::Blocks => return Err(format!("its shape {:?} is not one of blocks", tensor.shape)),
            // A convolution's taps: each channel has its own.
            Form::Rows if dims.len() == 3 && dims[1] == 1 => drop(dims.remove(1)),
            _ => {}
        }
        let blocks = matches!(self.form, Form::Blocks | Form::Scales);
        let stacked = blocks || self.form == Form::Columns;
        if (dims.len() > 2 || stacked) && dims.get(2..) != Some(&[experts]) {
            return Err(format!("its shape {:?} does not begin with the {experts} experts", tensor.shape));
        }
        let dtype = match tensor.dtype {
            None if blocks => DType::MXFP4,
            Some(dtype) if !blocks => dtype,
            _ => return Err("its type is not supported; take the model in BF16, F16 or F32, or as GGUF".into()),
        };
        match self.form {
            Form::Blocks | Form::Scales => dims[0] = dims[0].saturating_mul(32),
            Form::Columns => dims.swap(0, 1),
            Form::Rows => {}
        }
        // Of vectors, numbers are shared.
        let shared = if self.turns && dims.len() == 2 { 0 } else { 1 };
        if parts > 1 {
            if dims.len() < 2 || !dims[shared].is_multiple_of(parts) {
                return Err(format!("its shape {:?} cannot be divided into {parts}", tensor.shape));
            }
            dims[shared] /= parts;
        }
        let share = |part: u64| {
            let turn = Stride { first: part, step: parts };
            let run = Stride { first: part * dims.get(1).copied().unwrap_or(1), step: 1 };
            let stride = if self.turns { turn } else { run };
            let (layout, spans) = match self.form {
                Form::Columns => (Layout::Columns(dtype, dims[1] * parts, stride), cut(&tensor.span, experts, 1, 0)),
                Form::Blocks | Form::Scales => (Layout::Blocks(turn), vec![tensor.span.clone()]),
                Form::Rows if self.turns => {
                    let all = dims.iter().product::<u64>() * parts;
                    (Layout::Columns(dtype, all, turn), vec![tensor.span.clone()])
                }
                Form::Rows => {
                    let matrices = if parts > 1 { dims.get(2).copied().unwrap_or(1) } else { 1 };
                    (Layout::Rows, cut(&tensor.span, matrices, parts, part))
                }
            };
            Share { dims: dims.clone(), dtype, layout, spans }
        };
        Ok((0..parts).map(share).collect())
    }
}

/// What a GGUF tensor gets.
pub(super) struct Share {
    pub dims: Vec<u64>,
    pub dtype: DType,
    pub layout: Layout,
    pub spans: Vec<Span>,
}

/// Of each of so many matrices, one of so many equal parts.
fn cut(span: &Span, matrices: u64, parts: u64, part: u64) -> Vec<Span> {
    let bytes = span.bytes / (matrices * parts).max(1);
    let at = |matrix: u64| span.offset + (matrix * parts + part) * bytes;
    (0..matrices).map(|matrix| Span { offset: at(matrix), bytes, ..*span }).collect()
}
