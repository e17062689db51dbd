//! The ops: what each means on the CPU (`reference`), which shapes it takes, and which kernels compute it.
//!
//! An op is a file here and a WGSL file of the same name. Choosing a kernel yields plain data ([`Kernel`]), so that
//! `plan` can list, dedupe, print and test it without a GPU. No wgpu here.

pub mod add;
pub mod attention;
pub mod catalog;
pub mod delta_net;
pub mod embed;
pub mod experts;
pub mod fused_norm;
pub mod gather;
pub mod glu;
pub mod grid;
pub mod head_concat;
pub mod head_linear;
pub mod head_slice;
pub mod kv_write;
pub mod layer_norm;
pub mod linear;
pub mod linear_glu;
pub mod logit_scale;
pub mod norm_add;
pub mod qkv;
pub mod rms_norm;
pub mod rope;
pub mod rope_kv;
pub mod sample;
pub mod short_conv;

use crate::dtype::DType;
use crate::gpu::{Caps, Tier};
use crate::graph::{Graph, Node, TensorId, TensorKind};
use crate::shader::{Const, ShaderSource};
pub use grid::{Fold, GridDim, StepSize, StepSizes};

/// Everything a graph can compute.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Token ids to vectors.
    Embed(embed::Embed),
    /// Root-mean-square norm.
    RmsNorm(rms_norm::RmsNorm),
    /// Layer norm.
    LayerNorm(layer_norm::LayerNorm),
    /// Rows times a matrix.
    Linear(linear::Linear),
    /// Rows times two matrices, gated.
    LinearGlu(linear_glu::LinearGlu),
    /// Rows times the matrices of queries, keys and values.
    Qkv(qkv::Qkv),
    /// Rotary position embedding.
    Rope(rope::Rope),
    /// Keys and values into the cache.
    KvWrite(kv_write::KvWrite),
    /// Head norms, rotation, keys and values into the cache.
    RopeKv(rope_kv::RopeKv),
    /// Attention over the cache.
    Attention(attention::Attention),
    /// A part of each head.
    HeadSlice(head_slice::HeadSlice),
    /// Two parts of each head side by side.
    HeadConcat(head_concat::HeadConcat),
    /// Each head times a matrix of its own.
    HeadLinear(head_linear::HeadLinear),
    /// A short convolution along a sequence.
    ShortConv(short_conv::ShortConv),
    /// The gated delta rule over a state.
    DeltaNet(delta_net::DeltaNet),
    /// Gated activation of two tensors.
    Glu(glu::Glu),
    /// Sum of two tensors.
    Add(add::Add),
    /// A norm, a sum, and the next norm.
    NormAdd(norm_add::NormAdd),
    /// The rows that want logits.
    Gather(gather::Gather),
    /// Which experts a row goes to.
    Router(experts::Router),
    /// (row, expert) pairs in order of the expert, in tiles.
    ExpertSort(experts::ExpertSort),
    /// Rows times the matrices of their experts.
    ExpertLinear(experts::ExpertLinear),
    /// Weighted sum of a row's experts.
    ExpertSum(experts::ExpertSum),
    /// Logits scaled and bounded.
    LogitScale(logit_scale::LogitScale),
    /// Logits to a token.
    Sample(sample::Sample),
}

impl Op {
    /// The name in plans and profiles.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Embed(_) => "embed",
            Op::RmsNorm(_) => "rms_norm",
            Op::LayerNorm(_) => "layer_norm",
            Op::Linear(_) => "linear",
            Op::LinearGlu(_) => "linear_glu",
            Op::Qkv(_) => "qkv",
            Op::Rope(_) => "rope",
            Op::KvWrite(_) => "kv_write",
            Op::RopeKv(_) => "rope_kv",
            Op::Attention(_) => "attention",
            Op::HeadSlice(_) => "head_slice",
            Op::HeadConcat(_) => "head_concat",
            Op::HeadLinear(_) => "head_linear",
            Op::ShortConv(_) => "short_conv",
            Op::DeltaNet(_) => "delta_net",
            Op::Glu(_) => "glu",
            Op::Add(_) => "add",
            Op::NormAdd(_) => "norm_add",
            Op::Gather(_) => "gather",
            Op::Router(_) => "router",
            Op::ExpertSort(_) => "expert_sort",
            Op::ExpertLinear(_) => "expert_linear",
            Op::ExpertSum(_) => "expert_sum",
            Op::LogitScale(_) => "logit_scale",
            Op::Sample(_) => "sample",
        }
    }

    /// The kernels that compute a node, in order.
    pub fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let fold = |kernel: Kernel| kernel.folded(cx.capacity, cx.caps.max_workgroups);
        self.chosen(cx).into_iter().map(fold).collect()
    }

    fn chosen(&self, cx: &KernelContext) -> Vec<Kernel> {
        match self {
            Op::Embed(op) => op.kernels(cx),
            Op::RmsNorm(op) => op.kernels(cx),
            Op::LayerNorm(op) => op.kernels(cx),
            Op::Linear(op) => op.kernels(cx),
            Op::LinearGlu(op) => op.kernels(cx),
            Op::Qkv(op) => op.kernels(cx),
            Op::Rope(op) => op.kernels(cx),
            Op::KvWrite(op) => op.kernels(cx),
            Op::RopeKv(op) => op.kernels(cx),
            Op::Attention(op) => op.kernels(cx),
            Op::HeadSlice(op) => op.kernels(cx),
            Op::HeadConcat(op) => op.kernels(cx),
            Op::HeadLinear(op) => op.kernels(cx),
            Op::ShortConv(op) => op.kernels(cx),
            Op::DeltaNet(op) => op.kernels(cx),
            Op::Glu(op) => op.kernels(cx),
            Op::Add(op) => op.kernels(cx),
            Op::NormAdd(op) => op.kernels(cx),
            Op::Gather(op) => op.kernels(cx),
            Op::Router(op) => op.kernels(cx),
            Op::ExpertSort(op) => op.kernels(cx),
            Op::ExpertLinear(op) => op.kernels(cx),
            Op::ExpertSum(op) => op.kernels(cx),
            Op::LogitScale(op) => op.kernels(cx),
            Op::Sample(op) => op.kernels(cx),
        }
    }
}

/// Positions in a page of the KV cache.
pub const PAGE: u32 = 32;
/// Most rows that a step of several sequences may have to be a decode; see [`Capacity::decode_rows`].
pub const DECODE_ROWS: u32 = 8;

/// How the KV cache is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Two halves in a word.
    F16,
    /// Blocks of 32 int8 quants with an f16 scale, within a head.
    Q8_0,
    /// One float in a word; for tests.
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

    /// Whether heads of so many values can be stored: blocks do not reach over a head's end.
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

    fn shader(self) -> &'static str {
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
    /// Rows of a step that want logits.
    pub logits: u32,
    /// Sequences.
    pub sequences: u32,
    /// Pages of the KV cache, over all sequences.
    pub pages: u32,
    /// Pages that one sequence may have.
    pub pages_per_sequence: u32,
    /// The pages of layers that see only what is near, if some are kept apart.
    pub sliding: Option<SlidingPages>,
    /// How the KV cache is stored.
    pub kv: KvType,
}

/// Pages of layers with windows or chunks. A sequence gives back those that none of its queries will see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingPages {
    /// Positions that a query sees at most, its own among them.
    pub window: u32,
    /// Pages, over all sequences.
    pub pages: u32,
}

/// Positions that a sequence can go back at any time: as many as steps may be queued ahead of what turns out to be wanted.
pub const MAX_ROLLBACK: u32 = 64;

impl SlidingPages {
    /// Pages of a sequence whose steps have up to `rows` rows: those that a step and [`MAX_ROLLBACK`] positions before it
    /// see, and those that are kept where most of a prompt ends.
    pub fn pages_per_sequence(span: u32, rows: u32) -> u32 {
        let touched = |positions: u32| positions.div_ceil(PAGE) + 1;
        touched(span.saturating_add(MAX_ROLLBACK + rows)) + touched(span)
    }
}

impl Capacity {
    /// Up to this many rows a step is a decode: matvecs and split attention; above, tiled kernels. One sequence alone
    /// decodes one row at a time, and the kernels for a few need not be built.
    pub fn decode_rows(&self) -> u32 {
        if self.sequences > 1 { DECODE_ROWS } else { 1 }
    }

    /// Slots for states: two for each sequence, of which one is written while the other may be kept.
    pub fn state_slots(&self) -> u32 {
        2 * self.sequences
    }
}

/// A tensor that a kernel binds. Binding 0 is the `Step` uniform; these follow from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which tensor.
    pub tensor: TensorId,
    /// Which shard of a weight.
    pub shard: usize,
    /// Bound `read_write`.
    pub write: bool,
}

impl Binding {
    /// Bound `read`.
    pub fn read(tensor: TensorId) -> Self {
        Binding { tensor, shard: 0, write: false }
    }

    /// A shard of a weight, bound `read`.
    pub fn shard(tensor: TensorId, shard: usize) -> Self {
        Binding { tensor, shard, write: false }
    }

    /// Bound `read_write`.
    pub fn write(tensor: TensorId) -> Self {
        Binding { tensor, shard: 0, write: true }
    }
}

/// DispatchPredicate a kernel of the list runs: only while a size is within bounds. Others are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchPredicate {
    /// Which size.
    pub size: StepSize,
    /// Smallest value.
    pub min: u32,
    /// Largest value.
    pub max: u32,
}

/// One dispatch to be: plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// The shader variant.
    pub source: ShaderSource,
    /// Storage bindings from 1 on.
    pub bindings: Vec<Binding>,
    /// Workgroups.
    pub grid: [GridDim; 3],
    /// How they are dispatched, if an adapter does not take them as they are.
    pub fold: Option<Fold>,
    /// All must hold.
    pub when: Vec<DispatchPredicate>,
    /// The share of a bound expert stack that is read, as (of how many, at most); for byte counts.
    pub experts_read: Option<(u32, u32)>,
}

impl Kernel {
    /// A kernel that always runs.
    pub fn new(source: ShaderSource, bindings: Vec<Binding>, grid: [GridDim; 3]) -> Self {
        Kernel { source, bindings, grid, fold: None, when: Vec::new(), experts_read: None }
    }

    /// The same, run only while `size` is in `min..=max`.
    pub fn when(mut self, size: StepSize, min: u32, max: u32) -> Self {
        self.when.push(DispatchPredicate { size, min, max });
        self
    }
}

/// Rows of a weight that lie in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// First row (over the whole stack).
    pub row0: u32,
    /// Rows.
    pub rows: u32,
}

/// How a weight of `rows x cols` is split so that each buffer can be bound: at multiples of `unit` rows.
///
/// # Panics
/// If `unit` rows alone are larger than a binding; `fit` refuses such a model before.
pub fn shards(dtype: DType, rows: u32, cols: u32, unit: u32, max_bytes: u64) -> Vec<Shard> {
    let fitting = shard_rows(dtype, cols, unit, max_bytes);
    assert!(fitting > 0, "{unit} rows of {cols} {} weights exceed a binding of {max_bytes} bytes", dtype.name());
    let count = rows.div_ceil(fitting);
    let each = rows.div_ceil(count).next_multiple_of(unit).min(fitting);
    (0..rows).step_by(each as usize).map(|row0| Shard { row0, rows: each.min(rows - row0) }).collect()
}

/// The most rows of `cols` weights that a shard has, a multiple of `unit`; 0 if no shard can be bound.
pub fn shard_rows(dtype: DType, cols: u32, unit: u32, max_bytes: u64) -> u32 {
    let table = dtype.table().len() as u64;
    let row_bytes = (dtype.gpu_bytes(1, cols) - table + 16 * dtype.planes().len() as u64).max(1);
    u32::try_from(max_bytes.saturating_sub(table) / row_bytes).unwrap_or(u32::MAX) / unit * unit
}

/// The rows at whose multiples a weight of `rows` rows may be split: a stack of experts only between experts.
pub fn shard_unit(rows: u32, experts: u32) -> u32 {
    if experts > 1 { rows / experts } else { SHARD_UNIT }
}

/// Rows of a plain matrix at whose multiples it may be split.
pub const SHARD_UNIT: u32 = 64;

/// What an op looks at when it chooses its kernels.
pub struct KernelContext<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The node.
    pub node: &'a Node,
    /// What the adapter can do.
    pub caps: &'a Caps,
    /// The largest step.
    pub capacity: &'a Capacity,
}

impl KernelContext<'_> {
    /// The id of an input.
    pub fn input(&self, i: usize) -> TensorId {
        self.node.inputs[i]
    }

    /// The id of an output.
    pub fn output(&self, i: usize) -> TensorId {
        self.node.outputs[i]
    }

    /// Words in a row of an input.
    pub fn cols(&self, i: usize) -> u32 {
        self.graph.cols(self.input(i))
    }

    /// The type and number of experts of a weight.
    pub fn weight(&self, id: TensorId) -> (DType, u32) {
        match self.graph.tensor(id).kind {
            TensorKind::Weight { dtype, experts, .. } => (dtype, experts),
            _ => panic!("{} is no weight", self.graph.tensor(id).name),
        }
    }

    /// The shards of a weight.
    pub fn shards(&self, id: TensorId) -> Vec<Shard> {
        weight_shards(self.graph, id, self.caps.bindable())
    }

    /// Up to this many rows a product is a matvec. On a software adapter that is one: there the matmul, which keeps weights in
    /// registers, takes little longer for eight. Those that read prompts in halves round x, which a decode there must not.
    pub fn matvec_rows(&self) -> u32 {
        let one = self.caps.software && !Tier::F16_TIERS.contains(&self.caps.tier);
        if one { 1 } else { self.capacity.decode_rows() }
    }

    /// The file with the reductions of this tier.
    pub fn reduce(&self) -> (&'static str, &'static str) {
        ("reduce", if self.caps.subgroups() { "lib/reduce_subgroup" } else { "lib/reduce" })
    }

    /// Threads that share one reduction over `work` items: a power of two that the subgroup tier can use too.
    pub fn lanes(&self, work: u32) -> u32 {
        let (_, max) = self.caps.subgroup;
        let least = match (self.caps.subgroups(), self.caps.software) {
            (true, _) => max.min(128),
            (false, true) => 1,
            (false, false) => 32,
        };
        let most = if self.caps.software { least.max(16) } else { 256 };
        work.next_power_of_two().clamp(least, most)
    }

    /// Constants that the reductions need, for `lanes` threads a reduction in workgroups of `wg`.
    pub fn reduce_consts(&self, wg: u32, lanes: u32) -> Vec<(&'static str, Const)> {
        let (min, max) = self.caps.subgroup;
        let one = min == max && lanes == max;
        vec![("WG", Const::U32(wg)), ("LANES", Const::U32(lanes)), ("ONE_SUBGROUP", Const::Bool(one))]
    }
}

/// The shards of a weight tensor under a binding limit.
pub fn weight_shards(graph: &Graph, id: TensorId, max_bytes: u64) -> Vec<Shard> {
    let t = graph.tensor(id);
    let TensorKind::Weight { dtype, experts, .. } = t.kind else { panic!("{} is no weight", t.name) };
    let rows = graph.fixed_rows(id);
    shards(dtype, rows, t.cols, shard_unit(rows, experts), max_bytes)
}

/// Constants with which a kernel reads a shard of a weight: planes, groups a row.
pub fn weight_consts(dtype: DType, rows: u32, cols: u32) -> Vec<(&'static str, Const)> {
    let mut out = vec![("GROUPS", Const::U32(cols.div_ceil(32)))];
    out.extend(planes(["PLANE1", "PLANE2", "PLANE3"], dtype, rows, cols));
    out
}

/// Where the planes of a weight behind the first begin, and then its table, under these names.
pub fn planes(names: [&'static str; 3], dtype: DType, rows: u32, cols: u32) -> Vec<(&'static str, Const)> {
    let offsets = dtype.plane_offsets(rows, cols).into_iter().skip(1);
    names.into_iter().zip(offsets).map(|(name, offset)| (name, Const::U32((offset / 16) as u32))).collect()
}
