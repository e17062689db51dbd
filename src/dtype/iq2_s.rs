//! `IQ2_S`: 256 weights `d * (0.5 + scale) / 4 * size * sign`, sizes from a [grid](super::grid) of 1,024 times eight, a
//! scale of 4 bits for every 16 weights.
//!
//! File block, 82 bytes: f16 d; for every 8 weights a byte of the entry's low bits; for every 8 weights a byte of
//! signs; 8 bytes of the entries' high two bits, a byte a group; 8 bytes of scales, the first of two low.
//! GPU planes: 8 bytes a group, low bits and signs; 2 bytes a group, high bits and scales; d. Table: the grid.

use super::bits::{read_f16, word};
use super::grid::group_of_eights;

const SIGNS: usize = 34;
const HIGH: usize = 66;
const SCALES: usize = 74;

pub(super) const GRID: &[u8] = include_bytes!("grids/iq2_s.bin");

pub(super) fn dequantize(block: &[u8; 82], out: &mut [f32; 256]) {
    let d = read_f16(block, 0);
    for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let high = usize::from(block[HIGH + g]);
        let entries = std::array::from_fn(|e| usize::from(block[2 + 4 * g + e]) | ((high >> (2 * e)) & 3) << 8);
        let scales = block[SCALES + g];
        let scales = [scales & 15, scales >> 4].map(|scale| d * (0.5 + f32::from(scale)) * 0.25);
        group_of_eights(GRID, entries, scales, word(&block[SIGNS..], g), out);
    }
}

pub(super) fn pack(blocks: &[[u8; 82]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        for g in 0..8 {
            planes[0].extend_from_slice(&block[2 + 4 * g..][..4]);
            planes[0].extend_from_slice(&block[SIGNS + 4 * g..][..4]);
            planes[1].extend_from_slice(&[block[HIGH + g], block[SCALES + g]]);
        }
        planes[2].extend_from_slice(&block[..2]);
    }
}
