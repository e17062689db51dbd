//! `IQ3_XXS`: 256 weights in 8 groups `d * (0.5 + scale) / 2 * size * sign`, sizes from a [grid](super::grid) of 256
//! times four, a scale of 4 bits a group.
//!
//! File block, 98 bytes: f16 d; a byte for every 4 weights, the entry; then a word a group: 7 bits for the signs of
//! every 8 weights, and the scale.
//! GPU planes: the entries; the words; d. Table: the grid.

use super::bits::{read_f16, word};
use super::grid::{even_signs, group_of_fours};

const WORDS: usize = 66;

pub(super) const GRID: &[u8] = include_bytes!("grids/iq3_xxs.bin");

pub(super) fn dequantize(block: &[u8; 98], out: &mut [f32; 256]) {
    let d = read_f16(block, 0);
    for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let last = word(&block[WORDS..], g);
        let scale = d * (0.5 + (last >> 28) as f32) * 0.5;
        let entries = std::array::from_fn(|e| usize::from(block[2 + 8 * g + e]));
        group_of_fours(GRID, entries, scale, even_signs(last), out);
    }
}

pub(super) fn pack(blocks: &[[u8; 98]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[2..WORDS]);
        planes[1].extend_from_slice(&block[WORDS..]);
        planes[2].extend_from_slice(&block[..2]);
    }
}
