//! Sum of two tensors of one shape: `y = a + scale * b`.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// Multiplier of b (Granite scales what a block adds).
    pub scale: f32,
}

impl Graph {
    /// (rows, n) + (rows, n).
    #[track_caller]
    pub fn sum(&mut self, a: TensorId, b: TensorId) -> TensorId {
        self.scaled_sum(a, b, 1.0)
    }

    /// (rows, n) + scale * (rows, n).
    #[track_caller]
    pub fn scaled_sum(&mut self, a: TensorId, b: TensorId, scale: f32) -> TensorId {
        crate::graph::same("columns of a sum", self.cols(a), self.cols(b));
        let (rows, cols) = (self.tensor(a).rows, self.cols(a));
        assert!(cols % 4 == 0, "a sum of rows of {cols}");
        self.node(Op::Add(Add { scale }), vec![a, b], "add", rows, cols)
    }
}

impl Add {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let cols4 = cx.cols(0) / 4;
        let consts = vec![("COLS4", Const::U32(cols4)), ("SCALE", Const::F32(self.scale))];
        let source = ShaderSource { file: "add", imports: vec![], consts };
        let bindings = vec![Binding::read(cx.input(0)), Binding::read(cx.input(1)), Binding::write(cx.output(0))];
        vec![Kernel::new(
            source,
            bindings,
            [GridDim::ceil(cols4, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)],
        )]
    }
}

/// What the op means, value by value.
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
