//! `Q3_K`: 256 weights `(d * (scale - 32)) * (q - 4)`, q of 3 bits, a scale of 6 bits for every 16 weights.
//!
//! File block, 110 bytes: 32 bytes of third bits (bit g of byte n: weight n of group g); 64 bytes of low two bits, 32
//! for each half of the superblock, whose group s starts at bit 2s; 12 bytes of scales (see [`scales`]); f16 d.
//! GPU planes: low two bits by [`pack2`]; third bits by [`pack1`]; 16 bytes a superblock: [`pack_scales`], d, zeros.

use super::bits::{Quants, bytes, f16_bytes, field, join, numbers, pack1, pack2, per_group, put_field, read_f16};
use super::scale_search::Levels;

const SCALES: usize = 96;
const D: usize = 108;

/// The 16 scales: low four bits in bytes 0..8 (0..8 low, 8..16 high), high two in bytes 8..12 (4k .. 4k + 4 from bit
/// 2k on).
fn scales(block: &[u8; 110]) -> [u8; 16] {
    let packed = &block[SCALES..];
    std::array::from_fn(|s| {
        let low = (packed[s % 8] >> (s / 8 * 4)) & 15;
        let high = (packed[8 + s % 4] >> (s / 4 * 2)) & 3;
        low | (high << 4)
    })
}

/// The low four bits of the scales in order, then the high two.
fn pack_scales(block: &[u8; 110]) -> [u8; 12] {
    let mut words = [0u32; 3];
    for (s, scale) in scales(block).into_iter().enumerate() {
        words[s / 8] |= u32::from(scale & 15) << (s % 8 * 4);
        words[2] |= u32::from(scale >> 4) << (2 * s);
    }
    bytes(words)
}

/// Low two bits and third bits of group `g`.
fn group(block: &[u8; 110], g: usize) -> (Quants, Quants) {
    (field(&block[32 + g / 4 * 32..], g % 4 * 2, 2), field(block, g, 1))
}

pub(super) fn dequantize(block: &[u8; 110], out: &mut [f32; 256]) {
    let (d, scales) = (read_f16(block, D), scales(block));
    for g in 0..8 {
        let (low, high) = group(block, g);
        for (i, q) in numbers(join(low, high, 2)).into_iter().enumerate() {
            let scale = d * (f32::from(scales[2 * g + i / 16]) - 32.0);
            out[32 * g + i] = scale * (f32::from(q) - 4.0);
        }
    }
}

pub(super) fn quantize(x: &[f32; 256]) -> [u8; 110] {
    let levels = Levels::Integers(4);
    let (d, scales) = levels.scales(x.as_chunks::<16>().0, 32);
    let mut block = [0; 110];
    for (g, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let q: [u8; 32] = std::array::from_fn(|i| levels.quant(x[i], d * scales[2 * g + i / 16] as f32));
        put_field(&mut block[32 + g / 4 * 32..][..32], g % 4 * 2, &q, 0, 2);
        put_field(&mut block[..32], g, &q, 2, 1);
    }
    for (s, scale) in scales.into_iter().enumerate() {
        let scale = (scale + 32) as u8;
        block[SCALES + s % 8] |= (scale & 15) << (s / 8 * 4);
        block[SCALES + 8 + s % 4] |= (scale >> 4) << (s / 4 * 2);
    }
    block[D..].copy_from_slice(&f16_bytes(d));
    block
}

pub(super) fn pack(blocks: &[[u8; 110]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(per_group(|g| pack2(group(block, g).0)).as_flattened());
        planes[1].extend_from_slice(per_group(|g| pack1(group(block, g).1)).as_flattened());
        planes[2].extend_from_slice(&pack_scales(block));
        planes[2].extend_from_slice(&[block[D], block[D + 1], 0, 0]);
    }
}
