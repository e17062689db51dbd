//! Random blocks of any weight type, for synthetic models and benchmarks.
//!
//! Nothing is quantized: all bits of a block are random, and its scale is set so that the weights have the requested
//! standard deviation. This costs little more than the random numbers themselves.

use super::DType;
use super::iq4_nl::VALUES;
use super::{grid, iq1_m};
use half::{bf16, f16};

/// How to set the f16 scale (and min) of a block whose other bits are random.
struct Scaling {
    /// Byte offset of the scale (`IQ1_M` has it in parts); the min follows it.
    at: usize,
    /// Mean square of the weights while the scale is 1.
    mean_square: f32,
    /// The scale times this is the min that centres the weights; 0 for types that have none.
    min: f32,
}

/// Mean square of the `n` integers -n/2 .. n/2.
const fn signed(n: f32) -> f32 {
    (n * n + 2.0) / 12.0
}

/// Mean square of the `n` integers 0 .. n.
const fn unsigned(n: f32) -> f32 {
    (n - 1.0) * (2.0 * n - 1.0) / 6.0
}

/// Variance of `n` neighbouring integers.
const fn centred(n: f32) -> f32 {
    (n * n - 1.0) / 12.0
}

/// Mean square of `value` over the quants of two bits in a table.
fn quants(table: &[u8], value: impl Fn(u8) -> f32) -> f32 {
    let all = table.iter().flat_map(|byte| [0, 2, 4, 6].map(|shift| value((byte >> shift) & 3)));
    all.map(|v| v * v).sum::<f32>() / (4 * table.len()) as f32
}

/// Mean square of the bytes of a table.
fn sizes(table: &[u8]) -> f32 {
    table.iter().map(|&v| f32::from(v).powi(2)).sum::<f32>() / table.len() as f32
}

/// Mean square of the `n` odd integers 1 .. 2n.
const fn odd(n: f32) -> f32 {
    (4.0 * n * n - 1.0) / 3.0
}

fn scaling(dtype: DType) -> Option<Scaling> {
    let grid = dtype.table();
    let table = VALUES.map(|v| f32::from(v) * f32::from(v)).iter().sum::<f32>() / 16.0;
    let (at, mean_square, min) = match dtype {
        DType::Q4_0 => (0, signed(16.0), 0.0),
        DType::Q5_0 => (0, signed(32.0), 0.0),
        DType::Q8_0 => (0, signed(256.0), 0.0),
        DType::IQ4NL => (0, table, 0.0),
        DType::Q4_1 => (0, centred(16.0), -7.5),
        DType::Q5_1 => (0, centred(32.0), -15.5),
        DType::Q2K => (80, unsigned(16.0) * centred(4.0), 1.5),
        DType::Q3K => (108, signed(64.0) * signed(8.0), 0.0),
        DType::Q4K => (0, unsigned(64.0) * centred(16.0), 7.5),
        DType::Q5K => (0, unsigned(64.0) * centred(32.0), 15.5),
        DType::Q6K => (208, signed(256.0) * signed(64.0), 0.0),
        DType::IQ4XS => (0, signed(64.0) * table, 0.0),
        // Scales are halves of odd numbers, divided by 4 (or by 2).
        DType::IQ2XXS | DType::IQ2XS | DType::IQ2S => (0, odd(16.0) / 64.0 * quants(grid, grid::magnitude), 0.0),
        DType::IQ3XXS => (0, odd(16.0) / 16.0 * sizes(grid), 0.0),
        DType::IQ3S => (0, odd(16.0) * sizes(grid), 0.0),
        DType::IQ1S | DType::IQ1M => (0, odd(8.0) * (quants(grid, |q| f32::from(q) - 1.0) + 0.125 * 0.125), 0.0),
        // The ternary digits of a byte, and the quants that `make_valid` leaves.
        DType::TQ1_0 => (52, 2.0 / 3.0, 0.0),
        DType::TQ2_0 => (64, 0.5, 0.0),
        DType::F32 | DType::F16 | DType::BF16 | DType::MXFP4 => return None,
    };
    Some(Scaling { at, mean_square, min })
}

impl DType {
    /// Fills whole file blocks with random weights of mean about 0 and standard deviation about `scale`. `rng` gives
    /// 32 random bits per call; the same numbers give the same blocks. `scale` is accurate from 0.002 to 1000; far
    /// outside, the f16 scale of some types rounds to zero or infinity.
    ///
    /// # Panics
    /// If `out` is not whole blocks.
    #[track_caller]
    pub fn random_blocks(self, rng: &mut impl FnMut() -> u32, out: &mut [u8], scale: f32) {
        assert!(out.len().is_multiple_of(self.block_bytes()), "{} bytes are not whole blocks of {self}", out.len());
        match self {
            DType::F32 => floats(rng, out, scale, f32::to_le_bytes),
            DType::F16 => floats(rng, out, scale, |x| f16::from_f32(x).to_le_bytes()),
            DType::BF16 => floats(rng, out, scale, |x| bf16::from_f32(x).to_le_bytes()),
            _ => {
                fill(rng, out);
                for block in out.chunks_exact_mut(self.block_bytes()) {
                    make_valid(self, block);
                }
                match scaling(self) {
                    Some(scaling) => set_scales(self, rng, out, &scaling, scale),
                    None => set_exponents(rng, out, scale),
                }
            }
        }
    }
}

fn fill(rng: &mut impl FnMut() -> u32, out: &mut [u8]) {
    let (words, rest) = out.as_chunks_mut::<4>();
    for word in words {
        *word = rng().to_le_bytes();
    }
    rest.copy_from_slice(&rng().to_le_bytes()[..rest.len()]);
}

/// Each weight is one of 256 evenly spaced numbers.
fn floats<const N: usize>(rng: &mut impl FnMut() -> u32, out: &mut [u8], scale: f32, encode: fn(f32) -> [u8; N]) {
    let step = scale / centred(256.0).sqrt();
    let table: [[u8; N]; 256] = std::array::from_fn(|i| encode((i as f32 - 127.5) * step));
    for weights in out.as_chunks_mut::<N>().0.chunks_mut(4) {
        for (weight, byte) in weights.iter_mut().zip(rng().to_le_bytes()) {
            *weight = table[usize::from(byte)];
        }
    }
}

/// Makes each 4- or 6-bit min of a superblock equal to its scale, so that one f16 min centres all groups, and replaces
/// invalid ternary quants by the middle one.
fn make_valid(dtype: DType, block: &mut [u8]) {
    match dtype {
        DType::Q2K => block[..16].iter_mut().for_each(|b| *b = (*b & 15) * 0x11),
        DType::Q4K | DType::Q5K => {
            block.copy_within(4..8, 8);
            block[12..16].iter_mut().for_each(|b| *b = (*b & 15) * 0x11);
        }
        DType::TQ2_0 => block[..64].iter_mut().for_each(|b| *b &= !((*b << 1) & 0xAA)),
        _ => {}
    }
}

/// Sets every block's scale (and min), with a random sign: most types' quants reach one step further below zero than
/// above, which the signs balance.
fn set_scales(dtype: DType, rng: &mut impl FnMut() -> u32, out: &mut [u8], scaling: &Scaling, scale: f32) {
    let d = f16::from_f32(scale / scaling.mean_square.sqrt());
    let min = f16::from_f32(d.to_f32() * scaling.min);
    let (mut signs, mut left) = (0, 0);
    for block in out.chunks_exact_mut(dtype.block_bytes()) {
        if left == 0 {
            (signs, left) = (rng(), 32);
        }
        let sign = ((signs & 1) as u16) << 15;
        (signs, left) = (signs >> 1, left - 1);
        match dtype {
            DType::IQ1M => iq1_m::set_d(block, d.to_bits() ^ sign),
            _ => block[scaling.at..][..2].copy_from_slice(&(d.to_bits() ^ sign).to_le_bytes()),
        }
        if scaling.min != 0.0 {
            block[scaling.at + 2..][..2].copy_from_slice(&(min.to_bits() ^ sign).to_le_bytes());
        }
    }
}

/// Sets every `MXFP4` block's exponent to one of the two powers of two around the requested scale, with the probability
/// that gives the requested variance.
fn set_exponents(rng: &mut impl FnMut() -> u32, out: &mut [u8], scale: f32) {
    // Mean square of the sixteen numbers: 2 (1 + 4 + 9 + 16 + 36 + 64 + 144) / 16.
    let d = scale / 34.25f32.sqrt();
    let power = d.log2().floor();
    let upper = ((d / power.exp2()).powi(2) - 1.0) / 3.0;
    let e = (power + 128.0).clamp(0.0, 253.0) as u8;
    for block in out.chunks_exact_mut(17) {
        block[0] = e + u8::from(((rng() >> 8) as f32) < upper * (1 << 24) as f32);
    }
}
