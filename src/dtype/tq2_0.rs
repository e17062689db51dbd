//! `TQ2_0`: 256 weights `d * (q - 1)`, q of 2 bits; sound files have 0, 1 and 2.
//!
//! File block, 66 bytes: 64 bytes of quants, 32 for each half of the superblock, whose group s starts at bit 2s;
//! f16 d.
//! GPU planes: quants by [`pack2`]; d.

use super::bits::{Quants, field, numbers, pack2, per_group, read_f16};

const D: usize = 64;

fn group(block: &[u8; 66], g: usize) -> Quants {
    field(&block[g / 4 * 32..], g % 4 * 2, 2)
}

pub(super) fn dequantize(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = read_f16(block, D);
    for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        *out = numbers(group(block, g)).map(|q| d * (f32::from(q) - 1.0));
    }
}

pub(super) fn pack(blocks: &[[u8; 66]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(per_group(|g| pack2(group(block, g))).as_flattened());
        planes[1].extend_from_slice(&block[D..]);
    }
}
