//! `Q4_1`: 32 weights `d * q + m`, q of 4 bits.
//!
//! File block, 20 bytes: f16 d; f16 m; 16 bytes of quants (byte j: weight j low, weight 16 + j high).
//! GPU planes: quants by [`pack4`]; d and m.

use super::bits::{half, nibbles, numbers, pack4};

pub(super) fn dequantize(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (out, q) in out.iter_mut().zip(numbers(nibbles(&block[4..]))) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn pack(blocks: &[[u8; 20]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&pack4(nibbles(&block[4..])));
        planes[1].extend_from_slice(&block[..4]);
    }
}
