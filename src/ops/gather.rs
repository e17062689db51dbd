//! The rows of the step that want logits.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, Rows, StepInput, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather;

impl Graph {
    /// (rows, d) -> (logit rows, d).
    #[track_caller]
    pub fn gather(&mut self, x: TensorId) -> TensorId {
        let (rows, cols) = (self.input(StepInput::LogitRows), self.cols(x));
        assert!(cols % 4 == 0, "rows of {cols}");
        self.node(Op::Gather(Gather), vec![rows, x], "gather", Rows::Logits, cols)
    }
}

impl Gather {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let cols4 = cx.cols(1) / 4;
        let source = ShaderSource { file: "gather", imports: vec![], consts: vec![("COLS4", Const::U32(cols4))] };
        let bindings = vec![Binding::read(cx.input(0)), Binding::read(cx.input(1)), Binding::write(cx.output(0))];
        vec![Kernel::new(
            source,
            bindings,
            [GridDim::ceil(cols4, 64), GridDim::each(StepSize::Logits), GridDim::fixed(1)],
        )]
    }
}

/// What the op means: x (rows, `cols`) -> the rows numbered by `logit_rows`.
pub fn reference(logit_rows: &[u32], x: &[f32], cols: usize) -> Vec<f32> {
    logit_rows.iter().flat_map(|row| &x[*row as usize * cols..][..cols]).copied().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows_come_in_the_order_asked_for() {
        assert_eq!(super::reference(&[2, 0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [5.0, 6.0, 1.0, 2.0]);
    }
}
