//! The graph: what a step of a model computes, as plain data. Shapes are checked while it is built.
//!
//! A model is recorded once, about ten ops per layer; `plan` turns the record into dispatches. Tensors are matrices of
//! 4-byte words, `rows x cols`, row-major; how many rows a step has is known only when it runs ([`Rows`]).
//! Each op is a struct of parameters and a struct of named operands ([`op`]). What it computes is in `ops`: no kernels
//! here, and no wgpu.

pub mod attention;
pub mod elementwise;
pub mod heads;
pub mod linear;
pub mod moe;
pub mod norm;
pub mod op;
pub mod recurrent;
pub mod rope;
pub mod rows;

use crate::dtype::DType;
pub use attention::{
    Attention, AttentionOperands, AttentionTemperature, KeysAndValues, KvWrite, KvWriteOperands, MAX_HEAD_DIM,
    MaskKind, ValueWrite,
};
pub use elementwise::{Activation, Add, AddOperands, Glu, GluOperands, LogitScale, LogitScaleOperands};
pub use heads::{HeadConcat, HeadConcatOperands, HeadLinear, HeadLinearOperands, HeadSlice, HeadSliceOperands};
pub use linear::{Linear, LinearGlu, LinearGluOperands, LinearOperands, Qkv, QkvOperands};
pub use moe::{
    EXPERT_TILE, ExpertEpilogue, ExpertLinear, ExpertLinearOperands, ExpertSort, ExpertSortOperands, ExpertSum,
    ExpertSumOperands, ExpertWeights, Router, RouterGroups, RouterOperands, RoutingWeights, Scoring,
};
pub use norm::{
    FusedNorm, LayerNorm, LayerNormOperands, NextFusedNorm, NextNorm, NormAdd, NormAddOperands, RmsNorm,
    RmsNormOperands,
};
pub(crate) use op::op_table;
pub use op::{Access, Op};
pub use recurrent::{DeltaNet, DeltaNetOperands, ShortConv, ShortConvOperands};
pub use rope::{HeadNorm, Rope, RopeKv, RopeKvOperands, RopeOperands, RopeStyle, rope_angles};
pub use rows::{CANDIDATES, Embed, EmbedOperands, Gather, GatherOperands, Sample, SampleOperands};

/// A tensor of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// How many rows a tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// A constant number.
    Fixed(u32),
    /// One for each row of the step.
    Step,
    /// This many for each row of the step: one slot for each expert that it is routed to.
    Routed(u32),
    /// Tiles of slots that share an expert: `ceil(step rows * used / tile) + experts`, which is enough for any routing.
    ExpertTiles {
        /// Experts of a row.
        used: u32,
        /// Slots of a tile, at most.
        tile: u32,
        /// Experts.
        experts: u32,
    },
    /// One for each row of the step that has logits.
    Logits,
    /// One for each row of a decode.
    Decode,
    /// Scratch of a split-K decode: this many for each row and each split of the positions.
    KvSplits(u32),
}

/// Buffers that the engine fills before, or keeps between, steps. All hold u32 words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepInput {
    /// Row table: {input, position, sequence, output slot} for each row of the step. The input is a token,
    /// [`SAMPLED_INPUT`] with an output slot, or [`EMBEDDING_INPUT`] with an embedding slot; a row without output has
    /// [`NO_OUTPUT`] as its slot.
    Rows,
    /// The number in the step of each row that has logits.
    LogitRows,
    /// Page tables: page number of each page of positions, `pages_per_sequence` for each sequence.
    Pages,
    /// The page tables of sliding-window layers; see [`TensorKind::KvCache`].
    SlidingPages,
    /// Query tiles: {first row, rows, first row of its sequence, rows of its sequence}; the rows of a tile belong to
    /// one sequence. The last two are only read by attention without a cache.
    QueryTiles,
    /// [`Segment`]s: one for each sequence that the step has rows of.
    Segments,
    /// Vectors that rows take instead of a token's, one for each embedding slot.
    Embeddings,
    /// The last token sampled in each output slot.
    Sampled,
    /// Sampling parameters, one [`crate::ops::sample::Params`] for each output slot.
    Sampling,
    /// Occurrences of each token before what each output slot samples, for penalties: bit 31 if it is in the prompt;
    /// the other bits count how often it was generated.
    Counts,
}

/// Consecutive rows of a step that belong to one sequence, the slot of the [state](TensorKind::State) that they begin
/// with, and the slot that their last state is written to: the same one, or another, so that the first is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Segment {
    /// The first row.
    pub first: u32,
    /// How many rows.
    pub count: u32,
    /// The slot read, or [`NO_STATE`].
    pub reads: u32,
    /// The slot written.
    pub writes: u32,
}

/// The state of a segment that begins its sequence.
pub const NO_STATE: u32 = u32::MAX;

impl Segment {
    /// The numbers of its rows.
    pub fn rows(&self) -> std::ops::Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }

    /// The slot that it begins with, if there is one.
    pub fn begins(&self) -> Option<u32> {
        (self.reads != NO_STATE).then_some(self.reads)
    }
}

/// In the row table: the input is the token that was last sampled in the output slot of this number.
pub const SAMPLED_INPUT: u32 = 1 << 31;
/// In the row table: the input is the vector in the embedding slot of this number.
pub const EMBEDDING_INPUT: u32 = 1 << 30;
/// In the row table: the row has no output.
pub const NO_OUTPUT: u32 = u32::MAX;

/// Rows of a tensor of a file: of a matrix, of each matrix of a stack, or values of a vector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorRef {
    /// Which of the opened files: 0 is the model itself.
    pub source: u32,
    /// The file's name of the tensor.
    pub name: String,
    /// The rows.
    pub rows: std::ops::Range<u32>,
}

impl TensorRef {
    /// Rows of a tensor of the model itself.
    pub fn new(name: impl Into<String>, rows: std::ops::Range<u32>) -> Self {
        TensorRef { source: 0, name: name.into(), rows }
    }
}

/// Where a tensor's data comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorKind {
    /// A matrix (or a stack of `experts` matrices) from the file, in the file's type.
    Weight {
        /// How it is stored.
        dtype: DType,
        /// Matrices in the stack, 1 for a plain matrix.
        experts: u32,
        /// Where it is; `None` for the slots of an expert cache, which are filled while the model runs.
        tensor: Option<TensorRef>,
    },
    /// The slot of each expert of a layer in such a cache; written by the engine.
    ExpertSlotTable,
    /// A vector from the file, held as f32 (norm weights, biases).
    Vector {
        /// Where it is.
        tensor: TensorRef,
        /// Added to each value.
        plus: f32,
    },
    /// Vectors one after another in one buffer: a kernel may bind only a few.
    Concatenated(Vec<TensorId>),
    /// f32 values computed on the CPU while the model is built.
    Constant(Vec<f32>),
    /// Keys or values of one layer for all pages.
    KvCache {
        /// Heads.
        heads: u32,
        /// Values a head.
        head_dim: u32,
        /// Whether its pages are those of [`StepInput::SlidingPages`], of which a sequence has only as many as its last
        /// positions take ([`crate::ops::SlidingPages`]).
        sliding: bool,
    },
    /// The recurrent state of a layer, whose size does not depend on the length of a sequence: f32 values for each of
    /// the engine's slots ([`crate::ops::Capacity::state_slots`]).
    State {
        /// Values of a slot.
        values: u32,
    },
    /// A buffer of the engine.
    StepInput(StepInput),
    /// Computed by a node; lives in a slot.
    Activation,
}

/// A tensor: its name (the file's, for weights), shape and origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The GGUF name for weights and vectors; a short word for others.
    pub name: String,
    /// Number of rows.
    pub rows: Rows,
    /// Words in a row.
    pub cols: u32,
    /// Origin.
    pub kind: TensorKind,
}

/// Tensors and nodes, in order of execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// All tensors; a [`TensorId`] is an index.
    pub tensors: Vec<Tensor>,
    /// All nodes.
    pub nodes: Vec<Op>,
}

impl Graph {
    /// The tensor of this id.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// Words in a row of a tensor.
    pub fn cols(&self, id: TensorId) -> u32 {
        self.tensor(id).cols
    }

    /// Rows of a tensor whose number is fixed.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn fixed_rows(&self, id: TensorId) -> u32 {
        match self.tensor(id).rows {
            Rows::Fixed(n) => n,
            other => panic!("{} has {other:?} rows", self.tensor(id).name),
        }
    }

    /// Matrices of a stack of weights, 1 for a plain matrix.
    ///
    /// # Panics
    /// If the tensor is no weight.
    #[track_caller]
    pub fn experts_of(&self, id: TensorId) -> u32 {
        match self.tensor(id).kind {
            TensorKind::Weight { experts, .. } => experts,
            _ => panic!("{} is no weight", self.tensor(id).name),
        }
    }

    /// Adds a tensor.
    pub fn add(&mut self, name: impl Into<String>, rows: Rows, cols: u32, kind: TensorKind) -> TensorId {
        self.tensors.push(Tensor { name: name.into(), rows, cols, kind });
        TensorId(self.tensors.len() - 1)
    }

    /// Adds a tensor that a node computes.
    pub fn activation(&mut self, name: impl Into<String>, rows: Rows, cols: u32) -> TensorId {
        self.add(name, rows, cols, TensorKind::Activation)
    }

    /// The name of a weight's output.
    pub(super) fn stem(&self, weight: TensorId) -> String {
        self.tensor(weight).name.trim_end_matches(".weight").to_string()
    }

    /// A matrix `rows x cols` from the file.
    pub fn weight(&mut self, name: &str, rows: u32, cols: u32, dtype: DType) -> TensorId {
        self.expert_stack(name, 1, rows, cols, dtype)
    }

    /// A stack of `experts` matrices `rows x cols` from the file.
    pub fn expert_stack(&mut self, name: &str, experts: u32, rows: u32, cols: u32, dtype: DType) -> TensorId {
        self.weight_from(&TensorRef::new(name, 0..rows), experts, cols, dtype)
    }

    /// Rows of each of a stack of `experts` matrices from a file; of a plain matrix if there is one.
    pub fn weight_from(&mut self, tensor: &TensorRef, experts: u32, cols: u32, dtype: DType) -> TensorId {
        let rows = Rows::Fixed(experts * tensor.rows.len() as u32);
        self.add(&tensor.name, rows, cols, TensorKind::Weight { dtype, experts, tensor: Some(tensor.clone()) })
    }

    /// A cache of `experts` offloaded matrices `rows x cols`.
    pub fn expert_cache(&mut self, name: &str, experts: u32, rows: u32, cols: u32, dtype: DType) -> TensorId {
        self.add(name, Rows::Fixed(experts * rows), cols, TensorKind::Weight { dtype, experts, tensor: None })
    }

    /// A vector from the file.
    pub fn vector(&mut self, name: &str, cols: u32) -> TensorId {
        self.vector_from(&TensorRef::new(name, 0..cols), 0.0)
    }

    /// Values of a vector from a file, with `plus` added to each.
    pub fn vector_from(&mut self, tensor: &TensorRef, plus: f32) -> TensorId {
        let cols = tensor.rows.len() as u32;
        self.add(&tensor.name, Rows::Fixed(1), cols, TensorKind::Vector { tensor: tensor.clone(), plus })
    }

    /// Vectors one after another, as one tensor.
    pub fn concat_vectors(&mut self, vectors: &[TensorId]) -> TensorId {
        let cols = vectors.iter().map(|id| self.cols(*id)).sum();
        let name = self.tensor(vectors[0]).name.clone();
        self.add(name, Rows::Fixed(1), cols, TensorKind::Concatenated(vectors.into()))
    }

    /// The vectors that a tensor consists of, and where each begins: itself, or those that were concatenated.
    pub fn vectors(&self, id: TensorId) -> Vec<(TensorId, u32)> {
        match &self.tensor(id).kind {
            TensorKind::Vector { .. } => vec![(id, 0)],
            TensorKind::Concatenated(parts) => {
                let starts = parts.iter().scan(0, |at, part| {
                    let start = *at;
                    *at += self.cols(*part);
                    Some((*part, start))
                });
                starts.collect()
            }
            _ => Vec::new(),
        }
    }

    /// A buffer of the engine; always the same tensor.
    pub fn input(&mut self, input: StepInput) -> TensorId {
        let four = matches!(input, StepInput::Rows | StepInput::QueryTiles | StepInput::Segments);
        self.input_of_width(input, if four { 4 } else { 1 })
    }

    /// A buffer of the engine whose rows have `cols` words in this graph.
    fn input_of_width(&mut self, input: StepInput, cols: u32) -> TensorId {
        if let Some(i) = self.tensors.iter().position(|t| t.kind == TensorKind::StepInput(input)) {
            return TensorId(i);
        }
        let rows = match input {
            StepInput::Rows | StepInput::QueryTiles => Rows::Step,
            StepInput::LogitRows => Rows::Logits,
            _ => Rows::Fixed(1),
        };
        self.add(format!("{input:?}").to_lowercase(), rows, cols, TensorKind::StepInput(input))
    }

    /// The page tables of a layer's keys and values.
    pub fn pages(&mut self, cache: TensorId) -> TensorId {
        let sliding = matches!(self.tensor(cache).kind, TensorKind::KvCache { sliding: true, .. });
        self.input(if sliding { StepInput::SlidingPages } else { StepInput::Pages })
    }

    /// Whether some layer keeps a state of each sequence.
    pub fn recurrent(&self) -> bool {
        self.tensors.iter().any(|t| matches!(t.kind, TensorKind::State { .. }))
    }

    /// How many nodes read a tensor.
    pub fn readers(&self, id: TensorId) -> usize {
        self.nodes.iter().filter(|node| node.reads(id)).count()
    }
}

/// Panics, as a bug in graph code, unless two numbers agree.
#[track_caller]
pub(super) fn assert_same(what: &str, a: u32, b: u32) {
    assert!(a == b, "{what}: {a} and {b} differ");
}
