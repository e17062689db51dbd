//! The KV cache as kernels see it: types, pages, and the largest step that buffers are made for.

/// Positions in a page of the KV cache.
pub const PAGE: u32 = 32;
/// Most rows that a step of several sequences may have to be a decode; see [`Capacity::decode_rows`].
pub const DECODE_ROWS: u32 = 8;
/// Positions that a sequence can be rolled back at any time: as many as steps may be queued ahead of a token that turns
/// out to be the last.
pub const MAX_ROLLBACK: u32 = 64;

/// How the KV cache is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvType {
    /// Two f16 in a word.
    F16,
    /// Blocks of 32 int8 quants with an f16 scale, within a head.
    Q8_0,
    /// One f32 in a word; for tests.
    F32,
}

impl KvType {
    /// All of them.
    pub const ALL: [KvType; 3] = [KvType::F16, KvType::Q8_0, KvType::F32];

    /// The name in options.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
            KvType::F32 => "f32",
        }
    }

    /// The type of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        KvType::ALL.into_iter().find(|kv| kv.name() == name)
    }

    /// Whether heads of `head_dim` values can be stored: a block does not cross the end of a head.
    pub fn takes(self, head_dim: u32) -> bool {
        self != KvType::Q8_0 || head_dim.is_multiple_of(32)
    }

    /// Bytes of the keys, or of the values, of one position of one layer. Two blocks share a word of scales, and a head
    /// begins with a new one.
    pub fn bytes(self, heads: u32, head_dim: u32) -> u64 {
        let (heads, head_dim) = (u64::from(heads), u64::from(head_dim));
        match self {
            KvType::F16 => heads * head_dim * 2,
            KvType::Q8_0 => heads * (head_dim + 4 * head_dim.div_ceil(64)),
            KvType::F32 => heads * head_dim * 4,
        }
    }

    pub(super) fn shader(self) -> &'static str {
        match self {
            KvType::F16 => "kv/f16",
            KvType::Q8_0 => "kv/q8_0",
            KvType::F32 => "kv/f32",
        }
    }
}

/// The largest step that buffers are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows of a step (a prefill chunk).
    pub rows: u32,
    /// Rows of a step that have logits.
    pub logits: u32,
    /// Sequences.
    pub sequences: u32,
    /// Output slots, each with sampling parameters, counts and the token that was last sampled.
    pub outputs: u32,
    /// Embedding slots: vectors that rows can take as their input.
    pub embeddings: u32,
    /// Pages of the KV cache, over all sequences.
    pub pages: u32,
    /// Pages that one sequence may have.
    pub pages_per_sequence: u32,
    /// The pages of sliding-window layers, if they have their own.
    pub sliding: Option<SlidingPages>,
    /// How the KV cache is stored.
    pub kv: KvType,
}

/// The pages of layers with sliding windows or chunks. A sequence frees those that none of its queries will see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingPages {
    /// Positions that a query sees at most, including its own.
    pub window: u32,
    /// Pages, over all sequences.
    pub pages: u32,
}

impl SlidingPages {
    /// Pages of a sequence whose steps have up to `rows` rows: those that a step and [`MAX_ROLLBACK`] positions before
    /// it see, and those kept at the end of a prompt.
    pub fn pages_per_sequence(window: u32, rows: u32) -> u32 {
        let touched = |positions: u32| positions.div_ceil(PAGE) + 1;
        touched(window.saturating_add(MAX_ROLLBACK + rows)) + touched(window)
    }
}

impl Capacity {
    /// Up to this many rows a step is a decode: matvecs and split-K attention; above, tiled kernels. One sequence alone
    /// decodes one row at a time, and the kernels for a few rows need not be built.
    pub fn decode_rows(&self) -> u32 {
        if self.sequences > 1 { DECODE_ROWS } else { 1 }
    }

    /// Slots for recurrent states: two for each sequence, of which one is written while the other may be kept.
    pub fn state_slots(&self) -> u32 {
        2 * self.sequences
    }
}
