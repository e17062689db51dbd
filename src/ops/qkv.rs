//! Queries, keys and values side by side: three linears of one x, in one matvec when rows are few.

use super::context::KernelContext;
use super::epilogue::Epilogue;
use super::fused_norm;
use super::grid::{GridDim, StepSize};
use super::kernel::Kernel;
use super::matmul::Product;
use super::matvec::{MatvecShape, few_or_many};
use super::shard::{MatrixRows, planes};
use crate::graph::{Qkv, QkvOperands};

pub(super) fn kernels(_: &Qkv, io: &QkvOperands, cx: &KernelContext) -> Vec<Kernel> {
    few_or_many(cx, StepSize::Rows, |tile| vec![matvec(io, cx, tile)], || many(io, cx))
}

fn many(io: &QkvOperands, cx: &KernelContext) -> Vec<Kernel> {
    let (x, norm) = fused_norm::matmul_x(io.norm.as_ref(), io.x, cx);
    let mut out = Vec::from_iter(norm);
    let (mut column, epilogue) = (0, Epilogue::dense(io.bias, None));
    for weight in io.weights {
        let product = Product { x, weight, y: io.y, column, rows: StepSize::Rows, epilogue };
        out.extend(product.matmuls(cx));
        column += cx.graph.fixed_rows(weight);
    }
    out
}

fn matvec(io: &QkvOperands, cx: &KernelContext, tile: u32) -> Kernel {
    let [q, k, v] = io.weights;
    let types = io.weights.map(|id| cx.dtype(id));
    let [q_rows, k_rows, v_rows] = io.weights.map(|id| cx.graph.fixed_rows(id));
    let (n, cols) = (cx.cols(io.y), cx.cols(io.x));
    let shape = MatvecShape::choose(cx, cols, tile, &types);
    let matrix = MatrixRows { dtype: types[0], bound: q_rows, cols, rows: q_rows, row0: 0, out: n };
    let grid = [GridDim::ceil(n, shape.rows()), GridDim::fixed(1), GridDim::fixed(1)];
    let kernel = Kernel::new("matvec_qkv", grid).set_all(matrix.consts()).set("KV_ROWS", k_rows);
    let kernel = kernel.set_all(planes(["k_PLANE1", "k_PLANE2", "k_PLANE3"], types[1], k_rows, cols));
    let kernel = kernel.set_all(planes(["v_PLANE1", "v_PLANE2", "v_PLANE3"], types[2], v_rows, cols));
    let roles = ["weight", "k", "v"].into_iter().zip(types);
    let kernel = shape.add_to(kernel, cx, "dot");
    let kernel = roles.fold(kernel, |kernel, (role, dtype)| shape.weight(kernel, role, dtype));
    let x = fused_norm::matvec_x(io.norm.as_ref(), io.x);
    let kernel = kernel.read(q).read(x).write(io.y).read(k).read(v);
    let kernel = Epilogue::dense(io.bias, None).add_to(kernel);
    shape.when(fused_norm::read(io.norm.as_ref(), kernel, cx, cols, tile), StepSize::Rows)
}
