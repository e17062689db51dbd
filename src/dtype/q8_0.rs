//! `Q8_0`: 32 weights `q * d`, q an int8.
//!
//! File block, 34 bytes: f16 d; 32 quants in order.
//! GPU planes: quants in order; d.

use super::bits::{f16_bytes, read_f16};
use super::scale_search::extreme;

pub(super) fn dequantize(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = read_f16(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q as i8) * d;
    }
}

/// The largest weight becomes 127: with 255 levels, a search for a better scale has no measurable benefit.
pub(super) fn quantize(x: &[f32; 32]) -> [u8; 34] {
    let d = extreme(x).abs() / 127.0;
    let per_weight = if d > 0.0 { 1.0 / d } else { 0.0 };
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16_bytes(d));
    for (byte, x) in block[2..].iter_mut().zip(x) {
        *byte = (x * per_weight).round() as i8 as u8;
    }
    block
}

pub(super) fn pack(blocks: &[[u8; 34]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[2..]);
        planes[1].extend_from_slice(&block[..2]);
    }
}
