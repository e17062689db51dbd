//! `Q4_1`: 32 weights `d * q + m`, q of 4 bits.
//!
//! File block, 20 bytes: f16 d; f16 m; 16 bytes of quants (byte j: weight j low, weight 16 + j high).
//! GPU planes: quants by [`pack4`]; d and m.

use super::bits::{half, half_bytes, nibbles, numbers, pack4, to_nibbles};
use super::fit::{Line, to_half};

pub(super) fn dequantize(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (out, q) in out.iter_mut().zip(numbers(nibbles(&block[4..]))) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn quantize(x: &[f32; 32]) -> [u8; 20] {
    let line = Line::fit(x, 15, true);
    let line = Line { scale: to_half(line.scale), min: to_half(line.min) };
    let q = line.quants(x, 15);
    let mut block = [0; 20];
    block[..2].copy_from_slice(&half_bytes(line.scale));
    block[2..4].copy_from_slice(&half_bytes(-line.min));
    block[4..].copy_from_slice(&to_nibbles(&q));
    block
}

pub(super) fn pack(blocks: &[[u8; 20]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&pack4(nibbles(&block[4..])));
        planes[1].extend_from_slice(&block[..4]);
    }
}
