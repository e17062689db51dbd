//! Attention with grouped query heads (GQA), over a cache or over the rows of a step, and the op that writes the cache.

use super::op::{Access, Op, Operand, operands};
use super::{Graph, Rows, StepInput, TensorId, assert_same};

/// `y[row, head] = softmax(scale * q . k) v` over the positions of the row's sequence that its mask lets it see.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; `heads` is a multiple.
    pub kv_heads: u32,
    /// Values of a query's and a key's head.
    pub head_dim: u32,
    /// Values of a value's head. If they are fewer, values are the first elements of their keys and have no separate
    /// cache (MLA, arXiv 2405.04434).
    pub value_dim: u32,
    /// Multiplier of the scores.
    pub scale: f32,
    /// Which positions a query sees.
    pub mask: MaskKind,
    /// Scores become `softcap * tanh(score / softcap)` (Gemma 2).
    pub softcap: Option<f32>,
    /// Scores grow with the query's position (Llama 4).
    pub temperature: Option<AttentionTemperature>,
}

operands! {
    /// The operands of [`Attention`].
    AttentionOperands {
        read {
            /// Row table.
            rows: TensorId,
            /// Query tiles.
            tiles: TensorId,
            /// (rows, heads * head_dim)
            q: TensorId,
            /// Keys and values.
            kv: KeysAndValues,
            /// One more score for each query head, a weight of the model, that draws attention and has no value
            /// (gpt-oss): (heads).
            sinks: Option<TensorId>,
        }
        write {
            /// (rows, heads * value_dim)
            y: TensorId,
            /// Scratch of split-K decodes over a cache: the partial result of each split of the positions.
            partials: Option<TensorId>,
        }
    }
}

/// Where keys and values are.
#[derive(Clone, Debug, PartialEq)]
pub struct KeysAndValues {
    /// The page tables of a cache; none if keys and values are rows of the step.
    pub pages: Option<TensorId>,
    /// A cache, or (rows, kv_heads * head_dim).
    pub keys: TensorId,
    /// A cache, or (rows, kv_heads * head_dim). The same tensor as the keys if values are a part of them.
    pub values: TensorId,
}

impl Operand for KeysAndValues {
    fn visit(&self, access: Access, f: &mut dyn FnMut(TensorId, Access)) {
        self.pages.visit(access, f);
        f(self.keys, access);
        f(self.values, access);
    }
}

impl Attention {
    /// Causal attention over all positions, scaled by `1 / sqrt(head_dim)`.
    pub fn full(heads: u32, kv_heads: u32, head_dim: u32) -> Self {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let (mask, softcap, temperature) = (MaskKind::Causal, None, None);
        Attention { heads, kv_heads, head_dim, value_dim: head_dim, scale, mask, softcap, temperature }
    }
}

/// Which positions of its sequence a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    /// All up to its own.
    Causal,
    /// The last n up to its own, including it.
    SlidingWindow(u32),
    /// Those up to its own in its chunk of n positions.
    Chunked(u32),
    /// All of its sequence, as in encoders.
    Bidirectional,
    /// Those at most n positions away, on either side.
    SymmetricWindow(u32),
}

impl MaskKind {
    /// The first position that is seen from `position`.
    pub fn first(self, position: u32) -> u32 {
        match self {
            MaskKind::Causal => 0,
            MaskKind::SlidingWindow(n) => (position + 1).saturating_sub(n),
            MaskKind::Chunked(n) => position - position % n,
            MaskKind::Bidirectional => 0,
            MaskKind::SymmetricWindow(n) => position.saturating_sub(n),
        }
    }

    /// The last position that is seen from `position`, in a sequence whose last position is `end`.
    pub fn last(self, position: u32, end: u32) -> u32 {
        match self {
            MaskKind::Bidirectional => end,
            MaskKind::SymmetricWindow(n) => position.saturating_add(n).min(end),
            _ => position,
        }
    }

    /// Whether no query sees a position after its own.
    pub fn is_causal(self) -> bool {
        !matches!(self, MaskKind::Bidirectional | MaskKind::SymmetricWindow(_))
    }

    /// How many positions are seen at most, if there is a bound.
    pub fn span(self) -> Option<u32> {
        match self {
            MaskKind::Causal | MaskKind::Bidirectional => None,
            MaskKind::SlidingWindow(n) | MaskKind::Chunked(n) => Some(n),
            MaskKind::SymmetricWindow(n) => Some(n.saturating_mul(2).saturating_add(1)),
        }
    }
}

/// Attention temperature tuning: scores are multiplied by
/// `1 + attn_scale * ln(1 + floor((position + offset) / floor_scale))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionTemperature {
    /// Positions of a step.
    pub floor_scale: u32,
    /// How fast scores grow.
    pub attn_scale: f32,
    /// Added to the position: 1 where the first position counts as one.
    pub offset: u32,
}

/// The most values that a head may have: the queries of a tile, or those of four heads, fit in workgroup memory
/// together with the scores.
pub const MAX_HEAD_DIM: u32 = 576;

/// Writes the step's keys and values into the pages of the cache: (page, head, position % PAGE, head_dim). The layout
/// of a page's bytes is in `shaders/kv/<type>.wgsl`. Values that are a part of their keys are not written twice.
#[derive(Clone, Debug, PartialEq)]
pub struct KvWrite {
    /// Heads of keys and values.
    pub heads: u32,
    /// Values of a head.
    pub head_dim: u32,
}

operands! {
    /// The operands of [`KvWrite`].
    KvWriteOperands {
        read {
            /// Row table.
            rows: TensorId,
            /// Page tables.
            pages: TensorId,
            /// (rows, heads * head_dim)
            k: TensorId,
        }
        write {
            /// The cache of keys.
            keys: TensorId,
            /// Values and their cache, unless they are a part of their keys.
            values: Option<ValueWrite>,
        }
    }
}

operands! {
    /// Values that have their own cache.
    ValueWrite {
        read {
            /// (rows, heads * head_dim)
            v: TensorId,
        }
        write {
            /// The cache of values.
            cache: TensorId,
        }
    }
}

impl Graph {
    /// q (rows, heads * head_dim) -> (rows, heads * value_dim), over a cache of keys and one of values, by a causal
    /// mask. Both are the same one if values are a part of their keys.
    #[track_caller]
    pub fn attention(
        &mut self,
        q: TensorId,
        (keys, values): (TensorId, TensorId),
        sinks: Option<TensorId>,
        op: Attention,
    ) -> TensorId {
        assert!(op.mask.is_causal(), "{op:?} over a cache");
        assert!(op.value_dim == op.head_dim || (op.value_dim < op.head_dim && keys == values), "{op:?}");
        let pages = Some(self.pages(keys));
        self.attend(q, KeysAndValues { pages, keys, values }, sinks, op)
    }

    /// q (rows, heads * head_dim), k and v (rows, kv_heads * head_dim) -> (rows, heads * head_dim), without a cache, by
    /// any mask: for encoders. A step must have all rows of its sequences, from position 0 on, and its query tiles must
    /// say where their sequences are ([`StepInput::QueryTiles`]).
    #[track_caller]
    pub fn attention_over_rows(
        &mut self,
        q: TensorId,
        (k, v): (TensorId, TensorId),
        sinks: Option<TensorId>,
        op: Attention,
    ) -> TensorId {
        assert_same("columns of k", self.cols(k), op.kv_heads * op.head_dim);
        assert_same("columns of v", self.cols(v), op.kv_heads * op.value_dim);
        assert!(op.value_dim == op.head_dim, "{op:?}");
        self.attend(q, KeysAndValues { pages: None, keys: k, values: v }, sinks, op)
    }

    #[track_caller]
    fn attend(&mut self, q: TensorId, kv: KeysAndValues, sinks: Option<TensorId>, op: Attention) -> TensorId {
        assert_same("columns of q", self.cols(q), op.heads * op.head_dim);
        assert!(!matches!(op.mask, MaskKind::SlidingWindow(0) | MaskKind::Chunked(0)), "{op:?}");
        assert!(op.heads.is_multiple_of(op.kv_heads) && op.head_dim <= MAX_HEAD_DIM, "{op:?}");
        assert!(op.head_dim.is_multiple_of(4) && op.value_dim.is_multiple_of(4), "{op:?}");
        let y = self.activation("attention", Rows::Step, op.heads * op.value_dim);
        let (heads, cols) = (op.heads, op.value_dim + 4);
        let split = kv.pages.is_some();
        let partials = split.then(|| self.activation("attention_partials", Rows::KvSplits(heads), cols));
        let (rows, tiles) = (self.input(StepInput::Rows), self.input(StepInput::QueryTiles));
        self.nodes.push(Op::Attention(op, AttentionOperands { rows, tiles, q, kv, sinks, y, partials }));
        y
    }

    /// k and v (rows, heads * head_dim) go into `caches`.
    #[track_caller]
    pub fn kv_write(&mut self, k: TensorId, v: TensorId, caches: (TensorId, TensorId), op: KvWrite) {
        assert_same("columns of values", self.cols(v), op.heads * op.head_dim);
        self.write_heads(k, caches.0, Some(ValueWrite { v, cache: caches.1 }), op);
    }

    /// k (rows, heads * head_dim), whose values are a part of it, goes into `cache`.
    #[track_caller]
    pub fn k_write(&mut self, k: TensorId, cache: TensorId, op: KvWrite) {
        self.write_heads(k, cache, None, op);
    }

    #[track_caller]
    fn write_heads(&mut self, k: TensorId, keys: TensorId, values: Option<ValueWrite>, op: KvWrite) {
        assert_same("columns of keys", self.cols(k), op.heads * op.head_dim);
        assert!(op.head_dim.is_multiple_of(4), "a head of {} values", op.head_dim);
        let (rows, pages) = (self.input(StepInput::Rows), self.pages(keys));
        self.nodes.push(Op::KvWrite(op, KvWriteOperands { rows, pages, k, keys, values }));
    }
}
