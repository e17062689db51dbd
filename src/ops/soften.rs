//! Logits scaled and kept within bounds: `y = cap * tanh(scale * x / cap)`, or without a cap `y = scale * x`
//! (Gemma 2's cap, Granite's divisor).

use super::{Binding, Choice, Extent, Kernel, Op, Size};
use crate::graph::{Graph, Rows, TensorId};
use crate::shader::{Const, Source};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Soften {
    /// Multiplier.
    pub scale: f32,
    /// Bound of what comes out.
    pub cap: Option<f32>,
}

impl Graph {
    /// (logit rows, n) -> (logit rows, n).
    pub fn soften(&mut self, x: TensorId, op: Soften) -> TensorId {
        let cols = self.cols(x);
        self.node(Op::Soften(op), vec![x], "soften", Rows::Logits, cols)
    }
}

impl Soften {
    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let cols = cx.cols(0);
        let mut consts = vec![("COLS", Const::U32(cols)), ("SCALE", Const::F32(self.scale))];
        consts.extend(self.cap.map(|cap| ("CAP", Const::F32(cap))));
        let cap = if self.cap.is_some() { "cap/tanh" } else { "cap/none" };
        let source = Source { file: "soften", imports: vec![("cap", cap)], consts };
        let bindings = vec![Binding::read(cx.input(0)), Binding::write(cx.output(0))];
        vec![Kernel::new(source, bindings, [Extent::ceil(cols, 64), Extent::each(Size::Logits), Extent::fixed(1)])]
    }
}

/// What the op means, value by value.
pub fn reference(x: &[f32], op: &Soften) -> Vec<f32> {
    let one = |x: &f32| {
        let x = x * op.scale;
        op.cap.map_or(x, |cap| cap * (x / cap).tanh())
    };
    x.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_scaled_and_bounded() {
        assert_eq!(reference(&[1.0, -6.0], &Soften { scale: 0.5, cap: None }), [0.5, -3.0]);
        // tanh(ln 3) = 4/5.
        let y = reference(&[2.0 * 3f32.ln(), 1e9], &Soften { scale: 1.5, cap: Some(3.0) });
        assert!((y[0] - 2.4).abs() < 1e-6 && y[1] == 3.0, "{y:?}");
    }
}
