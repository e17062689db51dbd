//! A part of each head: where a matrix makes queries and, head by head, the gates of what attention makes of them.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSlice {
    /// Values of a head.
    pub head_dim: u32,
    /// The first of them that is taken.
    pub start: u32,
    /// How many are taken.
    pub len: u32,
}

impl Graph {
    /// x (rows, heads * head) -> (rows, heads * len).
    #[track_caller]
    pub fn head_slice(&mut self, x: TensorId, op: HeadSlice) -> TensorId {
        assert!(
            self.cols(x).is_multiple_of(op.head_dim) && op.start + op.len <= op.head_dim,
            "{op:?} of {}",
            self.cols(x)
        );
        let (rows, cols) = (self.tensor(x).rows, self.cols(x) / op.head_dim * op.len);
        self.node(Op::HeadSlice(op), vec![x], "head_slice", rows, cols)
    }
}

impl HeadSlice {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let heads = cx.cols(0) / self.head_dim;
        let consts = [("HEADS", heads), ("HEAD", self.head_dim), ("FIRST", self.start), ("LEN", self.len)];
        let consts = consts.map(|(name, n)| (name, Const::U32(n))).into();
        let source = ShaderSource { file: "head_slice", imports: vec![], consts };
        let bindings = vec![Binding::read(cx.input(0)), Binding::write(cx.output(0))];
        let grid = [GridDim::ceil(heads * self.len, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
        vec![Kernel::new(source, bindings, grid)]
    }
}

/// What the op means.
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
