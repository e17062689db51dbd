//! Each head times its own matrix. The kernels are those of `linear`; a tile is some rows of one head.

use super::matmul::{MATMUL_TILE, MatmulShape};
use super::matvec::{MatvecShape, few_or_many};
use super::shard::{MatrixRows, Shard};
use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{HeadLinear, HeadLinearOperands};

/// Tiles of heads.
const ROUTE: &str = "matmul/route/heads";

pub(super) fn kernels(op: &HeadLinear, io: &HeadLinearOperands, cx: &KernelContext) -> Vec<Kernel> {
    let shards = cx.shards(io.weight);
    let shards = || shards.iter().enumerate();
    let dtype = cx.dtype(io.weight);
    let matvecs = |tile| {
        let shape = MatvecShape::choose(cx, cx.cols(io.weight), tile, &[dtype]);
        let matvec = |(i, shard)| {
            let kernel = Kernel::new("matvec", grid(op, io, cx, shard, shape.rows(), tile)).import("route", ROUTE);
            let kernel = shape.weight(shape.add_to(kernel, cx, "dot"), "weight", dtype);
            shape.when(bind(op, io, cx, kernel, (i, shard)), StepSize::Rows)
        };
        shards().map(matvec).collect()
    };
    let matmul = |(i, shard)| {
        let shape = MatmulShape::choose(cx, dtype);
        let grid = grid(op, io, cx, shard, shape.rows, MATMUL_TILE);
        let kernel = bind(op, io, cx, shape.kernel(dtype, ROUTE, grid), (i, shard));
        kernel.when(StepSize::Rows, cx.matvec_rows() + 1, u32::MAX)
    };
    few_or_many(cx, StepSize::Rows, matvecs, || shards().map(matmul).collect())
}

/// Workgroups for tiles of `rows` weight rows and `tile` rows of x.
fn grid(
    op: &HeadLinear,
    io: &HeadLinearOperands,
    cx: &KernelContext,
    shard: &Shard,
    rows: u32,
    tile: u32,
) -> [GridDim; 3] {
    let n = cx.cols(io.y) / op.heads;
    let heads = shard.rows / n;
    // At least as many tiles as each head needs; those after the last row have no work.
    let plus = if tile > 1 { heads } else { 0 };
    let tiles = GridDim { size: StepSize::Rows, times: heads, per: tile, plus };
    [GridDim::ceil(n, rows), tiles, GridDim::fixed(1)]
}

/// The kernels of `linear` see a single matrix of (n, k); the route finds where it begins in the shard.
fn bind(
    op: &HeadLinear,
    io: &HeadLinearOperands,
    cx: &KernelContext,
    kernel: Kernel,
    (i, shard): (usize, &Shard),
) -> Kernel {
    let (n, dtype, cols) = (cx.cols(io.y) / op.heads, cx.dtype(io.weight), cx.cols(io.weight));
    let matrix = MatrixRows { dtype, bound: shard.rows, cols, rows: n, row0: 0, out: n };
    let heads = [("HEADS", op.heads), ("HEAD0", shard.row0 / n), ("SHARD_HEADS", shard.rows / n)];
    kernel.set_all(matrix.consts()).set_all(heads).shard(io.weight, i).read(io.x).write(io.y)
}

impl HeadLinear {
    /// y of x and of a stack of dequantized (n, `k`) matrices.
    pub fn reference(&self, x: &[f32], weight: &[f32], k: usize) -> Vec<f32> {
        let heads = self.heads as usize;
        let matrix = |head: usize| &weight[head % heads * weight.len() / heads..][..weight.len() / heads];
        let product = |(head, x): (usize, &[f32])| super::linear::reference(x, matrix(head), k, None, None);
        x.chunks_exact(k).enumerate().flat_map(product).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_meets_its_own_matrix() {
        // Two heads of (1, 2); two rows.
        let (op, weight) = (HeadLinear { heads: 2 }, [1.0, 10.0, 100.0, 1000.0]);
        let x = [1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 1.0, 0.0];
        assert_eq!(op.reference(&x, &weight, 2), [21.0, 4300.0, 10.0, 100.0]);
    }
}
