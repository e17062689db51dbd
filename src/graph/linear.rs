//! Rows times matrices of any weight type.

use super::elementwise::Activation;
use super::norm::{FusedNorm, NextFusedNorm};
use super::op::{Op, operands};
use super::{Graph, Rows, TensorId, assert_same};

/// `y[row, n] = sum_k weight[n, k] * x[row, k] (+ bias[n]) (+ residual[row, n])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear;

operands! {
    /// The operands of [`Linear`].
    LinearOperands {
        read {
            /// (rows, k)
            x: TensorId,
            /// (n, k)
            weight: TensorId,
            /// (n)
            bias: Option<TensorId>,
            /// (rows, n)
            residual: Option<TensorId>,
        }
        write {
            /// (rows, n)
            y: TensorId,
            /// For the norm that follows, if it is fused.
            next_norm: Option<NextFusedNorm>,
        }
    }
}

/// The gated pair of a feed-forward network: `y = activation(x gate^T, x up^T)`. Made by fusion only.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearGlu {
    /// The function of the gate.
    pub activation: Activation,
}

operands! {
    /// The operands of [`LinearGlu`].
    LinearGluOperands {
        read {
            /// (rows, k)
            x: TensorId,
            /// (n, k)
            gate: TensorId,
            /// (n, k)
            up: TensorId,
        }
        write {
            /// (rows, n)
            y: TensorId,
            /// Scratch for many rows: the products with gate and up.
            products: [TensorId; 2],
            /// A norm of x that comes first.
            norm: Option<FusedNorm>,
        }
    }
}

/// Queries, keys and values side by side: three linears of one x. Made by fusion only.
#[derive(Clone, Debug, PartialEq)]
pub struct Qkv;

operands! {
    /// The operands of [`Qkv`].
    QkvOperands {
        read {
            /// (rows, k)
            x: TensorId,
            /// Of queries, keys and values: (n, k) each.
            weights: [TensorId; 3],
            /// Their biases, concatenated.
            bias: Option<TensorId>,
        }
        write {
            /// (rows, all n)
            y: TensorId,
            /// A norm of x that comes first.
            norm: Option<FusedNorm>,
        }
    }
}

impl Graph {
    /// x (rows, k), weight (n, k) -> (rows, n).
    #[track_caller]
    pub fn linear(&mut self, x: TensorId, weight: TensorId, bias: Option<TensorId>) -> TensorId {
        assert_same("columns of x and weight", self.cols(x), self.cols(weight));
        assert!(self.cols(x).is_multiple_of(4), "rows of {}", self.cols(x));
        let n = self.fixed_rows(weight);
        if let Some(bias) = bias {
            assert_same("bias and rows of weight", self.cols(bias), n);
        }
        let y = self.activation(self.stem(weight), self.tensor(x).rows, n);
        let operands = LinearOperands { x, weight, bias, residual: None, y, next_norm: None };
        self.nodes.push(Op::Linear(Linear, operands));
        y
    }
}

impl LinearGluOperands {
    /// Of two matrices (n, k), into `y` (rows, n).
    pub fn new(graph: &mut Graph, x: TensorId, [gate, up]: [TensorId; 2], y: TensorId) -> Self {
        let n = graph.fixed_rows(gate);
        let products = ["gate", "up"].map(|name| graph.activation(name, Rows::Step, n));
        LinearGluOperands { x, gate, up, y, products, norm: None }
    }
}
