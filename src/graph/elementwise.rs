//! Ops value by value: sums, gated activations, scaled logits.

use super::op::{Op, operands};
use super::{Graph, Rows, TensorId, assert_same};

/// `y = a + scale * b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// Multiplier of b (Granite scales what a block adds).
    pub scale: f32,
}

operands! {
    /// The operands of [`Add`], all of one shape.
    AddOperands {
        read {
            /// The first summand.
            a: TensorId,
            /// The second one.
            b: TensorId,
        }
        write {
            /// The sum.
            y: TensorId,
        }
    }
}

/// How a gate and a value become one (arXiv 2002.05202).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The gate's x * sigmoid(x), times up.
    Silu,
    /// The gate's GELU, in the usual tanh approximation (arXiv 1606.08415), times up.
    Gelu,
    /// The gate's sigmoid, times up.
    Sigmoid,
    /// The gate itself, times up.
    Product,
    /// gpt-oss's: gate at most 7, up within 7; the gate's x * sigmoid(1.702 x), times up + 1.
    Clamped,
}

/// `y = activation(gate, up)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Glu {
    /// What is computed.
    pub activation: Activation,
}

operands! {
    /// The operands of [`Glu`]. Either input may have one value per row, or one row for all.
    GluOperands {
        read {
            /// (rows, n)
            gate: TensorId,
            /// (rows, n)
            up: TensorId,
        }
        write {
            /// (rows, n)
            y: TensorId,
        }
    }
}

/// `y = softcap * tanh(scale * x / softcap)`, or `y = scale * x` without a softcap (Gemma 2's softcap, Granite's
/// divisor).
#[derive(Clone, Debug, PartialEq)]
pub struct LogitScale {
    /// Multiplier.
    pub scale: f32,
    /// Bound of the result.
    pub softcap: Option<f32>,
}

operands! {
    /// The operands of [`LogitScale`]: (logit rows, n).
    LogitScaleOperands {
        read {
            /// Logits.
            x: TensorId,
        }
        write {
            /// Scaled logits.
            y: TensorId,
        }
    }
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
        assert_same("columns of a sum", self.cols(a), self.cols(b));
        let (rows, cols) = (self.tensor(a).rows, self.cols(a));
        assert!(cols % 4 == 0, "a sum of rows of {cols}");
        let y = self.activation("add", rows, cols);
        self.nodes.push(Op::Add(Add { scale }, AddOperands { a, b, y }));
        y
    }

    /// gate (rows, n) and up (rows, n) -> (rows, n); either may be (rows, 1) for all values of a row, or one for all
    /// rows.
    #[track_caller]
    pub fn glu(&mut self, gate: TensorId, up: TensorId, activation: Activation) -> TensorId {
        let larger = if self.cols(up) < self.cols(gate) { gate } else { up };
        let (rows, cols) = (self.tensor(larger).rows, self.cols(larger));
        let fits = [gate, up].iter().all(|id| [1, cols].contains(&self.cols(*id)));
        assert!(fits, "{} gates for {} values", self.cols(gate), self.cols(up));
        let y = self.activation("glu", rows, cols);
        self.nodes.push(Op::Glu(Glu { activation }, GluOperands { gate, up, y }));
        y
    }

    /// (logit rows, n) -> (logit rows, n).
    pub fn logit_scale(&mut self, x: TensorId, op: LogitScale) -> TensorId {
        let y = self.activation("logit_scale", Rows::Logits, self.cols(x));
        self.nodes.push(Op::LogitScale(op, LogitScaleOperands { x, y }));
        y
    }
}
