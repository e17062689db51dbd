//! `Q5_1`: 32 weights `d * q + m`, q of 5 bits.
//!
//! File block, 24 bytes: f16 d; f16 m; u32 of the quants' fifth bits (bit n: weight n); 16 bytes of their low four
//! (byte j: weight j low, weight 16 + j high).
//! GPU planes: low four bits by [`pack4`]; fifth bits by [`pack1`]; d and m.

use super::bits::{
    Quants, f16_bytes, gather_bit, join, nibbles, numbers, pack1, pack4, read_f16, spread, to_nibbles, word,
};
use super::scale_search::{ScaleMin, to_f16_precision};

fn quants(block: &[u8; 24]) -> (Quants, Quants) {
    (nibbles(&block[8..]), spread(word(block, 1)))
}

pub(super) fn dequantize(block: &[u8; 24], out: &mut [f32; 32]) {
    let (low, high) = quants(block);
    let (d, m) = (read_f16(block, 0), read_f16(block, 2));
    for (out, q) in out.iter_mut().zip(numbers(join(low, high, 4))) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn quantize(x: &[f32; 32]) -> [u8; 24] {
    let line = ScaleMin::fit(x, 31, true);
    let line = ScaleMin { scale: to_f16_precision(line.scale), min: to_f16_precision(line.min) };
    let q = line.quants(x, 31);
    let mut block = [0; 24];
    block[..2].copy_from_slice(&f16_bytes(line.scale));
    block[2..4].copy_from_slice(&f16_bytes(-line.min));
    block[4..8].copy_from_slice(&gather_bit(&q, 4));
    block[8..].copy_from_slice(&to_nibbles(&q));
    block
}

pub(super) fn pack(blocks: &[[u8; 24]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        let (low, high) = quants(block);
        planes[0].extend_from_slice(&pack4(low));
        planes[1].extend_from_slice(&pack1(high));
        planes[2].extend_from_slice(&block[..4]);
    }
}
