//! `IQ3_S`: 256 weights in 8 groups `d * (1 + 2 * scale) * size * sign`, sizes from a [grid](super::grid) of 512 times
//! four, a scale of 4 bits a group.
//!
//! File block, 110 bytes: f16 d; a byte for every 4 weights, the entry's low bits; 8 bytes of the entries' ninth bits,
//! a byte a group; a byte of signs for every 8 weights; 4 bytes of scales, the first of two low.
//! GPU planes: low bits; signs; 16 bytes a superblock: ninth bits, scales, d, zeros. Table: the grid.

use super::bits::{read_f16, word};
use super::grid::group_of_fours;

const HIGH: usize = 66;
const SIGNS: usize = 74;
const SCALES: usize = 106;

pub(super) const GRID: &[u8] = include_bytes!("grids/iq3_s.bin");

pub(super) fn dequantize(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = read_f16(block, 0);
    for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = (block[SCALES + g / 2] >> (g % 2 * 4)) & 15;
        let scale = d * f32::from(1 + 2 * scale);
        let high = usize::from(block[HIGH + g]);
        let entries = std::array::from_fn(|e| usize::from(block[2 + 8 * g + e]) | ((high >> e) & 1) << 8);
        group_of_fours(GRID, entries, scale, word(&block[SIGNS..], g), out);
    }
}

pub(super) fn pack(blocks: &[[u8; 110]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[2..HIGH]);
        planes[1].extend_from_slice(&block[SIGNS..SCALES]);
        planes[2].extend_from_slice(&block[HIGH..SIGNS]);
        planes[2].extend_from_slice(&block[SCALES..]);
        planes[2].extend_from_slice(&[block[0], block[1], 0, 0]);
    }
}
