//! `Q6_K`: 256 weights `(d * scale) * (q - 32)`, q of 6 bits, an int8 scale for every 16 weights.
//!
//! File block, 210 bytes: 128 bytes of low four bits; 64 bytes of high two bits; 16 scales; f16 d. Each half of the
//! superblock is four groups s: their low bits are in its 64 bytes, group s in bytes 32 (s % 2) .. + 32, low nibbles
//! for s < 2, high nibbles otherwise; their high bits in its 32 bytes, group s from bit 2s on.
//! GPU planes: low four bits by [`pack4`]; high two bits by [`pack2`]; scales in order; d.

use super::bits::{Quants, f16_bytes, field, join, numbers, pack2, pack4, per_group, put_field, read_f16};
use super::scale_search::Levels;

const SCALES: usize = 192;
const D: usize = 208;

/// Low four and high two bits of group `g`.
fn group(block: &[u8; 210], g: usize) -> (Quants, Quants) {
    let (n, s) = (g / 4, g % 4);
    (field(&block[64 * n + s % 2 * 32..], s / 2 * 4, 4), field(&block[128 + 32 * n..], 2 * s, 2))
}

pub(super) fn dequantize(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = read_f16(block, D);
    for g in 0..8 {
        let (low, high) = group(block, g);
        for (i, q) in numbers(join(low, high, 4)).into_iter().enumerate() {
            let scale = d * f32::from(block[SCALES + 2 * g + i / 16] as i8);
            out[32 * g + i] = scale * (f32::from(q) - 32.0);
        }
    }
}

pub(super) fn quantize(x: &[f32; 256]) -> [u8; 210] {
    let levels = Levels::Integers(32);
    let (d, scales) = levels.scales(x.as_chunks::<16>().0, 128);
    let mut block = [0; 210];
    for (g, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let q: [u8; 32] = std::array::from_fn(|i| levels.quant(x[i], d * scales[2 * g + i / 16] as f32));
        let (n, s) = (g / 4, g % 4);
        put_field(&mut block[64 * n + s % 2 * 32..][..32], s / 2 * 4, &q, 0, 4);
        put_field(&mut block[128 + 32 * n..][..32], 2 * s, &q, 4, 2);
    }
    for (byte, scale) in block[SCALES..D].iter_mut().zip(scales) {
        *byte = scale as i8 as u8;
    }
    block[D..].copy_from_slice(&f16_bytes(d));
    block
}

pub(super) fn pack(blocks: &[[u8; 210]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(per_group(|g| pack4(group(block, g).0)).as_flattened());
        planes[1].extend_from_slice(per_group(|g| pack2(group(block, g).1)).as_flattened());
        planes[2].extend_from_slice(&block[SCALES..D]);
        planes[3].extend_from_slice(&block[D..]);
    }
}
