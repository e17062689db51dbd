//! `Q8_0`: 32 weights `q * d`, q an int8.
//!
//! File block, 34 bytes: f16 d; 32 quants in order.
//! GPU planes: quants in order; d.

use super::bits::half;

pub(super) fn dequantize(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q as i8) * d;
    }
}

pub(super) fn pack(blocks: &[[u8; 34]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[2..]);
        planes[1].extend_from_slice(&block[..2]);
    }
}
