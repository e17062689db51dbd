//! `IQ1_M`: 256 weights `d * (2 * scale + 1) * (q - 1 + delta)`, q of 0, 1, 2 from the grid of `IQ1_S`, a scale of 3
//! bits for every 16 weights, a delta of +-1/8 for every 8.
//!
//! File block, 56 bytes: for every 8 weights a byte, the entry's low bits; for every 8 weights half a byte, its 3 high
//! bits and the delta's sign; four u16, each with four scales and four bits of the f16 d, lowest first.
//! GPU planes: low bits; high bits; the u16s. Table: the grid.

use super::iq1_s::eight;
use half::f16;

const HIGH: usize = 32;
const SCALES: usize = 48;

/// The four u16 as one number.
fn scales(block: &[u8; 56]) -> u64 {
    let (_, last) = block.split_last_chunk::<8>().expect("56 bytes");
    u64::from_le_bytes(*last)
}

/// Bits of d from the top of each u16.
fn d(scales: u64) -> u16 {
    (0..4).map(|i| (((scales >> (16 * i + 12)) & 15) as u16) << (4 * i)).sum()
}

/// Sets d.
pub(super) fn set_d(block: &mut [u8], d: u16) {
    for (i, high) in block[SCALES..].iter_mut().skip(1).step_by(2).enumerate() {
        *high = (*high & 15) | (((d >> (4 * i)) & 15) << 4) as u8;
    }
}

pub(super) fn dequantize(block: &[u8; 56], out: &mut [f32; 256]) {
    let scales = scales(block);
    let d = f16::from_bits(d(scales)).to_f32();
    for (n, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = usize::from(block[HIGH + n / 2] >> (n % 2 * 4));
        let entry = usize::from(block[n]) | (high & 7) << 8;
        let scale = (scales >> (n / 8 * 16 + n / 2 % 4 * 3)) & 7;
        let scale = d * (2 * scale + 1) as f32;
        *out = eight(entry, high & 8 != 0).map(|x| scale * x);
    }
}

pub(super) fn pack(blocks: &[[u8; 56]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        planes[0].extend_from_slice(&block[..HIGH]);
        planes[1].extend_from_slice(&block[HIGH..SCALES]);
        planes[2].extend_from_slice(&block[SCALES..]);
    }
}
