//! Norms: RMS and layer norm, and the fusion of a post-norm with the sums around it.

use super::op::{Access, Op, Operand, operands};
use super::{Graph, Rows, TensorId};

/// Root-mean-square norm (arXiv 1910.07467) over segments of a row: `y = x / sqrt(mean(x^2) + eps) * weight`. A segment
/// is the whole row, or one head when the weight is as long as a head (Qwen3's q and k norms).
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// Added to the mean of squares.
    pub eps: f32,
}

operands! {
    /// The operands of [`RmsNorm`].
    RmsNormOperands {
        read {
            /// (rows, d)
            x: TensorId,
            /// (d), or as many values as a segment has.
            weight: TensorId,
        }
        write {
            /// (rows, d)
            y: TensorId,
        }
    }
}

/// Layer norm (arXiv 1607.06450) over rows: `y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

operands! {
    /// The operands of [`LayerNorm`].
    LayerNormOperands {
        read {
            /// (rows, d)
            x: TensorId,
            /// (d)
            weight: TensorId,
            /// (d)
            bias: TensorId,
        }
        write {
            /// (rows, d)
            y: TensorId,
        }
    }
}

/// A post-norm, the residual sum that follows, and the norm of that sum if it comes next (Gemma 2 and 3 have both, OLMo
/// 2 the first): `y = residual + norm(x)`, `z = norm(y)`. Made by fusion only.
#[derive(Clone, Debug, PartialEq)]
pub struct NormAdd {
    /// Added to the mean of squares of x.
    pub eps: f32,
}

operands! {
    /// The operands of [`NormAdd`].
    NormAddOperands {
        read {
            /// (rows, d)
            x: TensorId,
            /// Of the norm of x: (d).
            weight: TensorId,
            /// (rows, d)
            residual: TensorId,
        }
        write {
            /// (rows, d)
            y: TensorId,
            /// The norm of y.
            next: Option<NextNorm>,
        }
    }
}

/// The norm after a [`NormAdd`].
#[derive(Clone, Debug, PartialEq)]
pub struct NextNorm {
    /// Added to the mean of squares.
    pub eps: f32,
    /// (d)
    pub weight: TensorId,
    /// Its output: (rows, d).
    pub z: TensorId,
}

impl Operand for NextNorm {
    fn visit(&self, _: Access, f: &mut dyn FnMut(TensorId, Access)) {
        f(self.weight, Access::Read);
        f(self.z, Access::Write);
    }
}

/// An RMS norm of whole rows that the ops around it compute when rows are few, so that it costs no dispatch: the linear
/// before it ([`LinearOperands::next_norm`](super::LinearOperands)) also writes its rows times the norm's weight, and
/// partial sums of their squares; the op that reads the normed rows multiplies its products by the remaining factor,
/// one per row. Many rows are normed by a separate kernel. This struct belongs to the op that reads the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedNorm {
    /// Added to the mean of squares.
    pub eps: f32,
    /// Columns of the weight of the linear before, which decide how many partial sums a row has.
    pub source_cols: u32,
    /// The norm's weight: (d).
    pub weight: TensorId,
    /// Rows times the weight: (decode rows, d).
    pub scaled: TensorId,
    /// Partial sums of squares: (decode rows, parts).
    pub squares: TensorId,
    /// Scratch: the normed rows when they are many.
    pub normed: TensorId,
}

impl Operand for FusedNorm {
    fn visit(&self, _: Access, f: &mut dyn FnMut(TensorId, Access)) {
        [self.weight, self.scaled, self.squares].into_iter().for_each(|id| f(id, Access::Read));
        f(self.normed, Access::Write);
    }
}

operands! {
    /// The operands of a linear for the [`FusedNorm`] that follows.
    NextFusedNorm {
        read {
            /// The norm's weight: (d).
            weight: TensorId,
        }
        write {
            /// Rows times the weight: (decode rows, d).
            scaled: TensorId,
            /// Partial sums of squares: (decode rows, parts).
            squares: TensorId,
        }
    }
}

impl NextFusedNorm {
    /// Of rows of `cols` values.
    pub fn new(graph: &mut Graph, weight: TensorId, cols: u32) -> Self {
        // A workgroup of a matvec has at least one row of the weight, so there are at most `cols` partial sums.
        let [scaled, squares] = ["scaled", "squares"].map(|name| graph.activation(name, Rows::Decode, cols));
        NextFusedNorm { weight, scaled, squares }
    }
}

impl Graph {
    /// (rows, d) -> (rows, d); `weight` has d values, or as many as a segment.
    #[track_caller]
    pub fn rms_norm(&mut self, x: TensorId, weight: TensorId, eps: f32) -> TensorId {
        let (cols, width) = (self.cols(x), self.cols(weight));
        assert!(cols % width == 0 && width % 4 == 0, "a norm of {width} values over rows of {cols}");
        let y = self.activation(self.stem(weight), self.step_or_logits(x), cols);
        self.nodes.push(Op::RmsNorm(RmsNorm { eps }, RmsNormOperands { x, weight, y }));
        y
    }

    /// x (rows, d), weight (d) and bias (d) -> (rows, d).
    #[track_caller]
    pub fn layer_norm(&mut self, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> TensorId {
        let cols = self.cols(x);
        let fits = cols.is_multiple_of(4) && [weight, bias].iter().all(|id| self.cols(*id) == cols);
        assert!(fits, "a norm of rows of {cols}");
        let y = self.activation(self.stem(weight), self.step_or_logits(x), cols);
        self.nodes.push(Op::LayerNorm(LayerNorm { eps }, LayerNormOperands { x, weight, bias, y }));
        y
    }

    fn step_or_logits(&self, x: TensorId) -> Rows {
        if self.tensor(x).rows == Rows::Logits { Rows::Logits } else { Rows::Step }
    }
}
