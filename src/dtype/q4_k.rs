//! `Q4_K`: 256 weights in 8 groups `(d * scale) * q - (dmin * min)`, q of 4 bits, a scale and a min of 6 bits a group.
//!
//! File block, 144 bytes: f16 d; f16 dmin; 12 bytes of scales and mins (see [`scales`]); 128 bytes of quants, of which
//! bytes 32j .. 32j + 32 hold group 2j in their low and group 2j + 1 in their high nibbles.
//! GPU planes: quants by [`pack4`]; 16 bytes a superblock: d and dmin, then [`pack_scales`].

use super::bits::{Quants, bytes, f16_bytes, field, numbers, pack4, per_group, put_field, read_f16};
use super::scale_search::SuperblockScales;

/// Scales and mins of the 8 groups. The first four have their six bits in bytes 0..4 and 4..8; the other four have
/// their low nibbles in bytes 8..12 (scale low, min high) and their top two bits above those of the first four.
pub(super) fn scales(packed: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|g| {
        let k = g & 3;
        let (scale, min, late) = (packed[k], packed[4 + k], packed[8 + k]);
        if g < 4 {
            (scale & 63, min & 63)
        } else {
            ((late & 15) | ((scale >> 6) << 4), (late >> 4) | ((min >> 6) << 4))
        }
    })
}

/// The same 96 bits without cases: low four bits of the scales, low four bits of the mins (group g from bit 4g on),
/// then the high two bits of both (scale from bit 2g on, min from bit 16 + 2g on).
pub(super) fn pack_scales(packed: &[u8; 12]) -> [u8; 12] {
    let mut words = [0u32; 3];
    for (g, (scale, min)) in scales(packed).into_iter().enumerate() {
        words[0] |= u32::from(scale & 15) << (4 * g);
        words[1] |= u32::from(min & 15) << (4 * g);
        words[2] |= u32::from(scale >> 4) << (2 * g) | u32::from(min >> 4) << (16 + 2 * g);
    }
    bytes(words)
}

/// The inverse of [`scales`].
pub(super) fn unscales(integers: &[(u8, u8)]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (g, (scale, min)) in integers.iter().enumerate() {
        let k = g & 3;
        if g < 4 {
            packed[k] |= scale;
            packed[4 + k] |= min;
        } else {
            packed[8 + k] = (scale & 15) | (min << 4);
            packed[k] |= (scale >> 4) << 6;
            packed[4 + k] |= (min >> 4) << 6;
        }
    }
    packed
}

fn split(block: &[u8; 144]) -> (&[u8; 12], &[u8]) {
    let (scales, quants) = block[4..].split_first_chunk().expect("140 bytes");
    (scales, quants)
}

fn group(quants: &[u8], g: usize) -> Quants {
    field(&quants[g / 2 * 32..], g % 2 * 4, 4)
}

pub(super) fn dequantize(block: &[u8; 144], out: &mut [f32; 256]) {
    let (packed, quants) = split(block);
    let (d, dmin) = (read_f16(block, 0), read_f16(block, 2));
    for (g, (scale, min)) in scales(packed).into_iter().enumerate() {
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (out, q) in out[32 * g..].iter_mut().zip(numbers(group(quants, g))) {
            *out = scale * f32::from(q) - min;
        }
    }
}

pub(super) fn quantize(x: &[f32; 256]) -> [u8; 144] {
    let groups = x.as_chunks::<32>().0;
    let fitted = SuperblockScales::fit(groups, 15, 63);
    let mut block = [0; 144];
    block[..2].copy_from_slice(&f16_bytes(fitted.scale));
    block[2..4].copy_from_slice(&f16_bytes(fitted.min));
    block[4..16].copy_from_slice(&unscales(&fitted.integers));
    for (g, x) in groups.iter().enumerate() {
        let q = fitted.group(g).quants(x, 15);
        put_field(&mut block[16 + g / 2 * 32..][..32], g % 2 * 4, &q, 0, 4);
    }
    block
}

pub(super) fn pack(blocks: &[[u8; 144]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        let (packed, quants) = split(block);
        planes[0].extend_from_slice(per_group(|g| pack4(group(quants, g))).as_flattened());
        planes[1].extend_from_slice(&block[..4]);
        planes[1].extend_from_slice(&pack_scales(packed));
    }
}
