//! Gated activation.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{Activation, Glu, GluOperands, Rows};

impl Activation {
    /// Its value.
    pub fn gated(self, gate: f32, up: f32) -> f32 {
        let swish = |x: f64, slope: f64| x / (1.0 + (-slope * x).exp());
        let (gate, up) = (f64::from(gate), f64::from(up));
        let y = match self {
            Activation::Silu => swish(gate, 1.0) * up,
            Activation::Gelu => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044715 * gate.powi(3));
                0.5 * gate * (1.0 + inner.tanh()) * up
            }
            Activation::Sigmoid => up / (1.0 + (-gate).exp()),
            Activation::Product => gate * up,
            Activation::Clamped => swish(gate.min(7.0), 1.702) * (up.clamp(-7.0, 7.0) + 1.0),
        };
        y as f32
    }

    pub(super) fn shader(self) -> &'static str {
        match self {
            Activation::Silu => "activation/silu",
            Activation::Gelu => "activation/gelu",
            Activation::Sigmoid => "activation/sigmoid",
            Activation::Product => "activation/product",
            Activation::Clamped => "activation/clamped",
        }
    }
}

pub(super) fn kernels(op: &Glu, io: &GluOperands, cx: &KernelContext) -> Vec<Kernel> {
    let rows = match cx.graph.tensor(io.gate).rows {
        Rows::Routed(used) => GridDim { times: used, ..GridDim::each(StepSize::Rows) },
        _ => GridDim::each(StepSize::Rows),
    };
    vec![kernel(op, io, cx, rows)]
}

/// The kernel for `rows` rows.
pub(super) fn kernel(op: &Glu, io: &GluOperands, cx: &KernelContext, rows: GridDim) -> Kernel {
    let cols = cx.cols(io.y);
    let stride = |id| if cx.graph.tensor(id).rows == Rows::Fixed(1) { 0 } else { cx.cols(id) };
    Kernel::new("glu", [GridDim::ceil(cols, 64), rows, GridDim::fixed(1)])
        .import("activation", op.activation.shader())
        .set("COLS", cols)
        .set("GATES", cx.cols(io.gate))
        .set("GATE_STRIDE", stride(io.gate))
        .set("UPS", cx.cols(io.up))
        .set("UP_STRIDE", stride(io.up))
        .read(io.gate)
        .read(io.up)
        .write(io.y)
}

/// The op's reference, value by value; where there are fewer of one, each is for as many of the other.
pub fn reference(gate: &[f32], up: &[f32], activation: Activation) -> Vec<f32> {
    let len = gate.len().max(up.len());
    (0..len).map(|i| activation.gated(gate[i * gate.len() / len], up[i * up.len() / len])).collect()
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

    #[test]
    fn one_gate_for_a_row_or_for_all() {
        assert_eq!(reference(&[2.0, 4.0], &[0.5], Activation::Product), [1.0, 2.0]);
        assert_eq!(reference(&[0.5], &[2.0, 4.0, 6.0, 8.0], Activation::Product), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(reference(&[0.0, -200.0], &[2.0, 4.0, 6.0, 8.0], Activation::Sigmoid), [1.0, 2.0, 0.0, 0.0]);
        assert_eq!(reference(&[3.0, 0.5], &[2.0, 4.0, 6.0, 8.0], Activation::Product), [6.0, 12.0, 3.0, 4.0]);
    }

    #[test]
    fn gelu_and_the_clamped_gate() {
        let close = |got: f32, want: f32| assert!((got - want).abs() < 1e-5, "{got} is not {want}");
        // The approximation's own value at 1; far out it is x and 0.
        close(Activation::Gelu.gated(1.0, 2.0), 2.0 * 0.841192);
        close(Activation::Gelu.gated(100.0, 1.0), 100.0);
        close(Activation::Gelu.gated(-100.0, 1.0), 0.0);
        // sigmoid(1.702 * 7) = 0.99999329.
        close(Activation::Clamped.gated(50.0, 50.0), 7.0 * 0.99999329 * 8.0);
        close(Activation::Clamped.gated(0.0, -50.0), 0.0);
        close(Activation::Clamped.gated(3f32.ln() / 1.702, -50.0), 3f32.ln() / 1.702 * 0.75 * -6.0);
    }
}
