//! Two tensors concatenated head by head.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{HeadConcat, HeadConcatOperands};

pub(super) fn kernels(op: &HeadConcat, io: &HeadConcatOperands, cx: &KernelContext) -> Vec<Kernel> {
    let [a, b] = [io.a, io.b].map(|id| cx.cols(id));
    let grid = [GridDim::ceil(a + b, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
    let kernel = Kernel::new("head_concat", grid).set("HEADS", op.heads).set("A", a / op.heads).set("B", b / op.heads);
    vec![kernel.read(io.a).read(io.b).write(io.y)]
}

/// The op's reference, for heads of `m` and of `n` values.
pub fn reference(a: &[f32], b: &[f32], (m, n): (usize, usize)) -> Vec<f32> {
    a.chunks_exact(m).zip(b.chunks_exact(n)).flat_map(|(a, b)| [a, b].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_side_by_side_in_each_head() {
        assert_eq!(reference(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0], (2, 1)), [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
    }
}
