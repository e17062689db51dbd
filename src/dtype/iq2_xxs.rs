//! `IQ2_XXS`: 256 weights in 8 groups `d * (0.5 + scale) / 4 * size * sign`, sizes from a [grid](super::grid) of 256
//! times eight, a scale of 4 bits a group.
//!
//! File block, 66 bytes: f16 d; 8 bytes a group, of which four name an entry each; then a word: 7 bits for the signs of
//! every 8 weights, and the scale.
//! GPU planes: the groups as they are; d. Table: the grid.

use super::bits::{read_f16, word};
use super::grid::{even_signs, group_of_eights};

pub(super) const GRID: &[u8] = include_bytes!("grids/iq2_xxs.bin");

pub(super) fn dequantize(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = read_f16(block, 0);
    for (group, out) in block[2..].as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let last = word(group, 1);
        let scale = d * (0.5 + (last >> 28) as f32) * 0.25;
        let entries = std::array::from_fn(|e| usize::from(group[e]));
        group_of_eights(GRID, entries, [scale; 2], even_signs(last), out);
    }
}

pub(super) fn pack(blocks: &[[u8; 66]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[2..]);
        planes[1].extend_from_slice(&block[..2]);
    }
}
