//! A block's norm that stands behind it, the sum that follows, and the norm of that sum where one comes next (Gemma 2 and 3
//! have both, OLMo 2 the first): `y = residual + norm(x)`, `z = norm(y)`. Only fusing makes it.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Node, TensorId};
use crate::shader::{Const, ShaderSource};

/// Inputs: x, weight, residual, the weight of the next norm if there is one. Outputs: y and, if so, z. All (rows, d).
#[derive(Clone, Debug, PartialEq)]
pub struct NormAdd {
    /// Added to the mean of squares of x.
    pub eps: f32,
    /// The same of y, if a norm comes next.
    pub next: Option<f32>,
}

impl NormAdd {
    /// A node of `y = residual + norm(x) * weight`.
    pub fn node(eps: f32, (x, weight): (TensorId, TensorId), residual: TensorId, y: TensorId) -> Node {
        Node { op: Op::NormAdd(NormAdd { eps, next: None }), inputs: vec![x, weight, residual], outputs: vec![y] }
    }

    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let width4 = cx.cols(0) / 4;
        let wg = cx.lanes(width4);
        let mut consts = cx.reduce_consts(wg, wg);
        consts.extend([("WIDTH4", Const::U32(width4)), ("EPS", Const::F32(self.eps))]);
        consts.extend(self.next.map(|eps| ("NEXT_EPS", Const::F32(eps))));
        let next = if self.next.is_some() { "norm/next/rms" } else { "norm/next/none" };
        let source = ShaderSource { file: "norm_add", imports: vec![cx.reduce(), ("next_norm", next)], consts };
        let mut bindings: Vec<_> = [0, 1, 2].map(|i| Binding::read(cx.input(i))).into();
        bindings.push(Binding::write(cx.output(0)));
        if self.next.is_some() {
            bindings.extend([Binding::read(cx.input(3)), Binding::write(cx.output(1))]);
        }
        vec![Kernel::new(source, bindings, [GridDim::fixed(1), GridDim::each(StepSize::Rows), GridDim::fixed(1)])]
    }
}
