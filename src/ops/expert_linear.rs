//! Rows times the matrices of their experts.

use super::epilogue::Epilogue;
use super::matmul::{MATMUL_TILE, MatmulShape};
use super::matvec::MatvecShape;
use super::shard::{MatrixRows, Shard};
use super::{GridDim, Kernel, KernelContext, StepSize, expert_sort};
use crate::graph::{ExpertEpilogue, ExpertLinear, ExpertLinearOperands, TensorId};

pub(super) fn kernels(op: &ExpertLinear, io: &ExpertLinearOperands, cx: &KernelContext) -> Vec<Kernel> {
    let shards = cx.shards(io.weight);
    let mut out: Vec<Kernel> = shards.iter().enumerate().map(|shard| matvec(op, io, cx, shard)).collect();
    if cx.capacity.rows > cx.capacity.decode_rows() {
        out.extend(shards.iter().enumerate().map(|shard| matmul(op, io, cx, shard)));
    }
    out
}

/// Few rows: a tile of one slot.
fn matvec(op: &ExpertLinear, io: &ExpertLinearOperands, cx: &KernelContext, shard: (usize, &Shard)) -> Kernel {
    let dtype = cx.dtype(io.weight);
    let shape = MatvecShape::choose(cx, cx.cols(io.x), 1, &[dtype]);
    let slots = GridDim { times: op.used, ..GridDim::each(StepSize::Rows) };
    let grid = [GridDim::ceil(cx.cols(io.y), shape.rows()), slots, GridDim::fixed(1)];
    let kernel = Kernel::new("matvec", grid).import("route", "matmul/route/experts");
    let kernel = shape.weight(shape.add_to(kernel, cx, "dot"), "weight", dtype);
    let kernel = bind(op, io, cx, kernel, shard, &[io.ids]);
    kernel.when(StepSize::Rows, 1, cx.capacity.decode_rows())
}

/// Many rows: tiles of slots that share an expert.
fn matmul(op: &ExpertLinear, io: &ExpertLinearOperands, cx: &KernelContext, shard: (usize, &Shard)) -> Kernel {
    let dtype = cx.dtype(io.weight);
    let shape = MatmulShape::choose(cx, dtype);
    let tiles = expert_sort::tiles(op.experts, op.used, MATMUL_TILE);
    let grid = [GridDim::ceil(cx.cols(io.y), shape.rows), tiles, GridDim::fixed(1)];
    let kernel = shape.kernel(dtype, "matmul/route/expert_tiles", grid);
    let kernel = bind(op, io, cx, kernel, shard, &[io.tiles, io.slots]);
    kernel.when(StepSize::Rows, cx.capacity.decode_rows() + 1, u32::MAX)
}

/// Binds a shard of the weight, x, y, the tables of the route, and the epilogue. The kernels of `linear` see a single
/// matrix of (n, k); the route computes its offset in the shard.
fn bind(
    op: &ExpertLinear,
    io: &ExpertLinearOperands,
    cx: &KernelContext,
    kernel: Kernel,
    (i, shard): (usize, &Shard),
    routing: &[TensorId],
) -> Kernel {
    let (n, cols, (dtype, stacked)) = (cx.cols(io.y), cx.cols(io.x), cx.weight(io.weight));
    let matrix = MatrixRows { dtype, bound: shard.rows, cols, rows: n, row0: 0, out: n };
    let experts = [("USED", op.used), ("EXPERT0", shard.row0 / n), ("EXPERTS", shard.rows / n)];
    let kernel = kernel.set_all(matrix.consts()).set_all(experts).set("FROM_SLOTS", op.from_slots);
    let kernel = kernel.shard(io.weight, i).read(io.x).write(io.y).reads(routing.iter().copied());
    let kernel = Epilogue::expert(io.epilogue, io.ids).add_to(kernel);
    let kernel = match io.slot_table {
        Some(table) => {
            let kernel = kernel.import("expert_slot", "matmul/expert_slot/table");
            kernel.set_next_binding("SLOT_TABLE_AT").read(table)
        }
        None => kernel,
    };
    Kernel { experts_read: Some((stacked, op.used)), ..kernel }
}

impl ExpertLinear {
    /// y of x, of a stack of dequantized (n, k) matrices of all experts in order, of the expert of each slot, and of
    /// the epilogue.
    pub fn reference(
        &self,
        x: &[f32],
        weight: &[f32],
        ids: &[u32],
        k: usize,
        epilogue: Option<ExpertEpilogue<&[f32]>>,
    ) -> Vec<f32> {
        let matrix = weight.len() / self.experts as usize;
        let mut y = Vec::new();
        for (slot, id) in ids.iter().enumerate() {
            let row = if self.from_slots { slot } else { slot / self.used as usize };
            let x = &x[row * k..][..k];
            let expert = &weight[*id as usize * matrix..][..matrix];
            let n = matrix / k;
            let sum = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            y.extend(expert.chunks_exact(k).enumerate().map(|(i, w)| match epilogue {
                None => sum(w),
                Some(ExpertEpilogue::Bias(bias)) => sum(w) + bias[*id as usize * n + i],
                Some(ExpertEpilogue::RoutingWeight(weights)) => sum(w) * weights[slot],
            }));
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_multiplied_by_the_matrix_of_its_expert() {
        // Two experts of (1, 2).
        let (x, weight) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 1000.0]);
        let op = ExpertLinear { experts: 2, used: 2, from_slots: false };
        assert_eq!(op.reference(&x, &weight, &[0, 1, 1, 0], 2, None), [21.0, 2100.0, 4300.0, 43.0]);
        let op = ExpertLinear { used: 1, from_slots: true, ..op };
        let y = |epilogue| op.reference(&x, &weight, &[1, 0], 2, epilogue);
        assert_eq!(y(None), [2100.0, 43.0]);
        assert_eq!(y(Some(ExpertEpilogue::Bias(&[0.5, 2.0]))), [2102.0, 43.5]);
        assert_eq!(y(Some(ExpertEpilogue::RoutingWeight(&[0.5, 2.0]))), [1050.0, 86.0]);
    }
}
