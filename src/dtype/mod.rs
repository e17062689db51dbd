//! The weight types: how each lies in a file, what it means, and how it lies on the GPU.

use crate::{Error, Result};

/// A type of stored weights, by its GGUF number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    IQ4NL,
    IQ4XS,
    MXFP4,
}

use DType::*;

/// Type, GGUF number, name, weights in a block, bytes of a block.
const TABLE: [(DType, u32, &str, usize, usize); 16] = [
    (F32, 0, "F32", 1, 4),
    (F16, 1, "F16", 1, 2),
    (BF16, 30, "BF16", 1, 2),
    (Q4_0, 2, "Q4_0", 32, 18),
    (Q4_1, 3, "Q4_1", 32, 20),
    (Q5_0, 6, "Q5_0", 32, 22),
    (Q5_1, 7, "Q5_1", 32, 24),
    (Q8_0, 8, "Q8_0", 32, 34),
    (Q2K, 10, "Q2_K", 256, 84),
    (Q3K, 11, "Q3_K", 256, 110),
    (Q4K, 12, "Q4_K", 256, 144),
    (Q5K, 13, "Q5_K", 256, 176),
    (Q6K, 14, "Q6_K", 256, 210),
    (IQ4NL, 20, "IQ4_NL", 32, 18),
    (IQ4XS, 23, "IQ4_XS", 256, 136),
    (MXFP4, 39, "MXFP4", 32, 17),
];

impl DType {
    /// The name GGUF tools print.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// The number GGUF files hold.
    pub fn gguf_id(self) -> u32 {
        TABLE[self as usize].1
    }

    /// The type with this GGUF number.
    pub fn from_gguf_id(id: u32) -> Result<Self> {
        let row = TABLE.iter().find(|row| row.1 == id);
        row.map(|row| row.0).ok_or_else(|| Error::Unsupported(format!("weight type {id} is not supported")))
    }

    /// Weights in a block.
    pub fn block_len(self) -> usize {
        TABLE[self as usize].3
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        TABLE[self as usize].4
    }

    /// Bytes of a row of `cols` weights; `None` if it is not whole blocks or too large to count.
    pub fn row_bytes(self, cols: u64) -> Option<u64> {
        let block = self.block_len() as u64;
        if cols.is_multiple_of(block) { (cols / block).checked_mul(self.block_bytes() as u64) } else { None }
    }
}
