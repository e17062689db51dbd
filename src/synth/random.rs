//! Random weights of a given spread in every weight type: a function of (seed, index), the same on every machine.
//!
//! Speed comes from a pool: one prime number of blocks, written round and round. Rows start at a different block of it
//! each time, so no two rows of a tensor are equal (equal rows would tie the argmax). Real quantizing is not done here.

use std::io::Write;
use std::ops::Range;

use crate::dtype::DType;
use crate::{Error, Result};

/// Blocks in a pool: more than the rows of any vocabulary. Floats, of which a block is one weight, take the longer pool.
const POOL_BLOCKS: usize = 262_147;
const POOL_FLOATS: usize = 4_194_319;

/// The weights of one tensor as file bytes: `pool`, repeated up to `len` bytes.
pub struct Stream {
    pool: Vec<u8>,
    len: u64,
}

/// What a tensor holds.
#[derive(Clone, Debug)]
pub enum Values {
    /// Bell-shaped around `mean` with standard deviation `std`. Quantized types take `mean` as 0.
    Normal {
        /// Centre.
        mean: f32,
        /// Standard deviation.
        std: f32,
    },
    /// Like `Normal` around 1, with a random sign.
    Signed {
        /// Standard deviation of the size.
        std: f32,
    },
    /// These numbers.
    Given(Vec<f32>),
}

impl Stream {
    /// `count` weights of type `dtype`; `count` is a multiple of the type's block.
    pub fn new(seed: u64, values: &Values, dtype: DType, count: u64) -> Self {
        let blocks = count / dtype.block_len() as u64;
        let most = if dtype.block_len() == 1 { POOL_FLOATS } else { POOL_BLOCKS };
        let made = blocks.min(most as u64) as usize;
        let pool = match (dtype, values) {
            (DType::F32, _) => floats(seed, values, made, |x| x.to_le_bytes()),
            (DType::F16, _) => floats(seed, values, made, |x| half::f16::from_f32(x).to_le_bytes()),
            (DType::BF16, _) => floats(seed, values, made, |x| half::bf16::from_f32(x).to_le_bytes()),
            (_, Values::Normal { std, .. }) => random_blocks(seed, dtype, *std, made),
            _ => unreachable!("only matrices are quantized"),
        };
        Stream { pool, len: blocks * dtype.block_bytes() as u64 }
    }

    /// Size of the tensor in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Writes the bytes of `range`.
    pub fn write(&self, range: Range<u64>, out: &mut dyn Write) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let start = (at % self.pool.len() as u64) as usize;
            let n = ((range.end - at) as usize).min(self.pool.len() - start);
            out.write_all(&self.pool[start..start + n]).map_err(|e| Error::io("writing random weights", e))?;
            at += n as u64;
        }
        Ok(())
    }
}

/// A seed from a text (FNV-1a).
pub fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Number `i` of the sequence that `seed` names (SplitMix64).
fn word(seed: u64, i: u64) -> u64 {
    let z = seed.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// About normal, mean 0 and deviation 1: the sum of four 16-bit uniform numbers. No libm, so no machine differs.
fn normal(w: u64) -> f32 {
    let sum = (w & 0xffff) + (w >> 16 & 0xffff) + (w >> 32 & 0xffff) + (w >> 48);
    (sum as f32 - 131_070.0) * (1.0 / 37_837.2)
}

fn floats<const N: usize>(seed: u64, values: &Values, n: usize, encode: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(n * N);
    for i in 0..n {
        let w = word(seed, i as u64);
        let x = match values {
            Values::Normal { mean, std } => mean + std * normal(w),
            Values::Signed { std } => (1.0 + std * normal(w)) * if word(!seed, i as u64) & 1 == 0 { 1.0 } else { -1.0 },
            Values::Given(given) => given[i],
        };
        bytes.extend_from_slice(&encode(x));
    }
    bytes
}

/// Where a block keeps its f16 scales, `(byte offset, ratio to the first)`, and the deviation of its weights when all
/// other bytes are random and the first scale is 1. The ratio of a minimum is what puts the mean weight at 0.
fn scales(dtype: DType) -> (&'static [(usize, f32)], f32) {
    match dtype {
        DType::Q4_0 => (&[(0, 1.0)], 4.6),
        DType::Q4_1 => (&[(0, 1.0), (2, -7.5)], 4.6),
        DType::Q5_0 => (&[(0, 1.0)], 9.2),
        DType::Q5_1 => (&[(0, 1.0), (2, -15.5)], 9.2),
        DType::Q8_0 => (&[(0, 1.0)], 73.9),
        DType::Q2K => (&[(80, 1.0), (82, 1.5)], 13.9),
        DType::Q3K => (&[(108, 1.0)], 43.3),
        DType::Q4K => (&[(0, 1.0), (2, 7.5)], 258.0),
        DType::Q5K => (&[(0, 1.0), (2, 15.5)], 527.0),
        DType::Q6K => (&[(208, 1.0)], 1366.0),
        DType::IQ4NL => (&[(0, 1.0)], 67.4),
        DType::IQ4XS => (&[(0, 1.0)], 1246.0),
        DType::MXFP4 => (&[], 2.93),
        DType::F32 | DType::F16 | DType::BF16 => (&[], 1.0),
    }
}

/// Blocks of random bytes with sensible scales, each block's a little different so that a wrong block's scale is seen.
fn random_blocks(seed: u64, dtype: DType, std: f32, blocks: usize) -> Vec<u8> {
    let size = dtype.block_bytes();
    let mut bytes = vec![0u8; blocks * size];
    for (i, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&word(seed, i as u64).to_le_bytes()[..chunk.len()]);
    }
    let (fields, unit) = scales(dtype);
    for (i, block) in bytes.chunks_exact_mut(size).enumerate() {
        let w = word(!seed, i as u64);
        if dtype == DType::MXFP4 {
            // One byte, a power of two: 127 is 1.
            block[0] = (126.0 + (std / unit).log2().round()) as u8 + (w % 3) as u8;
        }
        // The mean of the squared factor 0.5..1.5 is 13/12.
        let scale = std / unit * (0.5 + (w >> 40) as f32 / (1u64 << 24) as f32) * 0.96;
        for &(at, ratio) in fields {
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(scale * ratio).to_le_bytes());
        }
    }
    bytes
}
