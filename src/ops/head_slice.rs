//! A slice of each head.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{HeadSlice, HeadSliceOperands};

pub(super) fn kernels(op: &HeadSlice, io: &HeadSliceOperands, cx: &KernelContext) -> Vec<Kernel> {
    let heads = cx.cols(io.x) / op.head_dim;
    let grid = [GridDim::ceil(heads * op.len, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
    let consts = [("HEADS", heads), ("HEAD_DIM", op.head_dim), ("START", op.start), ("LEN", op.len)];
    vec![Kernel::new("head_slice", grid).set_all(consts).read(io.x).write(io.y)]
}

/// The op's reference.
pub fn reference(x: &[f32], op: &HeadSlice) -> Vec<f32> {
    let part = op.start as usize..(op.start + op.len) as usize;
    x.chunks_exact(op.head_dim as usize).flat_map(|head| &head[part.clone()]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_head_the_same_part() {
        let op = HeadSlice { head_dim: 3, start: 1, len: 2 };
        assert_eq!(reference(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &op), [1.0, 2.0, 4.0, 5.0]);
    }
}
