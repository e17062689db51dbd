//! `MXFP4`: 32 weights `2^(e - 128) * VALUES[q]`, q of 4 bits (the OCP microscaling format's e2m1 numbers, doubled).
//!
//! File block, 17 bytes: e8m0 e; 16 bytes of quants (byte j: weight j low, weight 16 + j high).
//! GPU planes: quants by [`pack4`]; e.

use super::bits::{nibbles, numbers, pack4, to_nibbles};
use super::scale_search::extreme;

const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `2^(e - 128)`; the first two are below f32's normal numbers. 255, the format's NaN, counts on like ggml.
fn scale(e: u8) -> f32 {
    f32::from_bits(match e {
        0 | 1 => 0x0020_0000 << e,
        _ => (u32::from(e) - 1) << 23,
    })
}

pub(super) fn dequantize(block: &[u8; 17], out: &mut [f32; 32]) {
    let d = scale(block[0]);
    for (out, q) in out.iter_mut().zip(numbers(nibbles(&block[1..]))) {
        *out = d * f32::from(VALUES[usize::from(q)]);
    }
}

/// Of the exponents near the one that just reaches the largest weight, the one with the least squared error.
pub(super) fn quantize(x: &[f32; 32]) -> [u8; 17] {
    let reach = (extreme(x).abs() / 12.0).max(f32::MIN_POSITIVE).log2().ceil() as i32 + 128;
    let nearest = |x: f32, d: f32| {
        let error = |q: &u8| (x - d * f32::from(VALUES[usize::from(*q)])).abs();
        (0..16).min_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(0)
    };
    let error = |e: &u8| -> f32 {
        let d = scale(*e);
        x.iter().map(|&x| (x - d * f32::from(VALUES[usize::from(nearest(x, d))])).powi(2)).sum()
    };
    let near = (reach - 1).clamp(0, 254) as u8..=reach.clamp(0, 254) as u8;
    let e = near.min_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(0);
    let mut block = [0; 17];
    block[0] = e;
    block[1..].copy_from_slice(&to_nibbles(&x.map(|x| nearest(x, scale(e)))));
    block
}

pub(super) fn pack(blocks: &[[u8; 17]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&pack4(nibbles(&block[1..])));
        planes[1].push(block[0]);
    }
}
