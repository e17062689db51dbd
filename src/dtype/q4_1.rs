//! `Q4_1`: 32 weights `d * q + m`, q of 4 bits.
//!
//! File block, 20 bytes: f16 d; f16 m; 16 bytes of quants (byte j: weight j low, weight 16 + j high).
//! GPU planes: quants by [`pack4`]; d and m.

use super::bits::{f16_bytes, nibbles, numbers, pack4, read_f16, to_nibbles};
use super::scale_search::{ScaleMin, to_f16_precision};

pub(super) fn dequantize(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (read_f16(block, 0), read_f16(block, 2));
    for (out, q) in out.iter_mut().zip(numbers(nibbles(&block[4..]))) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn quantize(x: &[f32; 32]) -> [u8; 20] {
    let line = ScaleMin::fit(x, 15, true);
    let line = ScaleMin { scale: to_f16_precision(line.scale), min: to_f16_precision(line.min) };
    let q = line.quants(x, 15);
    let mut block = [0; 20];
    block[..2].copy_from_slice(&f16_bytes(line.scale));
    block[2..4].copy_from_slice(&f16_bytes(-line.min));
    block[4..].copy_from_slice(&to_nibbles(&q));
    block
}

pub(super) fn pack(blocks: &[[u8; 20]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&pack4(nibbles(&block[4..])));
        planes[1].extend_from_slice(&block[..4]);
    }
}
