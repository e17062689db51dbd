//! The two sides of a [`FusedNorm`]: the linear that writes scaled rows and partial sums of squares, and the op that
//! reads them.

use super::context::KernelContext;
use super::grid::StepSize;
use super::kernel::Kernel;
use super::matvec::MatvecShape;
use super::rms_norm;
use crate::graph::{FusedNorm, NextFusedNorm, RmsNorm, RmsNormOperands, TensorId};

/// Partial sums of squares that a row of `cols` values has, written by matvecs over `source_cols` columns for `tile`
/// rows.
pub(super) fn parts(cx: &KernelContext, source_cols: u32, cols: u32, tile: u32) -> u32 {
    cols.div_ceil(MatvecShape::choose(cx, source_cols, tile, &[]).rows())
}

/// Fuses the first stage of the norm that follows into a matvec, which writes partial sums `part0..` of `parts`.
pub(super) fn write(norm: &NextFusedNorm, kernel: Kernel, parts: u32, part0: u32) -> Kernel {
    let kernel = kernel.import("sum_squares", "matmul/sum_squares/partial").set_next_binding("SUM_SQUARES_AT");
    let kernel = kernel.set("PARTS", parts).set("PART0", part0);
    kernel.read(norm.weight).write(norm.scaled).write(norm.squares)
}

/// The x of a matvec: as it is, or already times the norm's weight.
pub(super) fn matvec_x(norm: Option<&FusedNorm>, x: TensorId) -> TensorId {
    norm.map_or(x, |norm| norm.scaled)
}

/// Fuses the second stage of the norm before it into a matvec for `tile` rows of `cols` values.
pub(super) fn read(norm: Option<&FusedNorm>, kernel: Kernel, cx: &KernelContext, cols: u32, tile: u32) -> Kernel {
    let Some(norm) = norm else { return kernel };
    let kernel = kernel.import("norm_scale", "matmul/norm_scale/rms").set_next_binding("SQUARES_AT");
    let kernel = kernel.set("PARTS", parts(cx, norm.source_cols, cols, tile)).set("EPS", norm.eps);
    kernel.read(norm.squares)
}

/// The x of matmuls, and the kernel that norms it, if any.
pub(super) fn matmul_x(norm: Option<&FusedNorm>, x: TensorId, cx: &KernelContext) -> (TensorId, Option<Kernel>) {
    let Some(&FusedNorm { eps, weight, normed, .. }) = norm else { return (x, None) };
    let kernel = rms_norm::kernel(&RmsNorm { eps }, &RmsNormOperands { x, weight, y: normed }, cx);
    (normed, Some(kernel.when(StepSize::Rows, cx.matvec_rows() + 1, u32::MAX)))
}
