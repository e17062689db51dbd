//! Gated activation: `y = activation(gate) * up` (arXiv 2002.05202).

use super::{Binding, Choice, Extent, Kernel, Op, Size};
use crate::graph::{Graph, Rows, TensorId};
use crate::shader::{Const, Source};

/// The function of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
}

impl Activation {
    /// Its value.
    pub fn of(self, x: f32) -> f32 {
        match self {
            Activation::Silu => (f64::from(x) / (1.0 + f64::from(-x).exp())) as f32,
        }
    }

    /// Its WGSL file.
    pub fn shader(self) -> &'static str {
        match self {
            Activation::Silu => "activation/silu",
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Glu {
    /// The function of the gate.
    pub activation: Activation,
}

impl Graph {
    /// gate and up (rows, n) -> (rows, n).
    #[track_caller]
    pub fn glu(&mut self, gate: TensorId, up: TensorId, activation: Activation) -> TensorId {
        crate::graph::same("columns of gate and up", self.cols(gate), self.cols(up));
        let (rows, cols) = (self.tensor(gate).rows, self.cols(gate));
        self.node(Op::Glu(Glu { activation }), vec![gate, up], "glu", rows, cols)
    }
}

impl Glu {
    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let rows = match cx.graph.tensor(cx.input(0)).rows {
            Rows::Slots(k) => Extent { size: Size::Rows, times: k, per: 1, plus: 0 },
            _ => Extent::each(Size::Rows),
        };
        vec![kernel(self.activation, cx.input(0), cx.input(1), cx.output(0), cx.cols(0), rows)]
    }
}

/// The kernel for `rows` rows of `cols`.
pub(super) fn kernel(
    activation: Activation,
    gate: TensorId,
    up: TensorId,
    y: TensorId,
    cols: u32,
    rows: Extent,
) -> Kernel {
    let consts = vec![("COLS", Const::U32(cols))];
    let source = Source { file: "glu", imports: vec![("activation", activation.shader())], consts };
    let bindings = vec![Binding::read(gate), Binding::read(up), Binding::write(y)];
    Kernel::new(source, bindings, [Extent::ceil(cols, 64), rows, Extent::fixed(1)])
}

/// What the op means, value by value.
pub fn reference(gate: &[f32], up: &[f32], activation: Activation) -> Vec<f32> {
    gate.iter().zip(up).map(|(gate, up)| activation.of(*gate) * up).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_activated_and_multiplied() {
        // sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4.
        let ln3 = 3f32.ln();
        let y = reference(&[0.0, ln3, -ln3, 200.0, -200.0], &[5.0, 4.0, 4.0, 2.0, 2.0], Activation::Silu);
        for (got, want) in y.iter().zip([0.0, 3.0 * ln3, -ln3, 400.0, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{y:?}");
        }
    }
}
