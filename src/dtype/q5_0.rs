//! `Q5_0`: 32 weights `d * (q - 16)`, q of 5 bits.
//!
//! File block, 22 bytes: f16 d; u32 of the quants' fifth bits (bit n: weight n); 16 bytes of their low four (byte j:
//! weight j low, weight 16 + j high).
//! GPU planes: low four bits by [`pack4`]; fifth bits by [`pack1`]; d.

use super::bits::{
    Quants, f16_bytes, gather_bit, join, nibbles, numbers, pack1, pack4, read_f16, spread, to_nibbles, word,
};
use super::scale_search::{Levels, to_f16_precision};

fn quants(block: &[u8; 22]) -> (Quants, Quants) {
    (nibbles(&block[6..]), spread(word(&block[2..], 0)))
}

pub(super) fn dequantize(block: &[u8; 22], out: &mut [f32; 32]) {
    let (low, high) = quants(block);
    let d = read_f16(block, 0);
    for (out, q) in out.iter_mut().zip(numbers(join(low, high, 4))) {
        *out = d * (f32::from(q) - 16.0);
    }
}

pub(super) fn quantize(x: &[f32; 32]) -> [u8; 22] {
    let levels = Levels::Integers(16);
    let d = to_f16_precision(levels.scale(x));
    let q = levels.quants(x, d);
    let mut block = [0; 22];
    block[..2].copy_from_slice(&f16_bytes(d));
    block[2..6].copy_from_slice(&gather_bit(&q, 4));
    block[6..].copy_from_slice(&to_nibbles(&q));
    block
}

pub(super) fn pack(blocks: &[[u8; 22]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        let (low, high) = quants(block);
        planes[0].extend_from_slice(&pack4(low));
        planes[1].extend_from_slice(&pack1(high));
        planes[2].extend_from_slice(&block[..2]);
    }
}
