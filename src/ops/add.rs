//! Sum of two tensors of one shape.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{Add, AddOperands};

pub(super) fn kernels(op: &Add, io: &AddOperands, cx: &KernelContext) -> Vec<Kernel> {
    let cols4 = cx.cols(io.a) / 4;
    let grid = [GridDim::ceil(cols4, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
    let kernel = Kernel::new("add", grid).set("COLS4", cols4).set("SCALE", op.scale);
    vec![kernel.read(io.a).read(io.b).write(io.y)]
}

/// The op's reference, value by value.
pub fn reference(a: &[f32], b: &[f32], scale: f32) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + scale * b).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_added() {
        assert_eq!(super::reference(&[1.0, -2.0], &[0.5, 4.0], 2.0), [2.0, 6.0]);
    }
}
