//! Reads a tensor's bytes by range, in GGUF's layout whatever the layout of the file.
//!
//! Transposed tensors, interleaved ones (rows of gate and up alternate), and MXFP4 with separate scales are converted
//! while they are read, a few MiB of the file at a time.

use super::{Checkpoint, RowStride, Source, Span, TensorInfo, TensorLayout};
use crate::dtype::DType;
use crate::{Error, Result};
use std::ops::Range;

/// Bytes of a transposed matrix that are read at once.
const BAND_BYTES: u64 = 4 << 20;

impl Checkpoint {
    /// Reads a range of a tensor's data, relative to its first byte.
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
            TensorLayout::Contiguous => self.read_contiguous(tensor, range).await,
            TensorLayout::Transposed(stored, cols, stride) => {
                self.read_transposed(tensor, (stored, cols, stride), range).await
            }
            TensorLayout::SplitScales(stride) => self.read_split_scales(tensor, stride, range).await,
        }
    }

    async fn read_contiguous(&self, tensor: &TensorInfo, Range { start, end }: Range<u64>) -> Result<Vec<u8>> {
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

    /// Reads rows that the file stores as columns of matrices with rows of `cols` weights of type `stored`.
    async fn read_transposed(
        &self,
        tensor: &TensorInfo,
        (stored, cols, stride): (DType, u64, RowStride),
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        let matrix_bytes = tensor.bytes() / tensor.parts.len() as u64;
        let mut out = Vec::new();
        for part in &tensor.parts[(range.start / matrix_bytes) as usize..range.end.div_ceil(matrix_bytes) as usize] {
            let (stored_row, weight) = (stored.row_bytes(cols).unwrap_or(1), tensor.dtype.block_bytes() as u64);
            let stored_rows = part.bytes / stored_row;
            let row = stored_rows * weight;
            let before = out.len() as u64;
            let at = (range.start + before) % matrix_bytes;
            let end = matrix_bytes.min(at + (range.end - range.start - before));
            let rows = at / row..end.div_ceil(row);
            let mut transposed = vec![0; ((rows.end - rows.start) * row) as usize];
            let band = (BAND_BYTES / stored_row).max(1);
            for first in (0..stored_rows).step_by(band as usize) {
                let last = stored_rows.min(first + band);
                let span = part.offset + first * stored_row..part.offset + last * stored_row;
                let bytes = convert(self.source(tensor, part)?.read(span).await?, stored, tensor.dtype);
                for (r, weights) in (first..).zip(bytes.chunks_exact((cols * weight) as usize)) {
                    for (row, n) in transposed.chunks_exact_mut(row as usize).zip(rows.clone()) {
                        let (to, from) = ((r * weight) as usize, (stride.index(n) * weight) as usize);
                        row[to..][..weight as usize].copy_from_slice(&weights[from..][..weight as usize]);
                    }
                }
            }
            let skipped = (at - rows.start * row) as usize;
            out.extend_from_slice(&transposed[skipped..skipped + (end - at) as usize]);
        }
        Ok(out)
    }

    /// Reads MXFP4 blocks whose scales are stored apart from the weights.
    async fn read_split_scales(&self, tensor: &TensorInfo, stride: RowStride, range: Range<u64>) -> Result<Vec<u8>> {
        let [weights, scales] = &tensor.parts[..] else { return Ok(Vec::new()) };
        let (row, blocks) = (tensor.row_bytes(), tensor.dims[0] / 32);
        let rows = range.start / row..range.end.div_ceil(row);
        let stored_rows = stride.range(&rows);
        let read = async |part: &Span, row_bytes: u64| {
            let source: &Source = self.source(tensor, part)?;
            let span = part.offset + stored_rows.start * row_bytes..part.offset + stored_rows.end * row_bytes;
            source.read(span).await
        };
        let (weights, scales) = (read(weights, 16 * blocks).await?, read(scales, blocks).await?);
        let mut out = Vec::with_capacity(((rows.end - rows.start) * row) as usize);
        let lines = weights.chunks_exact(16 * blocks as usize).zip(scales.chunks_exact(blocks as usize));
        for (weights, scales) in lines.step_by(stride.step as usize) {
            for (weights, scale) in weights.as_chunks().0.iter().zip(scales) {
                out.extend(mxfp4_block(weights, *scale));
            }
        }
        let skipped = (range.start - rows.start * row) as usize;
        Ok(out[skipped..skipped + (range.end - range.start) as usize].to_vec())
    }

    fn source(&self, tensor: &TensorInfo, part: &Span) -> Result<&Source> {
        let source = self.sources.get(part.source);
        source.ok_or_else(|| Error::Usage(format!("{} is another model's tensor", tensor.name)))
    }
}

/// Builds a GGUF MXFP4 block: the scale, then byte `j` with weights `j` and `16 + j`. Hugging Face files pair weights
/// `2j` and `2j + 1`.
fn mxfp4_block(pairs: &[u8; 16], scale: u8) -> [u8; 17] {
    let weight = |n: usize| pairs[n / 2] >> (n % 2 * 4) & 15;
    std::array::from_fn(|i| if i == 0 { scale } else { weight(i - 1) | weight(i + 15) << 4 })
}

/// Converts weights to another type.
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
    fn mxfp4_weights_are_paired_as_in_gguf() {
        // Weight n is n of 4 bits.
        let pairs = std::array::from_fn(|j| (2 * j % 16) as u8 | (((2 * j + 1) % 16) as u8) << 4);
        let want: [u8; 17] = std::array::from_fn(|i| if i == 0 { 99 } else { (i - 1) as u8 * 17 });
        assert_eq!(mxfp4_block(&pairs, 99), want);
    }
}
