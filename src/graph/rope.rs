//! Rotary position embedding (arXiv 2104.09864): pairs of values of each head are rotated by position * frequency.
//!
//! Sines and cosines are computed once on the CPU in f64 for position % 256 and position / 256 and joined on the GPU by
//! the addition theorem: two small tables serve any context, and no adapter's `sin` of a large angle is trusted.

use super::op::{Access, Op, Operand, operands};
use super::{Graph, Rows, StepInput, TensorId, TensorKind, assert_same};

/// Which values of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// (2i, 2i + 1): GGUF's llama family, whose q and k rows were permuted for it.
    Interleaved,
    /// (i, i + n/2), the half-split layout of GPT-NeoX: everything else.
    Neox,
}

/// Rotates heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Values of a head.
    pub head_dim: u32,
    /// How many of them rotate.
    pub rotated: u32,
    /// Which form pairs.
    pub style: RopeStyle,
}

operands! {
    /// The operands of [`Rope`].
    RopeOperands {
        read {
            /// Row table.
            rows: TensorId,
            /// See [`rope_angles`].
            angles: TensorId,
            /// (rows, heads * head_dim)
            x: TensorId,
        }
        write {
            /// The same, rotated.
            y: TensorId,
        }
    }
}

/// Everything between the projections and attention, in one kernel: norms of the heads, rotation, keys and values into
/// the cache. Reads the output of [`Qkv`](super::Qkv). Made by fusion only.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeKv {
    /// Query heads.
    pub heads: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// How queries and keys are rotated.
    pub rope: Rope,
    /// Heads of values are normed alike, without a weight.
    pub norm_values: bool,
}

operands! {
    /// The operands of [`RopeKv`].
    RopeKvOperands {
        read {
            /// Row table.
            rows: TensorId,
            /// Page tables.
            pages: TensorId,
            /// See [`rope_angles`].
            angles: TensorId,
            /// Queries, keys and values side by side.
            qkv: TensorId,
            /// The norms of queries' and keys' heads.
            head_norm: Option<HeadNorm>,
        }
        write {
            /// (rows, heads * head_dim)
            q: TensorId,
            /// The cache of keys.
            keys: TensorId,
            /// The cache of values.
            values: TensorId,
        }
    }
}

/// RMS norms of each head of queries and of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadNorm {
    /// Added to the mean of squares.
    pub eps: f32,
    /// Their weights, concatenated: (2 * head_dim).
    pub weights: TensorId,
}

impl Operand for HeadNorm {
    fn visit(&self, access: Access, f: &mut dyn FnMut(TensorId, Access)) {
        f(self.weights, access);
    }
}

/// The two tables for angles `position * frequencies[i]`, positions below `context`: (256 + ceil(context / 256),
/// frequencies) of (cos, sin); all values times `scale`.
pub fn rope_angles(frequencies: &[f64], context: u32, scale: f32) -> Vec<f32> {
    let fine = (0..256u32).map(|p| (p, 1.0));
    let coarse = (0..=context.div_ceil(256)).map(|p| (p * 256, f64::from(scale)));
    fine.chain(coarse)
        .flat_map(|(p, scale)| frequencies.iter().map(move |f| (f64::from(p) * f, scale)))
        .flat_map(|(angle, scale)| [(angle.cos() * scale) as f32, (angle.sin() * scale) as f32])
        .collect()
}

impl Graph {
    /// The angles as a tensor; see [`rope_angles`].
    pub fn rope_angles(&mut self, frequencies: &[f64], context: u32, scale: f32) -> TensorId {
        let table = rope_angles(frequencies, context, scale);
        let cols = 2 * frequencies.len() as u32;
        let rows = Rows::Fixed(table.len() as u32 / cols);
        self.add("rope.angles", rows, cols, TensorKind::Constant(table))
    }

    /// (rows, heads * head_dim) -> the same, rotated.
    #[track_caller]
    pub fn rope(&mut self, x: TensorId, angles: TensorId, op: Rope) -> TensorId {
        let cols = self.cols(x);
        let fits = cols.is_multiple_of(op.head_dim) && op.rotated <= op.head_dim && op.rotated.is_multiple_of(2);
        assert!(fits, "{op:?}");
        assert_same("frequencies and rotated pairs", self.cols(angles), op.rotated);
        let rows = self.input(StepInput::Rows);
        let y = self.activation(format!("{}.rope", self.tensor(x).name), Rows::Step, cols);
        self.nodes.push(Op::Rope(op, RopeOperands { rows, angles, x, y }));
        y
    }
}
