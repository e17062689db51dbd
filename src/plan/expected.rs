//! Test data for tuning, with reference results from the CPU; see `tune`.

use std::collections::BTreeMap;

use super::measure::{SingleOp, TABLE};
use crate::Result;
use crate::dtype::DType;
use crate::gpu::{Caps, Gpu};
use crate::graph::{Attention, TensorKind};
use crate::ops::attention;
use crate::ops::{KvType, PAGE, linear};

/// The matrix's weight type, the most common one in files.
const TYPE: DType = DType::Q4K;

/// The op under test.
#[derive(Clone, Debug)]
enum Work {
    /// Rows times a matrix of (n, k). Only its first TABLE rows are not zero: the GPU multiplies all of it, but the CPU
    /// computes little.
    Product((u32, u32)),
    /// Attention and the number of its cache pages.
    Attention(Attention, u32),
}

/// The data of a trial, with some rows of the reference result.
pub(super) struct Expected {
    work: Work,
    /// Position of the first row.
    first: u32,
    /// (TABLE, k) of f32
    table: Vec<u8>,
    /// The matrix, or keys and values.
    others: Vec<Vec<u8>>,
    /// Some rows of y, without the zeros.
    y: BTreeMap<u32, Vec<f32>>,
}

/// Knuth's linear congruential generator (MMIX); its upper half is random enough here.
fn random() -> impl FnMut() -> u32 {
    let mut state = 0u64;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 32) as u32
    }
}

/// `count` random values, as a file stores them and dequantized.
fn values(rng: &mut impl FnMut() -> u32, dtype: DType, count: u32) -> (Vec<u8>, Vec<f32>) {
    let count = count as usize;
    let (mut bytes, mut values) = (vec![0; count / dtype.block_len() * dtype.block_bytes()], vec![0.0; count]);
    dtype.random_blocks(rng, &mut bytes, 1.0);
    dtype.dequantize(&bytes, &mut values);
    (bytes, values)
}

impl Expected {
    /// The data of a matrix product.
    pub fn product(matrix: (u32, u32)) -> Self {
        let (k, mut rng) = (matrix.1, random());
        let (bytes, weights) = values(&mut rng, TYPE, TABLE * k);
        let (table, x) = values(&mut rng, DType::F32, TABLE * k);
        let y = linear::reference(&x, &weights, k as usize, None, None);
        let y = (0..).zip(y.chunks_exact(TABLE as usize).map(Vec::from)).collect();
        Expected { work: Work::Product(matrix), first: 0, table, others: vec![bytes], y }
    }

    /// The data of attention with `rows` rows, the first at position `first`.
    pub fn attention(op: Attention, rows: u32, first: u32) -> Self {
        let (pages, mut rng) = ((first + rows).div_ceil(PAGE), random());
        let (table, x) = values(&mut rng, DType::F32, TABLE * op.heads * op.head_dim);
        let [(k_bytes, k), (v_bytes, v)] =
            [(); 2].map(|()| values(&mut rng, DType::F16, pages * PAGE * op.kv_heads * op.head_dim));
        let some = [0, 1, rows / 2, rows - 1];
        let table_rows: Vec<&[f32]> = x.chunks_exact((op.heads * op.head_dim) as usize).collect();
        let page_table: Vec<u32> = (0..pages).collect();
        let y = |row: u32| {
            let (at, q) = ([[0, first + row, 0, 0]], table_rows[(row % TABLE) as usize]);
            (row, attention::reference(&at, &page_table, pages, q, (&k, &v), &[], &op))
        };
        let y = some.map(y).into();
        Expected { work: Work::Attention(op, pages), first, table, others: vec![k_bytes, v_bytes], y }
    }

    /// Whether it is attention.
    pub fn attends(&self) -> bool {
        matches!(self.work, Work::Attention(..))
    }

    /// Compiles it for up to `rows` rows.
    pub async fn compile(&self, gpu: &Gpu, caps: &Caps, rows: u32) -> Result<SingleOp> {
        match &self.work {
            Work::Product(matrix) => SingleOp::product(gpu, caps, TYPE, *matrix, (rows, 1)).await,
            Work::Attention(op, pages) => SingleOp::attention(gpu, caps, op, KvType::F16, rows, *pages).await,
        }
    }

    /// The largest error, relative to the root mean square of the reference.
    pub async fn error(&self, alone: &SingleOp, rows: u32) -> Result<f64> {
        let plan = &alone.plan;
        plan.write_rows(alone.table, 0, &self.table);
        for (id, bytes) in alone.others.iter().zip(&self.others) {
            match plan.dispatch_list().graph.tensor(*id).kind {
                TensorKind::Weight { .. } => plan.write_rows(*id, 0, bytes),
                _ => plan.write(*id, 0, bytes),
            }
        }
        plan.run(&alone.ready(rows, self.first)).await?;
        let n = plan.dispatch_list().graph.cols(alone.y);
        let wanted = || self.y.range(..rows);
        let read = wanted().next_back().map_or(0, |(row, _)| row + 1);
        let bytes = plan.read(alone.y, u64::from(read * n) * 4).await?;
        let y: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let count = wanted().map(|(_, want)| want.len()).sum::<usize>();
        let squares: f64 = wanted().flat_map(|(_, want)| want).map(|want| f64::from(*want).powi(2)).sum();
        let rms = (squares / count as f64).sqrt();
        let mut worst = 0.0;
        for (row, want) in wanted() {
            let got = &y[(row * n) as usize..][..n as usize];
            let want = want.iter().copied().chain(std::iter::repeat(0.0));
            for (got, want) in got.iter().zip(want) {
                let off = f64::from((got - want).abs()) / rms;
                // NaN counts as an infinite error.
                worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
            }
        }
        Ok(worst)
    }

    /// Seconds for `rows` rows.
    pub async fn seconds(&self, alone: &SingleOp, rows: u32) -> Result<f64> {
        Ok(alone.cost(rows, self.first).await?.seconds)
    }
}
