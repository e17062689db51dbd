//! Ops at the ends of a graph: tokens to rows, the rows that have logits, logits to tokens.

use super::op::{Op, operands};
use super::{Graph, Rows, StepInput, TensorId, assert_same};

/// `y[row] = weight[token] * scale`, or for a row that is given as an embedding, that vector as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Embed {
    /// Multiplier of a token's vector.
    pub scale: f32,
    /// Whether rows take given embeddings; otherwise, they take the vector of token 0.
    pub takes_embeddings: bool,
}

operands! {
    /// The operands of [`Embed`].
    EmbedOperands {
        read {
            /// Row table.
            rows: TensorId,
            /// The last token of each output slot.
            sampled: TensorId,
            /// (slots, d)
            embeddings: TensorId,
            /// (vocabulary, d)
            weight: TensorId,
        }
        write {
            /// (rows, d)
            y: TensorId,
        }
    }
}

/// The rows of the step that have logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather;

operands! {
    /// The operands of [`Gather`].
    GatherOperands {
        read {
            /// Numbers of the rows.
            logit_rows: TensorId,
            /// (rows, d)
            x: TensorId,
        }
        write {
            /// (logit rows, d)
            y: TensorId,
        }
    }
}

/// Logits to a token per output row, with the parameters of the row's output slot in [`StepInput::Sampling`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sample;

operands! {
    /// The operands of [`Sample`].
    SampleOperands {
        read {
            /// Numbers of the rows that have logits.
            logit_rows: TensorId,
            /// Row table.
            rows: TensorId,
            /// Sampling parameters.
            sampling: TensorId,
            /// (logit rows, vocabulary)
            logits: TensorId,
        }
        write {
            /// The token of each output slot.
            sampled: TensorId,
            /// Occurrences of each token in what each output slot samples: (slots, vocabulary).
            counts: TensorId,
            /// Scratch: the best token of each group of the vocabulary.
            groups: TensorId,
            /// Scratch: the tokens that filters may keep.
            candidates: TensorId,
        }
    }
}

/// Most tokens that are left once any filter is on.
pub const CANDIDATES: u32 = 1024;
/// Tokens that one thread of the sampler's scan looks at, as in `shaders/lib/sampling.wgsl`.
pub(crate) const SCAN_GROUP: u32 = 32;
/// Threads of its workgroups.
pub(crate) const SCAN_LANES: u32 = 64;

/// Groups of tokens of a vocabulary, rounded up to whole workgroups of the scan.
pub(crate) fn scan_groups(vocab: u32) -> u32 {
    vocab.div_ceil(SCAN_GROUP * SCAN_LANES) * SCAN_LANES
}

impl Graph {
    /// The first layer's input for the step's rows, the vectors of tokens or given embeddings:
    /// (vocabulary, d) -> (rows, d).
    pub fn embed(&mut self, weight: TensorId, scale: f32) -> TensorId {
        self.push_embed(weight, Embed { scale, takes_embeddings: true })
    }

    /// Vectors of the step's tokens from a further table: (vocabulary, d) -> (rows, d). A row that is given as an
    /// embedding has that of token 0.
    pub fn embed_tokens(&mut self, weight: TensorId, scale: f32) -> TensorId {
        self.push_embed(weight, Embed { scale, takes_embeddings: false })
    }

    fn push_embed(&mut self, weight: TensorId, op: Embed) -> TensorId {
        let (rows, sampled) = (self.input(StepInput::Rows), self.input(StepInput::Sampled));
        let cols = self.cols(weight);
        let embeddings = self.input_of_width(StepInput::Embeddings, cols);
        assert!(!op.takes_embeddings || self.cols(embeddings) == cols, "the first table has the embeddings' width");
        let y = self.activation("embed", Rows::Step, cols);
        self.nodes.push(Op::Embed(op, EmbedOperands { rows, sampled, embeddings, weight, y }));
        y
    }

    /// (rows, d) -> (logit rows, d).
    #[track_caller]
    pub fn gather(&mut self, x: TensorId) -> TensorId {
        let (logit_rows, cols) = (self.input(StepInput::LogitRows), self.cols(x));
        assert!(cols % 4 == 0, "rows of {cols}");
        let y = self.activation("gather", Rows::Logits, cols);
        self.nodes.push(Op::Gather(Gather, GatherOperands { logit_rows, x, y }));
        y
    }

    /// logits (logit rows, vocabulary) -> a token for each row, at the row's output slot in [`StepInput::Sampled`].
    /// Also counts it in [`StepInput::Counts`]. Runs in steps whose sizes say `sampled`; `filtered` must be 1 if some
    /// row has a filter.
    #[track_caller]
    pub fn sample(&mut self, logits: TensorId) -> TensorId {
        assert!(self.tensor(logits).rows == Rows::Logits, "{} are no logits", self.tensor(logits).name);
        let vocab = self.cols(logits);
        let counts = self.input_of_width(StepInput::Counts, vocab);
        assert_same("columns of counts and logits", self.cols(counts), vocab);
        let groups = self.activation("groups", Rows::Logits, 4 * scan_groups(vocab));
        let candidates = self.activation("candidates", Rows::Logits, 2 * (CANDIDATES + 1));
        let sampled = self.input(StepInput::Sampled);
        let [logit_rows, rows, sampling] =
            [StepInput::LogitRows, StepInput::Rows, StepInput::Sampling].map(|input| self.input(input));
        let operands = SampleOperands { logit_rows, rows, sampling, logits, sampled, counts, groups, candidates };
        self.nodes.push(Op::Sample(Sample, operands));
        sampled
    }
}
