//! The rows of the step that want logits.

use super::{Binding, Choice, Extent, Kernel, Op, Size};
use crate::graph::{Graph, Input, Rows, TensorId};
use crate::shader::{Const, Source};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather;

impl Graph {
    /// (rows, d) -> (logit rows, d).
    #[track_caller]
    pub fn gather(&mut self, x: TensorId) -> TensorId {
        let (rows, cols) = (self.input(Input::LogitRows), self.cols(x));
        assert!(cols % 4 == 0, "rows of {cols}");
        self.node(Op::Gather(Gather), vec![rows, x], "gather", Rows::Logits, cols)
    }
}

impl Gather {
    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let cols4 = cx.cols(1) / 4;
        let source = Source { file: "gather", imports: vec![], consts: vec![("COLS4", Const::U32(cols4))] };
        let bindings = vec![Binding::read(cx.input(0)), Binding::read(cx.input(1)), Binding::write(cx.output(0))];
        vec![Kernel::new(source, bindings, [Extent::ceil(cols4, 64), Extent::each(Size::Logits), Extent::fixed(1)])]
    }
}
