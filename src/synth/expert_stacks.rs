//! Experts in the layout of some Hugging Face families: gate and up fused into one tensor, and matrices transposed or
//! as MXFP4 blocks with separate scales.

use super::{Shape, SynthTensor, model_shape};
use crate::dtype::DType;
use crate::quant_recipe::{QuantRecipe, split_name};
use std::io;

/// A tensor of a checkpoint, with its bytes.
pub(super) struct Piece {
    pub name: String,
    /// The safetensors name of its type.
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// Removes experts with such a layout from `tensors`, and returns them converted.
pub(super) fn take(s: &Shape, recipe: QuantRecipe, tensors: &mut Vec<SynthTensor>) -> io::Result<Vec<Piece>> {
    let mlp = match s.arch {
        "gpt-oss" => "mlp",
        "llama4" => "feed_forward",
        _ => return Ok(Vec::new()),
    };
    let experts: Vec<SynthTensor> = tensors.extract_if(.., |t| split_name(&t.name).1.ends_with("_exps")).collect();
    let mut pieces = Vec::new();
    for t in &experts {
        let (layer, part) = split_name(&t.name);
        let bytes = |t: &SynthTensor| -> io::Result<(DType, Vec<u8>)> {
            let dtype = recipe.of(model_shape(s), &t.name, &t.dims);
            let (stream, mut bytes) = (t.stream(s, dtype), Vec::new());
            stream.write(0..stream.len(), &mut bytes)?;
            Ok((dtype, bytes))
        };
        let bias = t.name.ends_with(".bias");
        let (dtype, mut all) = bytes(t)?;
        let (cols, mut rows) = if bias { (1, t.dims[0] as usize) } else { (t.dims[0] as usize, t.dims[1] as usize) };
        let name = match part {
            "ffn_down_exps" => "down_proj",
            "ffn_gate_exps" => "gate_up_proj",
            _ => continue,
        };
        let row = cols / dtype.block_len() * dtype.block_bytes();
        if let Some(up) = experts.iter().find(|up| part == "ffn_gate_exps" && up.name == t.name.replace("gate", "up")) {
            // Interleaved rows, or for each expert all gate rows and then all up rows.
            all = interleave(&all, &bytes(up)?.1, if s.arch == "llama4" { rows * row } else { row });
            rows *= 2;
        }
        let count = t.dims[t.dims.len() - 1];
        let (r, c) = (rows as u64, cols as u64);
        let mut push = |end: &str, dtype, shape, bytes| {
            let name = format!("model.layers.{layer}.{mlp}.experts.{name}{end}");
            pieces.push(Piece { name, dtype, shape, bytes });
        };
        match dtype {
            _ if bias => push("_bias", dtype.name(), vec![count, r], all),
            DType::MXFP4 => {
                let blocks = all.as_chunks().0;
                push("_blocks", "U8", vec![count, r, c / 32, 16], blocks.iter().flat_map(adjacent_pairs).collect());
                push("_scales", "U8", vec![count, r, c / 32], blocks.iter().map(|block| block[0]).collect());
            }
            _ => {
                let matrices = all.chunks_exact(rows * row);
                let turned = matrices.flat_map(|matrix| transpose(matrix, rows, dtype.block_bytes())).collect();
                push("", dtype.name(), vec![count, c, r], turned);
            }
        }
    }
    Ok(pieces)
}

/// Interleaves two byte sequences in units of `unit` bytes.
fn interleave(one: &[u8], other: &[u8], unit: usize) -> Vec<u8> {
    one.chunks_exact(unit).zip(other.chunks_exact(unit)).flat_map(|(a, b)| [a, b].concat()).collect()
}

/// Transposes a matrix of `rows` rows; `bytes` is the size of a number.
fn transpose(matrix: &[u8], rows: usize, bytes: usize) -> Vec<u8> {
    let cols = matrix.len() / rows / bytes;
    let number = |row: usize, col: usize| &matrix[(row * cols + col) * bytes..][..bytes];
    (0..cols).flat_map(|col| (0..rows).flat_map(move |row| number(row, col))).copied().collect()
}

/// The weights of an MXFP4 block, two adjacent ones per byte.
fn adjacent_pairs(block: &[u8; 17]) -> [u8; 16] {
    let weight = |n: usize| if n < 16 { block[1 + n] & 15 } else { block[n - 15] >> 4 };
    std::array::from_fn(|j| weight(2 * j) | weight(2 * j + 1) << 4)
}
