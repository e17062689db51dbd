//! Ops that keep a [state](super::TensorKind::State) of each sequence.

use super::op::{Op, operands};
use super::{Graph, Rows, StepInput, TensorId, TensorKind, assert_same};

/// A short convolution along the rows of each sequence, channel by channel, then SiLU if asked for:
/// `y[row, c] = silu(sum_t weight[c, t] * x[row - kernel_size + 1 + t, c])`. The rows before a segment are in the state
/// that it begins with: the last `kernel_size - 1` rows of x.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortConv {
    /// Rows that a value depends on, including its own (d_conv).
    pub kernel_size: u32,
    /// SiLU follows.
    pub silu: bool,
}

operands! {
    /// The operands of [`ShortConv`].
    ShortConvOperands {
        read {
            /// The step's segments.
            segments: TensorId,
            /// (rows, channels)
            x: TensorId,
            /// (channels * kernel_size)
            weight: TensorId,
        }
        write {
            /// (rows, channels)
            y: TensorId,
            /// (slot, kernel_size - 1, channel)
            state: TensorId,
        }
    }
}

/// The gated delta rule (arXiv 2412.06464), attention whose memory does not grow. With the state S (keys x values) of a
/// head, for each row: `S *= decay; S += k (beta (v - S^T k))^T; y = S^T q`, where q and k are scaled to length 1, q is
/// then divided by the root of its size, `decay = exp(a softplus(alpha + dt))` and `beta = sigmoid(b)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeltaNet {
    /// Heads of queries and keys.
    pub key_heads: u32,
    /// Heads of values.
    pub heads: u32,
    /// Values of a head; a multiple of 4.
    pub head_dim: u32,
    /// The value heads of a key head are neighbours. Otherwise value head `h` uses key head `h % key_heads`.
    pub grouped: bool,
    /// alpha and b are one tensor (rows, 2 * heads): for each key head the b of its value heads, then their alpha.
    pub fused: bool,
    /// The file has log(-a) instead of a.
    pub log_decay: bool,
}

operands! {
    /// The operands of [`DeltaNet`].
    DeltaNetOperands {
        read {
            /// The step's segments.
            segments: TensorId,
            /// Queries, then keys, then values of all heads: (rows, (2 * key_heads + heads) * head_dim).
            x: TensorId,
            /// (rows, heads), or the same tensor as b: (rows, 2 * heads).
            alpha: TensorId,
            /// (rows, heads), or the same tensor as alpha.
            b: TensorId,
            /// a of each head, then dt of each: (2 * heads).
            rates: TensorId,
        }
        write {
            /// (rows, heads * head_dim)
            y: TensorId,
            /// (slot, head, key, value)
            state: TensorId,
        }
    }
}

impl DeltaNet {
    /// Values that each head has in the tensors of alpha and b.
    pub(crate) fn rates_per_head(self) -> u32 {
        1 + u32::from(self.fused)
    }
}

impl Graph {
    /// x (rows, channels), weight (channels * kernel_size) -> (rows, channels). `name` is the state's.
    #[track_caller]
    pub fn short_conv(&mut self, x: TensorId, weight: TensorId, name: &str, op: ShortConv) -> TensorId {
        let channels = self.cols(x);
        assert_same("weight and channels", self.cols(weight), channels * op.kernel_size);
        let state = self.state(name, (op.kernel_size - 1) * channels);
        let segments = self.input(StepInput::Segments);
        let y = self.activation("short_conv", self.tensor(x).rows, channels);
        self.nodes.push(Op::ShortConv(op, ShortConvOperands { segments, x, weight, y, state }));
        y
    }

    /// x (rows, queries then keys then values), alpha and b (rows, heads; or both the same one), rates (a of each head,
    /// then dt) -> (rows, heads * head_dim). `name` is the state's.
    #[track_caller]
    pub fn delta_net(&mut self, x: TensorId, [alpha, b, rates]: [TensorId; 3], name: &str, op: DeltaNet) -> TensorId {
        assert_same("columns of x", self.cols(x), (2 * op.key_heads + op.heads) * op.head_dim);
        assert_same("columns of alpha", self.cols(alpha), op.rates_per_head() * op.heads);
        assert_same("columns of b", self.cols(b), op.rates_per_head() * op.heads);
        assert!(op.fused == (alpha == b), "{op:?}");
        assert_same("rates", self.cols(rates), 2 * op.heads);
        let state = self.state(name, op.heads * op.head_dim * op.head_dim);
        let segments = self.input(StepInput::Segments);
        let y = self.activation("delta_net", self.tensor(x).rows, op.heads * op.head_dim);
        self.nodes.push(Op::DeltaNet(op, DeltaNetOperands { segments, x, alpha, b, rates, y, state }));
        y
    }

    fn state(&mut self, name: &str, values: u32) -> TensorId {
        self.add(name, Rows::Fixed(0), 0, TensorKind::State { values })
    }
}
