//! `IQ1_S`: 256 weights in 8 groups `d * (2 * scale + 1) * (q - 1 + delta)`, q of 0, 1, 2 from a [grid](super::grid) of
//! 2,048 times eight, a scale of 3 bits and a delta of +-1/8 a group.
//!
//! File block, 50 bytes: f16 d; a byte for every 8 weights, the entry's low bits; a u16 a group: 3 more bits for each
//! of its four entries, the scale, the delta's sign.
//! GPU planes: low bits; the u16s; d. Table: the grid.

use super::bits::read_f16;
use super::grid::quants;

const HIGH: usize = 34;

/// The grid of both `IQ1` types.
pub(super) const GRID: &[u8] = include_bytes!("grids/iq1_s.bin");

/// The eight numbers `q - 1 + delta` of an entry.
pub(super) fn eight(entry: usize, negative: bool) -> [f32; 8] {
    let delta = if negative { -0.125 } else { 0.125 };
    quants(GRID, entry).map(|q| f32::from(q) - 1.0 + delta)
}

pub(super) fn dequantize(block: &[u8; 50], out: &mut [f32; 256]) {
    let d = read_f16(block, 0);
    for (n, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let (g, e) = (n / 4, n % 4);
        let high = usize::from(u16::from_le_bytes([block[HIGH + 2 * g], block[HIGH + 2 * g + 1]]));
        let entry = usize::from(block[2 + n]) | ((high >> (3 * e)) & 7) << 8;
        let scale = d * (2 * ((high >> 12) & 7) + 1) as f32;
        *out = eight(entry, high >> 15 == 1).map(|x| scale * x);
    }
}

pub(super) fn pack(blocks: &[[u8; 50]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[2..HIGH]);
        planes[1].extend_from_slice(&block[HIGH..]);
        planes[2].extend_from_slice(&block[..2]);
    }
}
