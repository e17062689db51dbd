//! `Q5_K`: 256 weights in 8 groups `(d * scale) * q - (dmin * min)`, q of 5 bits, a scale and a min of 6 bits a group.
//!
//! File block, 176 bytes: f16 d; f16 dmin; 12 bytes of scales and mins as in `Q4_K`; 32 bytes of fifth bits (bit g of
//! byte n: weight n of group g); 128 bytes of low four bits, of which bytes 32j .. 32j + 32 hold group 2j in their
//! low and group 2j + 1 in their high nibbles.
//! GPU planes: low four bits by [`pack4`]; fifth bits by [`pack1`]; 16 bytes a superblock: d and dmin, then
//! [`pack_scales`].

use super::bits::{Quants, f16_bytes, field, join, numbers, pack1, pack4, per_group, put_field, read_f16};
use super::q4_k::{pack_scales, scales, unscales};
use super::scale_search::SuperblockScales;

fn packed_scales(block: &[u8; 176]) -> &[u8; 12] {
    block[4..].first_chunk().expect("172 bytes")
}

/// Low four bits and fifth bits of group `g`.
fn group(block: &[u8; 176], g: usize) -> (Quants, Quants) {
    (field(&block[48 + g / 2 * 32..], g % 2 * 4, 4), field(&block[16..], g, 1))
}

pub(super) fn dequantize(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (read_f16(block, 0), read_f16(block, 2));
    for (g, (scale, min)) in scales(packed_scales(block)).into_iter().enumerate() {
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let (low, high) = group(block, g);
        for (out, q) in out[32 * g..].iter_mut().zip(numbers(join(low, high, 4))) {
            *out = scale * f32::from(q) - min;
        }
    }
}

pub(super) fn quantize(x: &[f32; 256]) -> [u8; 176] {
    let groups = x.as_chunks::<32>().0;
    let fitted = SuperblockScales::fit(groups, 31, 63);
    let mut block = [0; 176];
    block[..2].copy_from_slice(&f16_bytes(fitted.scale));
    block[2..4].copy_from_slice(&f16_bytes(fitted.min));
    block[4..16].copy_from_slice(&unscales(&fitted.integers));
    for (g, x) in groups.iter().enumerate() {
        let q = fitted.group(g).quants(x, 31);
        put_field(&mut block[16..48], g, &q, 4, 1);
        put_field(&mut block[48 + g / 2 * 32..][..32], g % 2 * 4, &q, 0, 4);
    }
    block
}

pub(super) fn pack(blocks: &[[u8; 176]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(per_group(|g| pack4(group(block, g).0)).as_flattened());
        planes[1].extend_from_slice(per_group(|g| pack1(group(block, g).1)).as_flattened());
        planes[2].extend_from_slice(&block[..4]);
        planes[2].extend_from_slice(&pack_scales(packed_scales(block)));
    }
}
