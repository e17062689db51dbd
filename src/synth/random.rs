//! Random weights of a given spread in every weight type: a function of (seed, index), the same on every machine.
//!
//! Speed comes from a pool: one prime number of blocks, written round and round. Rows start at a different block of it
//! each time, so no two rows of a tensor are equal (equal rows would tie the argmax). Real quantizing is not done here.

use crate::dtype::DType;
use std::io::{self, Write};
use std::ops::Range;

/// Blocks in a pool: more than the rows of any vocabulary. Floats, of which a block is one weight, take the longer
/// pool.
const POOL_BLOCKS: usize = 262_147;
const POOL_FLOATS: usize = 4_194_319;

/// The weights of one tensor as file bytes: `pool`, repeated up to `len` bytes.
pub struct Stream {
    pool: Vec<u8>,
    len: u64,
}

/// The values of a tensor.
#[derive(Clone, Debug)]
pub enum Values {
    /// Bell-shaped around `mean` with standard deviation `std`.
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
            (_, values) => quantized(seed, values, dtype, made),
        };
        Stream { pool, len: blocks * dtype.block_bytes() as u64 }
    }

    /// Size of the tensor in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Writes the bytes of `range`.
    pub fn write(&self, range: Range<u64>, out: &mut dyn Write) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let start = (at % self.pool.len() as u64) as usize;
            let n = (range.end - at).min((self.pool.len() - start) as u64) as usize;
            out.write_all(&self.pool[start..start + n])?;
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

/// Random blocks around 0.
fn quantized(seed: u64, values: &Values, dtype: DType, n: usize) -> Vec<u8> {
    let Values::Normal { std, .. } = *values else { unreachable!("only matrices are quantized, and they are Normal") };
    let mut bytes = vec![0; n * dtype.block_bytes()];
    let mut i = 0;
    let mut rng = || {
        i += 1;
        (word(seed, i) >> 32) as u32
    };
    dtype.random_blocks(&mut rng, &mut bytes, std);
    bytes
}
