//! `Q2_K`: 256 weights `(d * scale) * q - (dmin * min)`, q of 2 bits, a scale and a min of 4 bits for every 16 weights.
//!
//! File block, 84 bytes: 16 bytes of scales (low) and mins (high); 64 bytes of quants, 32 for each half of the
//! superblock, whose group s lies from bit 2s on; f16 d; f16 dmin.
//! GPU planes: quants by [`pack2`]; scales and mins in order; d and dmin.

use super::bits::{Quants, field, half, numbers, pack2, per_group};

const QUANTS: usize = 16;
const D: usize = 80;

fn group(block: &[u8; 84], g: usize) -> Quants {
    field(&block[QUANTS + g / 4 * 32..], g % 4 * 2, 2)
}

pub(super) fn dequantize(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, D), half(block, D + 2));
    for g in 0..8 {
        for (i, q) in numbers(group(block, g)).into_iter().enumerate() {
            let packed = block[2 * g + i / 16];
            let (scale, min) = (d * f32::from(packed & 15), dmin * f32::from(packed >> 4));
            out[32 * g + i] = scale * f32::from(q) - min;
        }
    }
}

pub(super) fn pack(blocks: &[[u8; 84]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(per_group(|g| pack2(group(block, g))).as_flattened());
        planes[1].extend_from_slice(&block[..QUANTS]);
        planes[2].extend_from_slice(&block[D..]);
    }
}
