//! Weights that lie in a file otherwise than they are read: rows that are columns there, rows of two tensors by turns, and
//! MXFP4's scales apart from its weights. They are put in order while they are read, a few MiB of the file at a time.

use super::{Checkpoint, Source, Span, TensorInfo};
use crate::Result;
use crate::dtype::DType;
use std::ops::Range;

/// How the rows of a tensor lie in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One after another, through all parts.
    Rows,
    /// Each part is a matrix in this type, with rows of so many weights. They are columns of it.
    Columns(DType, u64, Stride),
    /// Of one part the weights, of a second one the scales: MXFP4 as Hugging Face folders have it.
    Blocks(Stride),
}

/// Which rows or columns: the first of them, and how far it is to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stride {
    /// The first.
    pub first: u64,
    /// How far it is to the next.
    pub step: u64,
}

impl Stride {
    /// One after another.
    pub const ONE: Stride = Stride { first: 0, step: 1 };

    /// The place of a row or column.
    fn of(self, n: u64) -> u64 {
        self.first + n * self.step
    }

    /// From the first of those in `range` to the last.
    fn over(self, range: &Range<u64>) -> Range<u64> {
        self.of(range.start)..self.of(range.end - 1) + 1
    }
}

/// Bytes of a file read at once.
const BAND: u64 = 4 << 20;

impl Checkpoint {
    /// Bytes of a tensor whose rows are columns.
    pub(super) async fn read_columns(
        &self,
        tensor: &TensorInfo,
        (from, of, stride): (DType, u64, Stride),
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        let each = tensor.bytes() / tensor.parts.len() as u64;
        let mut out = Vec::new();
        for part in &tensor.parts[(range.start / each) as usize..range.end.div_ceil(each) as usize] {
            let (row, size) = (from.row_bytes(of).unwrap_or(1), tensor.dtype.block_bytes() as u64);
            let rows = part.bytes / row;
            let column = rows * size;
            let before = out.len() as u64;
            let at = (range.start + before) % each;
            let end = each.min(at + (range.end - range.start - before));
            let columns = at / column..end.div_ceil(column);
            let mut turned = vec![0; ((columns.end - columns.start) * column) as usize];
            let band = (BAND / row).max(1);
            for first in (0..rows).step_by(band as usize) {
                let last = rows.min(first + band);
                let place = part.offset + first * row..part.offset + last * row;
                let bytes = convert(self.source(tensor, part)?.read(place).await?, from, tensor.dtype);
                let bands = bytes.chunks_exact((of * size) as usize);
                for (r, weights) in (first..).zip(bands) {
                    for (column, n) in turned.chunks_exact_mut(column as usize).zip(columns.clone()) {
                        let (to, from) = ((r * size) as usize, (stride.of(n) * size) as usize);
                        column[to..][..size as usize].copy_from_slice(&weights[from..][..size as usize]);
                    }
                }
            }
            let skipped = (at - columns.start * column) as usize;
            out.extend_from_slice(&turned[skipped..skipped + (end - at) as usize]);
        }
        Ok(out)
    }

    /// Bytes of a tensor whose blocks lie apart from their scales.
    pub(super) async fn read_blocks(&self, tensor: &TensorInfo, stride: Stride, range: Range<u64>) -> Result<Vec<u8>> {
        let [weights, scales] = &tensor.parts[..] else { return Ok(Vec::new()) };
        let (row, blocks) = (tensor.row_bytes(), tensor.dims[0] / 32);
        let rows = range.start / row..range.end.div_ceil(row);
        let place = stride.over(&rows);
        let read = async |part: &Span, bytes: u64| {
            let source: &Source = self.source(tensor, part)?;
            source.read(part.offset + place.start * bytes..part.offset + place.end * bytes).await
        };
        let (weights, scales) = (read(weights, 16 * blocks).await?, read(scales, blocks).await?);
        let mut out = Vec::with_capacity(((rows.end - rows.start) * row) as usize);
        let lines = weights.chunks_exact(16 * blocks as usize).zip(scales.chunks_exact(blocks as usize));
        for (weights, scales) in lines.step_by(stride.step as usize) {
            for (weights, scale) in weights.as_chunks().0.iter().zip(scales) {
                out.extend(block(weights, *scale));
            }
        }
        let skipped = (range.start - rows.start * row) as usize;
        Ok(out[skipped..skipped + (range.end - range.start) as usize].to_vec())
    }
}

/// An MXFP4 block of GGUF: the scale, then weight `j` beside weight `16 + j`, where folders have it beside its neighbour.
fn block(neighbours: &[u8; 16], scale: u8) -> [u8; 17] {
    let weight = |n: usize| neighbours[n / 2] >> (n % 2 * 4) & 15;
    std::array::from_fn(|i| if i == 0 { scale } else { weight(i - 1) | weight(i + 15) << 4 })
}

/// Weights in another type.
fn convert(bytes: Vec<u8>, from: DType, to: DType) -> Vec<u8> {
    if from == to {
        return bytes;
    }
    let mut weights = vec![0.0; bytes.len() / from.block_bytes() * from.block_len()];
    from.dequantize(&bytes, &mut weights);
    let mut out = vec![0; weights.len() * to.block_bytes()];
    to.quantize(&weights, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_put_in_ggufs_order() {
        // Weight n is n of 4 bits.
        let neighbours = std::array::from_fn(|j| (2 * j % 16) as u8 | (((2 * j + 1) % 16) as u8) << 4);
        let want: [u8; 17] = std::array::from_fn(|i| if i == 0 { 99 } else { (i - 1) as u8 * 17 });
        assert_eq!(block(&neighbours, 99), want);
    }
}
