//! A norm of whole rows that the ops around it take on when rows are few, so that it costs no dispatch.
//!
//! The linear that makes the rows also writes them times the norm's weight, and sums of their squares
//! ([`Linear::tally`](super::linear::Linear::tally)); the op that reads them multiplies its products by the one factor
//! that is left. Many rows are normed by a kernel of their own.

use super::linear::MatvecShape;
use super::rms_norm::{self, RmsNorm};
use super::{Binding, Kernel, KernelContext, StepSize};
use crate::graph::{Graph, Rows, TensorId, TensorKind};
use crate::shader::{Const, ShaderSource};

/// The norm, to the op that reads it: the last three inputs of that op are the norm's weight, the rows times it, and the
/// sums of squares; its last output is scratch for what many rows are normed to.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedNorm {
    /// Added to the mean of squares.
    pub eps: f32,
    /// Columns of the weight of the linear before: its layout says how many sums a row has.
    pub from: u32,
}

/// What the linear before writes besides: the rows times the norm's weight, and the sums.
pub fn outputs(graph: &mut Graph, cols: u32) -> [TensorId; 2] {
    // A workgroup of a matvec has at least one row of the weight.
    ["scaled", "squares"].map(|name| graph.add(name, Rows::Decode, cols, TensorKind::Activation))
}

/// Sums of squares that a row of `cols` values has, made by matvecs over `from` columns for `tile` rows.
pub(super) fn parts(cx: &KernelContext, from: u32, cols: u32, tile: u32) -> u32 {
    cols.div_ceil(MatvecShape::choose(cx, from, tile, &[]).rows())
}

/// The input of this number from the end.
fn last(cx: &KernelContext, i: usize) -> TensorId {
    cx.node.inputs[cx.node.inputs.len() - i]
}

/// What matvecs read as x: the first input, or what comes of it with a norm.
pub(super) fn few_read(norm: Option<&FusedNorm>, cx: &KernelContext) -> TensorId {
    norm.map_or(cx.input(0), |_| last(cx, 2))
}

/// Gives a matvec for `tile` rows its part of the norm.
pub(super) fn finish(
    norm: Option<&FusedNorm>,
    cx: &KernelContext,
    tile: u32,
    source: &mut ShaderSource,
    bindings: &mut Vec<Binding>,
) {
    let Some(norm) = norm else { return source.imports.push(("norm_scale", "matmul/norm_scale/none")) };
    bindings.push(Binding::read(last(cx, 1)));
    source.imports.push(("norm_scale", "matmul/norm_scale/rms"));
    source.consts.extend([
        ("SQUARES_AT", Const::U32(bindings.len() as u32)),
        ("PARTS", Const::U32(parts(cx, norm.from, cx.cols(0), tile))),
        ("EPS", Const::F32(norm.eps)),
    ]);
}

/// What matmuls read as x, and the kernel that makes it, if any.
pub(super) fn many_read(norm: Option<&FusedNorm>, cx: &KernelContext) -> (TensorId, Option<Kernel>) {
    let Some(norm) = norm else { return (cx.input(0), None) };
    let normed = cx.node.outputs[cx.node.outputs.len() - 1];
    let op = RmsNorm { eps: norm.eps, rows: StepSize::Rows };
    let kernel = rms_norm::kernel(cx, &op, (cx.input(0), last(cx, 3), normed));
    (normed, Some(kernel.when(StepSize::Rows, cx.matvec_rows() + 1, u32::MAX)))
}
