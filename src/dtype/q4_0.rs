//! `Q4_0`: 32 weights `d * (q - 8)`, q of 4 bits.
//!
//! File block, 18 bytes: f16 d; 16 bytes of quants (byte j: weight j low, weight 16 + j high).
//! GPU planes: quants by [`pack4`]; d.

use super::bits::{f16_bytes, nibbles, numbers, pack4, read_f16, to_nibbles};
use super::scale_search::{Levels, to_f16_precision};

pub(super) fn dequantize(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = read_f16(block, 0);
    for (out, q) in out.iter_mut().zip(numbers(nibbles(&block[2..]))) {
        *out = d * (f32::from(q) - 8.0);
    }
}

pub(super) fn quantize(x: &[f32; 32]) -> [u8; 18] {
    let levels = Levels::Integers(8);
    let d = to_f16_precision(levels.scale(x));
    let q = levels.quants(x, d);
    let mut block = [0; 18];
    block[..2].copy_from_slice(&f16_bytes(d));
    block[2..].copy_from_slice(&to_nibbles(&q));
    block
}

pub(super) fn pack(blocks: &[[u8; 18]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&pack4(nibbles(&block[2..])));
        planes[1].extend_from_slice(&block[..2]);
    }
}
