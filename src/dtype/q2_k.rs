//! `Q2_K`: 256 weights `(d * scale) * q - (dmin * min)`, q of 2 bits, a scale and a min of 4 bits for every 16 weights.
//!
//! File block, 84 bytes: 16 bytes of scales (low) and mins (high); 64 bytes of quants, 32 for each half of the
//! superblock, whose group s starts at bit 2s; f16 d; f16 dmin.
//! GPU planes: quants by [`pack2`]; scales and mins in order; d and dmin.

use super::bits::{Quants, f16_bytes, field, numbers, pack2, per_group, put_field, read_f16};
use super::scale_search::SuperblockScales;

const QUANTS: usize = 16;
const D: usize = 80;

fn group(block: &[u8; 84], g: usize) -> Quants {
    field(&block[QUANTS + g / 4 * 32..], g % 4 * 2, 2)
}

pub(super) fn dequantize(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (read_f16(block, D), read_f16(block, D + 2));
    for g in 0..8 {
        for (i, q) in numbers(group(block, g)).into_iter().enumerate() {
            let packed = block[2 * g + i / 16];
            let (scale, min) = (d * f32::from(packed & 15), dmin * f32::from(packed >> 4));
            out[32 * g + i] = scale * f32::from(q) - min;
        }
    }
}

pub(super) fn quantize(x: &[f32; 256]) -> [u8; 84] {
    let fitted = SuperblockScales::fit(x.as_chunks::<16>().0, 3, 15);
    let mut block = [0; 84];
    for (g, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let q: [u8; 32] = std::array::from_fn(|i| fitted.group(2 * g + i / 16).quant(x[i], 3));
        put_field(&mut block[QUANTS + g / 4 * 32..][..32], g % 4 * 2, &q, 0, 2);
    }
    for (byte, (scale, min)) in block.iter_mut().zip(&fitted.integers) {
        *byte = scale | (min << 4);
    }
    block[D..D + 2].copy_from_slice(&f16_bytes(fitted.scale));
    block[D + 2..].copy_from_slice(&f16_bytes(fitted.min));
    block
}

pub(super) fn pack(blocks: &[[u8; 84]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(per_group(|g| pack2(group(block, g))).as_flattened());
        planes[1].extend_from_slice(&block[..QUANTS]);
        planes[2].extend_from_slice(&block[D..]);
    }
}
