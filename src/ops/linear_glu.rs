//! The gated pair of a feed-forward network, in one matvec when rows are few.

use super::context::KernelContext;
use super::epilogue::Epilogue;
use super::grid::{GridDim, StepSize};
use super::kernel::Kernel;
use super::matmul::Product;
use super::matvec::{MatvecShape, few_or_many};
use super::shard::{MatrixRows, planes};
use super::{fused_norm, glu};
use crate::graph::{Activation, Glu, GluOperands, LinearGlu, LinearGluOperands};

pub(super) fn kernels(op: &LinearGlu, io: &LinearGluOperands, cx: &KernelContext) -> Vec<Kernel> {
    few_or_many(cx, StepSize::Rows, |tile| vec![matvec(op, io, cx, tile)], || many(op, io, cx))
}

fn many(op: &LinearGlu, io: &LinearGluOperands, cx: &KernelContext) -> Vec<Kernel> {
    let (x, norm) = fused_norm::matmul_x(io.norm.as_ref(), io.x, cx);
    let mut out = Vec::from_iter(norm);
    let [gate, up] = io.products;
    for (weight, y) in [(io.gate, gate), (io.up, up)] {
        let product = Product { x, weight, y, column: 0, rows: StepSize::Rows, epilogue: Epilogue::Plain };
        out.extend(product.matmuls(cx));
    }
    let op = Glu { activation: op.activation };
    let kernel = glu::kernel(&op, &GluOperands { gate, up, y: io.y }, cx, GridDim::each(StepSize::Rows));
    out.push(kernel.when(StepSize::Rows, cx.matvec_rows() + 1, u32::MAX));
    out
}

fn matvec(op: &LinearGlu, io: &LinearGluOperands, cx: &KernelContext, tile: u32) -> Kernel {
    let [gate, up] = [io.gate, io.up].map(|id| cx.dtype(id));
    let (n, cols) = (cx.graph.fixed_rows(io.gate), cx.cols(io.x));
    let shape = MatvecShape::choose(cx, cols, tile, &[gate, up]);
    let matrix = MatrixRows { dtype: gate, bound: n, cols, rows: n, row0: 0, out: n };
    let grid = [GridDim::ceil(n, shape.rows()), GridDim::fixed(1), GridDim::fixed(1)];
    let kernel = Kernel::new("matvec_glu", grid).set_all(matrix.consts());
    let kernel = kernel.set_all(planes(["up_PLANE1", "up_PLANE2", "up_PLANE3"], up, n, cols));
    let kernel = shape.add_to(kernel, cx, "gate_up_dot").import("activation", op.activation.shader());
    let kernel = shape.weight(shape.weight(kernel, "weight", gate), "up", up);
    let x = fused_norm::matvec_x(io.norm.as_ref(), io.x);
    let kernel = kernel.read(io.gate).read(x).write(io.y).read(io.up);
    shape.when(fused_norm::read(io.norm.as_ref(), kernel, cx, cols, tile), StepSize::Rows)
}

/// The op's reference.
pub fn reference(x: &[f32], gate: &[f32], up: &[f32], k: usize, activation: Activation) -> Vec<f32> {
    let product = |weight| super::linear::reference(x, weight, k, None, None);
    glu::reference(&product(gate), &product(up), activation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gates_product_is_activated() {
        // gate . x = 0 and 64, up . x = 5 and 3; silu(0) = 0, silu(64) = 64.
        let y = reference(&[1.0, 2.0], &[2.0, -1.0, 60.0, 2.0], &[1.0, 2.0, 1.0, 1.0], 2, Activation::Silu);
        assert_eq!(y, [0.0, 192.0]);
    }
}
