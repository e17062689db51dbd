//! `IQ2_XS`: 256 weights `d * (0.5 + scale) / 4 * size * sign`, sizes from a [grid](super::grid) of 512 times eight, a
//! scale of 4 bits for every 16 weights.
//!
//! File block, 74 bytes: f16 d; a u16 for every 8 weights, the entry in 9 bits and the signs in 7; 8 bytes of scales,
//! the first of two low.
//! GPU planes: the u16s; the scales; d. Table: the grid.

use super::bits::read_f16;
use super::grid::{even_signs, group_of_eights};

const SCALES: usize = 66;

pub(super) const GRID: &[u8] = include_bytes!("grids/iq2_xs.bin");

pub(super) fn dequantize(block: &[u8; 74], out: &mut [f32; 256]) {
    let d = read_f16(block, 0);
    let groups = block[2..SCALES].as_chunks::<8>().0.iter().zip(&block[SCALES..]);
    for ((group, scales), out) in groups.zip(out.as_chunks_mut::<32>().0) {
        let eights: [u32; 4] = std::array::from_fn(|e| u16::from_le_bytes([group[2 * e], group[2 * e + 1]]).into());
        let signs = eights.iter().rev().fold(0, |all, eight| (all << 7) | (eight >> 9));
        let scales = [scales & 15, scales >> 4].map(|scale| d * (0.5 + f32::from(scale)) * 0.25);
        group_of_eights(GRID, eights.map(|eight| (eight & 511) as usize), scales, even_signs(signs), out);
    }
}

pub(super) fn pack(blocks: &[[u8; 74]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[2..SCALES]);
        planes[1].extend_from_slice(&block[SCALES..]);
        planes[2].extend_from_slice(&block[..2]);
    }
}
