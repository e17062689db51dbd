//! `IQ4_NL`: 32 weights `d * VALUES[q]`, q of 4 bits.
//!
//! File block and GPU planes are those of `Q4_0`.

use super::bits::{f16_bytes, nibbles, numbers, read_f16, to_nibbles};
use super::scale_search::{Levels, to_f16_precision};

/// The values of the 16 quants (ggml's `kvalues_iq4nl`).
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) const LEVELS: Levels = Levels::Table(&VALUES);

pub(super) fn dequantize(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = read_f16(block, 0);
    for (out, q) in out.iter_mut().zip(numbers(nibbles(&block[2..]))) {
        *out = d * f32::from(VALUES[usize::from(q)]);
    }
}

pub(super) fn quantize(x: &[f32; 32]) -> [u8; 18] {
    let d = to_f16_precision(LEVELS.scale(x));
    let q = LEVELS.quants(x, d);
    let mut block = [0; 18];
    block[..2].copy_from_slice(&f16_bytes(d));
    block[2..].copy_from_slice(&to_nibbles(&q));
    block
}
