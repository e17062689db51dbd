//! Logits scaled and kept within bounds: `y = cap * tanh(scale * x / cap)`, or without a cap `y = scale * x`
//! (Gemma 2's cap, Granite's divisor).

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, Rows, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitScale {
    /// Multiplier.
    pub scale: f32,
    /// Bound of what comes out.
    pub softcap: Option<f32>,
}

impl Graph {
    /// (logit rows, n) -> (logit rows, n).
    pub fn logit_scale(&mut self, x: TensorId, op: LogitScale) -> TensorId {
        let cols = self.cols(x);
        self.node(Op::LogitScale(op), vec![x], "logit_scale", Rows::Logits, cols)
    }
}

impl LogitScale {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let cols = cx.cols(0);
        let mut consts = vec![("COLS", Const::U32(cols)), ("SCALE", Const::F32(self.scale))];
        consts.extend(self.softcap.map(|cap| ("SOFTCAP", Const::F32(cap))));
        let cap = if self.softcap.is_some() { "attention/softcap/tanh" } else { "attention/softcap/none" };
        let source = ShaderSource { file: "logit_scale", imports: vec![("softcap", cap)], consts };
        let bindings = vec![Binding::read(cx.input(0)), Binding::write(cx.output(0))];
        vec![Kernel::new(
            source,
            bindings,
            [GridDim::ceil(cols, 64), GridDim::each(StepSize::Logits), GridDim::fixed(1)],
        )]
    }
}

/// What the op means, value by value.
pub fn reference(x: &[f32], op: &LogitScale) -> Vec<f32> {
    let one = |x: &f32| {
        let x = x * op.scale;
        op.softcap.map_or(x, |cap| cap * (x / cap).tanh())
    };
    x.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_scaled_and_bounded() {
        assert_eq!(reference(&[1.0, -6.0], &LogitScale { scale: 0.5, softcap: None }), [0.5, -3.0]);
        // tanh(ln 3) = 4/5.
        let y = reference(&[2.0 * 3f32.ln(), 1e9], &LogitScale { scale: 1.5, softcap: Some(3.0) });
        assert!((y[0] - 2.4).abs() < 1e-6 && y[1] == 3.0, "{y:?}");
    }
}
