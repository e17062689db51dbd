//! Two parts of each head side by side: what latent attention (MLA) makes its queries and keys of.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadConcat {
    /// Heads.
    pub heads: u32,
}

impl Graph {
    /// a (rows, heads * m) and b (rows, heads * n) -> (rows, heads * (m + n)).
    #[track_caller]
    pub fn head_concat(&mut self, a: TensorId, b: TensorId, op: HeadConcat) -> TensorId {
        let (m, n) = (self.cols(a), self.cols(b));
        assert!(m.is_multiple_of(op.heads) && n.is_multiple_of(op.heads), "{op:?} of {m} and {n}");
        let rows = self.tensor(a).rows;
        self.node(Op::HeadConcat(op), vec![a, b], "head_concat", rows, m + n)
    }
}

impl HeadConcat {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let consts = [("HEADS", self.heads), ("A", cx.cols(0) / self.heads), ("B", cx.cols(1) / self.heads)];
        let consts = consts.map(|(name, n)| (name, Const::U32(n))).into();
        let source = ShaderSource { file: "head_concat", imports: vec![], consts };
        let bindings = vec![Binding::read(cx.input(0)), Binding::read(cx.input(1)), Binding::write(cx.output(0))];
        let grid = [GridDim::ceil(cx.cols(0) + cx.cols(1), 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
        vec![Kernel::new(source, bindings, grid)]
    }
}

/// What the op means, for heads of `m` and of `n` values.
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
