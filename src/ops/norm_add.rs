//! A post-norm, the residual sum, and the next norm, in one dispatch.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{NormAdd, NormAddOperands};

pub(super) fn kernels(op: &NormAdd, io: &NormAddOperands, cx: &KernelContext) -> Vec<Kernel> {
    let width4 = cx.cols(io.x) / 4;
    let wg = cx.lanes(width4);
    let kernel = Kernel::new("norm_add", [GridDim::fixed(1), GridDim::each(StepSize::Rows), GridDim::fixed(1)]);
    let kernel = cx.reduce(kernel, wg, wg).set("WIDTH4", width4).set("EPS", op.eps);
    let kernel = kernel.read(io.x).read(io.weight).read(io.residual).write(io.y);
    vec![match &io.next {
        Some(next) => {
            let kernel = kernel.import("next_norm", "norm/next/rms").set("NEXT_EPS", next.eps);
            kernel.read(next.weight).write(next.z)
        }
        None => kernel,
    }]
}
