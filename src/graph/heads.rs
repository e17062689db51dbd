//! Ops on the heads of rows: slices of them, pairs of them, a matrix for each.

use super::op::{Op, operands};
use super::{Graph, TensorId, TensorKind, assert_same};

/// A slice of each head, where one matrix makes queries and, head by head, the gates of attention's output.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSlice {
    /// Values of a head.
    pub head_dim: u32,
    /// The first value of the slice.
    pub start: u32,
    /// Its length.
    pub len: u32,
}

operands! {
    /// The operands of [`HeadSlice`].
    HeadSliceOperands {
        read {
            /// (rows, heads * head_dim)
            x: TensorId,
        }
        write {
            /// (rows, heads * len)
            y: TensorId,
        }
    }
}

/// Two tensors concatenated head by head: the latent and the rotated part of queries and keys in MLA.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadConcat {
    /// Heads.
    pub heads: u32,
}

operands! {
    /// The operands of [`HeadConcat`].
    HeadConcatOperands {
        read {
            /// (rows, heads * m)
            a: TensorId,
            /// (rows, heads * n)
            b: TensorId,
        }
        write {
            /// (rows, heads * (m + n))
            y: TensorId,
        }
    }
}

/// Each head times its own matrix: `y[row, head, n] = sum_k weight[head, n, k] * x[row, head, k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadLinear {
    /// Heads, more than one.
    pub heads: u32,
}

operands! {
    /// The operands of [`HeadLinear`].
    HeadLinearOperands {
        read {
            /// (rows, heads * k)
            x: TensorId,
            /// A stack of a matrix (n, k) for each head.
            weight: TensorId,
        }
        write {
            /// (rows, heads * n)
            y: TensorId,
        }
    }
}

impl Graph {
    /// x (rows, heads * head_dim) -> (rows, heads * len).
    #[track_caller]
    pub fn head_slice(&mut self, x: TensorId, op: HeadSlice) -> TensorId {
        let (rows, cols) = (self.tensor(x).rows, self.cols(x));
        assert!(cols.is_multiple_of(op.head_dim) && op.start + op.len <= op.head_dim, "{op:?} of {cols}");
        let y = self.activation("head_slice", rows, cols / op.head_dim * op.len);
        self.nodes.push(Op::HeadSlice(op, HeadSliceOperands { x, y }));
        y
    }

    /// a (rows, heads * m) and b (rows, heads * n) -> (rows, heads * (m + n)).
    #[track_caller]
    pub fn head_concat(&mut self, a: TensorId, b: TensorId, op: HeadConcat) -> TensorId {
        let (m, n) = (self.cols(a), self.cols(b));
        assert!(m.is_multiple_of(op.heads) && n.is_multiple_of(op.heads), "{op:?} of {m} and {n}");
        let y = self.activation("head_concat", self.tensor(a).rows, m + n);
        self.nodes.push(Op::HeadConcat(op, HeadConcatOperands { a, b, y }));
        y
    }

    /// x (rows, heads * k), a stack of `heads` matrices (n, k) -> (rows, heads * n).
    #[track_caller]
    pub fn head_linear(&mut self, x: TensorId, weight: TensorId) -> TensorId {
        let TensorKind::Weight { experts: heads, .. } = self.tensor(weight).kind else { panic!("no weight") };
        assert_same("columns of x and weight", self.cols(x), heads * self.cols(weight));
        assert!(heads > 1 && self.cols(weight).is_multiple_of(4), "{heads} heads of {}", self.cols(weight));
        let y = self.activation(self.stem(weight), self.tensor(x).rows, self.fixed_rows(weight));
        self.nodes.push(Op::HeadLinear(HeadLinear { heads }, HeadLinearOperands { x, weight, y }));
        y
    }
}
