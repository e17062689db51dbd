//! `IQ4_XS`: 256 weights in 8 groups `(d * (scale - 32)) * VALUES[q]`, q of 4 bits, a scale of 6 bits a group.
//!
//! File block, 136 bytes: f16 d; u16 of the scales' high two bits (group g from bit 2g on); u32 of their low four
//! (from bit 4g on); 128 bytes of quants, 16 a group (byte j: weight j low, weight 16 + j high).
//! GPU planes: quants by [`pack4`]; the first 8 bytes of the block as they are.

use super::bits::{Quants, f16_bytes, nibbles, numbers, pack4, per_group, read_f16, to_nibbles, word};
use super::iq4_nl::{LEVELS, VALUES};

fn group(block: &[u8; 136], g: usize) -> Quants {
    nibbles(&block[8 + 16 * g..])
}

pub(super) fn dequantize(block: &[u8; 136], out: &mut [f32; 256]) {
    let (d, high, low) = (read_f16(block, 0), word(block, 0) >> 16, word(block, 1));
    for g in 0..8 {
        let scale = ((low >> (4 * g)) & 15) | (((high >> (2 * g)) & 3) << 4);
        let scale = d * (scale as f32 - 32.0);
        for (out, q) in out[32 * g..].iter_mut().zip(numbers(group(block, g))) {
            *out = scale * f32::from(VALUES[usize::from(q)]);
        }
    }
}

pub(super) fn quantize(x: &[f32; 256]) -> [u8; 136] {
    let groups = x.as_chunks::<32>().0;
    let (d, scales) = LEVELS.scales(groups, 32);
    let mut block = [0; 136];
    let (mut low, mut high) = (0u32, 0u16);
    for (g, (x, scale)) in groups.iter().zip(scales).enumerate() {
        block[8 + 16 * g..][..16].copy_from_slice(&to_nibbles(&LEVELS.quants(x, d * scale as f32)));
        let scale = (scale + 32) as u32;
        low |= (scale & 15) << (4 * g);
        high |= ((scale >> 4) as u16) << (2 * g);
    }
    block[..2].copy_from_slice(&f16_bytes(d));
    block[2..4].copy_from_slice(&high.to_le_bytes());
    block[4..8].copy_from_slice(&low.to_le_bytes());
    block
}

pub(super) fn pack(blocks: &[[u8; 136]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(per_group(|g| pack4(group(block, g))).as_flattened());
        planes[1].extend_from_slice(&block[..8]);
    }
}
