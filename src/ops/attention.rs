//! Causal attention with grouped query heads over the paged cache:
//! `y[row, head] = softmax(scale * q . k[0..=position]) v`.
//!
//! Few rows (decode): every (row, kv head, span of [`KV_SPLIT`] positions) is a workgroup, and spans are merged when there
//! are several. Many rows (prefill): tiles of rows walk the cache with a running softmax.

use super::kv_write::offset;
use super::linear::unit;
use super::{Binding, GridDim, Kernel, KernelContext, Op, PAGE, StepSize};
use crate::gpu::{Caps, Tier};
use crate::graph::{Graph, Node, Rows, StepInput, TensorId, TensorKind};
use crate::shader::{Const, ShaderSource};

/// Positions that one workgroup of a decode looks at.
pub const KV_SPLIT: u32 = 128;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; `heads` is a multiple.
    pub kv_heads: u32,
    /// Values of a query's and a key's head.
    pub head_dim: u32,
    /// Values of a value's head. If they are fewer, values are the first of their keys and have no cache of their own
    /// (MLA, arXiv 2405.04434).
    pub value_dim: u32,
    /// Multiplier of the scores.
    pub scale: f32,
    /// Which positions a query sees.
    pub mask: MaskKind,
    /// Scores become `cap * tanh(score / cap)` (Gemma 2).
    pub softcap: Option<f32>,
    /// Scores grow with the query's position (Llama 4).
    pub temperature: Option<AttentionTemperature>,
    /// Each query head has one more score, a weight of the model, that draws attention and has no value (gpt-oss).
    pub sinks: bool,
}

impl Attention {
    /// Attention over all positions, scaled by `1 / sqrt(head_dim)`.
    pub fn full(heads: u32, kv_heads: u32, head_dim: u32) -> Self {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let value_dim = head_dim;
        let (reach, cap, temperature, sinks) = (MaskKind::Causal, None, None, false);
        Attention { heads, kv_heads, head_dim, value_dim, scale, mask: reach, softcap: cap, temperature, sinks }
    }
}

/// Which positions up to its own a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    /// All.
    Causal,
    /// The last so many, its own among them.
    SlidingWindow(u32),
    /// Those of its own chunk: positions are cut into chunks of so many.
    Chunked(u32),
}

impl MaskKind {
    /// The first position that is seen from `position`.
    pub fn first(self, position: u32) -> u32 {
        match self {
            MaskKind::Causal => 0,
            MaskKind::SlidingWindow(n) => (position + 1).saturating_sub(n),
            MaskKind::Chunked(n) => position - position % n,
        }
    }

    /// How many positions are seen at most, if there is a bound.
    pub fn span(self) -> Option<u32> {
        match self {
            MaskKind::Causal => None,
            MaskKind::SlidingWindow(n) | MaskKind::Chunked(n) => Some(n),
        }
    }

    fn shader(self) -> (&'static str, u32) {
        match self {
            MaskKind::Causal => ("attention/mask/causal", 0),
            MaskKind::SlidingWindow(n) => ("attention/mask/sliding_window", n),
            MaskKind::Chunked(n) => ("attention/mask/chunked", n),
        }
    }
}

/// Scores are multiplied by `1 + rate * ln(1 + floor((position + ahead) / every))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionTemperature {
    /// Positions of a step.
    pub floor_scale: u32,
    /// How fast it grows.
    pub attn_scale: f32,
    /// Added to the position: 1 where the first position counts as one.
    pub offset: u32,
}

impl AttentionTemperature {
    fn of(self, position: u32) -> f64 {
        let steps = (position + self.offset) / self.floor_scale;
        1.0 + f64::from(self.attn_scale) * f64::from(1 + steps).ln()
    }
}

/// The most values that a head may have: of its queries a tile, or those of four heads, fit in workgroup memory beside
/// the scores.
pub const MAX_HEAD_DIM: u32 = 576;

/// Values that a kernel of small matrices moves at once; heads are multiples.
const MATRIX_COLS: u32 = 32;

/// Rows of a step's prefill tiles, of which layers with longer heads take parts; 1 if there is no attention.
pub fn max_query_tile(graph: &Graph, caps: &Caps) -> u32 {
    let tile = |node: &Node| match &node.op {
        Op::Attention(op) => Some(op.tile(caps)),
        _ => None,
    };
    graph.nodes.iter().filter_map(tile).max().unwrap_or(1)
}

impl Graph {
    /// q (rows, heads * head_dim) -> (rows, heads * value_dim). `sinks` (heads values) must be there if the op has them.
    /// Both caches are the same one if values are a part of their keys.
    #[track_caller]
    pub fn attention(
        &mut self,
        q: TensorId,
        caches: (TensorId, TensorId),
        sinks: Option<TensorId>,
        op: Attention,
    ) -> TensorId {
        let cols = op.heads * op.value_dim;
        crate::graph::same("columns of q", self.cols(q), op.heads * op.head_dim);
        assert!(
            sinks.is_some() == op.sinks && !matches!(op.mask, MaskKind::SlidingWindow(0) | MaskKind::Chunked(0)),
            "{op:?}"
        );
        assert!(op.heads.is_multiple_of(op.kv_heads) && op.head_dim <= MAX_HEAD_DIM, "{op:?}");
        assert!(op.head_dim.is_multiple_of(4) && op.value_dim.is_multiple_of(4), "{op:?}");
        assert!(op.value_dim == op.head_dim || (op.value_dim < op.head_dim && caches.0 == caches.1), "{op:?}");
        let y = self.add("attention", Rows::Step, cols, TensorKind::Activation);
        let spans = self.add("spans", Rows::KvSplits(op.heads), op.value_dim + 4, TensorKind::Activation);
        let (rows, pages, tiles) =
            (self.input(StepInput::Rows), self.pages(caches.0), self.input(StepInput::QueryTiles));
        let mut inputs = vec![rows, pages, tiles, q, caches.0, caches.1];
        inputs.extend(sinks);
        self.nodes.push(Node { op: Op::Attention(op), inputs, outputs: vec![y, spans] });
        y
    }
}

impl Attention {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let mut out = vec![self.decode(cx, true), self.decode(cx, false), self.merge(cx)];
        if cx.capacity.rows > cx.capacity.decode_rows() {
            out.push(self.prefill(cx));
        }
        out
    }

    /// Whether prompts are read by small matrices: where what a thread keeps of its queries and means fits in registers.
    fn uses_cooperative(&self, caps: &Caps) -> bool {
        let fits = self.head_dim <= 128 && self.head_dim.is_multiple_of(MATRIX_COLS) && self.value_dim == self.head_dim;
        fits && caps.tier == Tier::Cooperative && caps.tune_config().cooperative_attention
    }

    /// Rows of a prefill tile: what fits in workgroup memory, or 16 for each of four subgroups.
    fn tile(&self, caps: &Caps) -> u32 {
        match self.head_dim {
            _ if self.uses_cooperative(caps) => 64,
            ..=128 => 16,
            129..=256 => 8,
            _ => 4,
        }
    }

    fn consts(&self, cx: &KernelContext) -> Vec<(&'static str, Const)> {
        let c = cx.capacity;
        vec![
            ("HEADS", Const::U32(self.heads)),
            ("KV_HEADS", Const::U32(self.kv_heads)),
            ("GROUP", Const::U32(self.heads / self.kv_heads)),
            ("HEAD_DIM4", Const::U32(self.head_dim / 4)),
            ("VALUE_DIM4", Const::U32(self.value_dim / 4)),
            ("SCALE", Const::F32(self.scale)),
            ("PAGE", Const::U32(PAGE)),
            ("PAGES_PER_SEQUENCE", Const::U32(c.pages_per_sequence)),
            ("KV_SPLIT", Const::U32(KV_SPLIT)),
            ("MAX_SPLITS", Const::U32(max_splits(c.pages_per_sequence))),
            ("WINDOW", Const::U32(self.mask.shader().1)),
        ]
    }

    /// What makes the scores of a kernel: the parts this op has, and their constants.
    fn scores(&self, consts: &mut Vec<(&'static str, Const)>) -> Vec<(&'static str, &'static str)> {
        let mut imports = vec![("mask", self.mask.shader().0)];
        imports.push((
            "softcap",
            if self.softcap.is_some() { "attention/softcap/tanh" } else { "attention/softcap/none" },
        ));
        imports.push((
            "temperature",
            if self.temperature.is_some() { "attention/temperature/llama4" } else { "attention/temperature/none" },
        ));
        consts.extend(self.softcap.map(|cap| ("SOFTCAP", Const::F32(cap))));
        if let Some(t) = self.temperature {
            let ahead = ("OFFSET", Const::U32(t.offset));
            consts.extend([
                ("FLOOR_SCALE", Const::U32(t.floor_scale)),
                ("ATTN_SCALE", Const::F32(t.attn_scale)),
                ahead,
            ]);
        }
        imports
    }

    /// Binds the sinks last, if there are any.
    fn sink(&self, cx: &KernelContext, kernel: &mut Kernel) {
        let file = if self.sinks { "attention/sink/per_head" } else { "attention/sink/none" };
        kernel.source.imports.push(("sink", file));
        if self.sinks {
            kernel.bindings.push(Binding::read(cx.input(6)));
            kernel.source.consts.push(("SINKS_AT", Const::U32(kernel.bindings.len() as u32)));
        }
    }

    /// Query heads of one workgroup: as many of a group as workgroup memory holds.
    fn per_workgroup(&self) -> u32 {
        let group = self.heads / self.kv_heads;
        let fits = |n: &u32| group.is_multiple_of(*n) && (*n <= 4 || (*n <= 8 && n * self.head_dim <= 1024));
        (1..=group).rev().find(fits).unwrap_or(1)
    }

    fn decode(&self, cx: &KernelContext, direct: bool) -> Kernel {
        let wg = if cx.caps.software { cx.lanes(16) } else { cx.lanes(KV_SPLIT).min(KV_SPLIT) };
        let per_wg = self.per_workgroup();
        let d4 = self.value_dim / 4;
        let d_lanes = d4.min(wg);
        let mut consts = self.consts(cx);
        consts.extend(cx.reduce_consts(wg, wg));
        consts.extend([
            ("HEADS_PER_WG", Const::U32(per_wg)),
            ("HEADS_PER_WG4", Const::U32(per_wg.div_ceil(4))),
            ("D_LANES", Const::U32(d_lanes)),
            ("D_TRIPS", Const::U32(d4.div_ceil(d_lanes))),
            ("PHASES", Const::U32(wg / d_lanes)),
            ("DIRECT", Const::Bool(direct)),
        ]);
        let mut imports = vec![cx.reduce(), ("kv", cx.capacity.kv.shader())];
        imports.extend(self.scores(&mut consts));
        let source = ShaderSource { file: "attention_decode", imports, consts };
        let mut bindings: Vec<_> = [0, 1, 3, 4, 5].map(|i| Binding::read(cx.input(i))).into();
        bindings.push(Binding::write(cx.output(if direct { 0 } else { 1 })));
        let grid =
            [GridDim::each(StepSize::KvSplits), GridDim::fixed(self.heads / per_wg), GridDim::each(StepSize::Rows)];
        let (min, max) = if direct { (1, 1) } else { (2, u32::MAX) };
        let mut kernel = Kernel::new(source, bindings, grid);
        match direct {
            true => self.sink(cx, &mut kernel),
            // The merge counts them.
            false => kernel.source.imports.push(("sink", "attention/sink/none")),
        }
        kernel.when(StepSize::Rows, 1, cx.capacity.decode_rows()).when(StepSize::KvSplits, min, max)
    }

    fn merge(&self, cx: &KernelContext) -> Kernel {
        let imports = vec![("mask", self.mask.shader().0)];
        let source = ShaderSource { file: "attention_combine", imports, consts: self.consts(cx) };
        let bindings = vec![Binding::read(cx.input(0)), Binding::read(cx.output(1)), Binding::write(cx.output(0))];
        let grid = [GridDim::ceil(self.value_dim / 4, 64), GridDim::fixed(self.heads), GridDim::each(StepSize::Rows)];
        let mut kernel = Kernel::new(source, bindings, grid);
        self.sink(cx, &mut kernel);
        kernel.when(StepSize::Rows, 1, cx.capacity.decode_rows()).when(StepSize::KvSplits, 2, u32::MAX)
    }

    fn prefill(&self, cx: &KernelContext) -> Kernel {
        let tile = self.tile(cx.caps);
        let parts = max_query_tile(cx.graph, cx.caps) / tile;
        let mut imports = vec![("kv", cx.capacity.kv.shader())];
        let (file, own) = if self.uses_cooperative(cx.caps) {
            let side = cx.caps.cooperative;
            imports.push(("cooperative", unit(cx.caps)));
            let wg = 4 * cx.caps.subgroup.1;
            let units = [("COOP_R", 16), ("COOP_D", self.head_dim), ("COOP_P", PAGE)].map(|(name, n)| (name, n / side));
            ("attention_cooperative", [&units[..], &[("WG", wg), ("CHUNKS", self.head_dim / MATRIX_COLS)]].concat())
        } else {
            let d4 = self.value_dim / 4;
            // As many as a page has positions suit software adapters: there all threads read the same queries.
            let wg = if cx.caps.software { PAGE } else { 64 };
            let d_lanes = d4.min(wg);
            let rows_each = tile.div_ceil(wg / d_lanes);
            let trips = d4.div_ceil(d_lanes);
            let values =
                [("D_LANES", d_lanes), ("D_TRIPS", trips), ("ROWS_EACH", rows_each), ("ACCS", trips * rows_each)];
            ("attention_prefill", [&values[..], &[("WG", wg), ("SCORES", tile * PAGE / wg)]].concat())
        };
        let mut consts = self.consts(cx);
        consts.extend(own.into_iter().chain([("TILE", tile), ("PARTS", parts)]).map(|(name, n)| (name, Const::U32(n))));
        imports.extend(self.scores(&mut consts));
        let source = ShaderSource { file, imports, consts };
        let mut bindings: Vec<_> = (0..6).map(|i| Binding::read(cx.input(i))).collect();
        bindings.push(Binding::write(cx.output(0)));
        let tiles = GridDim { size: StepSize::QueryTiles, times: parts, per: 1, plus: 0 };
        let grid = [tiles, GridDim::fixed(self.heads), GridDim::fixed(1)];
        let mut kernel = Kernel::new(source, bindings, grid);
        self.sink(cx, &mut kernel);
        kernel.when(StepSize::Rows, cx.capacity.decode_rows() + 1, u32::MAX)
    }
}

/// Spans that the longest sequence can have.
pub fn max_splits(pages_per_sequence: u32) -> u32 {
    (pages_per_sequence * PAGE).div_ceil(KV_SPLIT)
}

/// What the op means: for each row and head the softmax-weighted mean of the values at the positions of the row's
/// sequence that it sees. `rows` is the row table; the caches are laid out as [`super::kv_write`] says; `sinks` has a
/// value for each head, or none at all.
pub fn reference(
    rows: &[[u32; 4]],
    pages: &[u32],
    pages_per_sequence: u32,
    q: &[f32],
    (keys, values): (&[f32], &[f32]),
    sinks: &[f32],
    op: &Attention,
) -> Vec<f32> {
    let (head_dim, value_dim) = (op.head_dim as usize, op.value_dim as usize);
    let mut y = Vec::new();
    let mut queries = q.chunks_exact(head_dim);
    for &[_, last, sequence, _] in rows {
        for (head, q) in (0..op.heads).zip(&mut queries) {
            let shape = (op.kv_heads, head / (op.heads / op.kv_heads), op.head_dim);
            let cached = |position| offset(pages, pages_per_sequence, sequence, position, shape);
            let scale = f64::from(op.scale) * op.temperature.map_or(1.0, |t| t.of(last));
            let score = |position| {
                let key = &keys[cached(position)..][..head_dim];
                let score = scale * q.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
                op.softcap.map(f64::from).map_or(score, |cap| cap * (score / cap).tanh())
            };
            let seen = op.mask.first(last)..=last;
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let sink = sinks.get(head as usize).map(|sink| f64::from(*sink));
            let top = scores.iter().copied().chain(sink).fold(f64::MIN, f64::max);
            let (mut sum, mut mean) = (sink.map_or(0.0, |sink| (sink - top).exp()), vec![0.0; value_dim]);
            for (position, score) in seen.zip(scores) {
                let weight = (score - top).exp();
                sum += weight;
                let value = &values[cached(position)..][..value_dim];
                mean.iter_mut().zip(value).for_each(|(mean, v)| *mean += weight * f64::from(*v));
            }
            y.extend(mean.iter().map(|v| (v / sum) as f32));
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sees_its_own_sequence_up_to_itself_through_its_groups_head() {
        let op = Attention { scale: 0.5, ..Attention::full(2, 1, 4) };
        // Page 1 belongs to the sequence; page 0 and later positions hold what must not be seen.
        let (mut keys, mut values) = (vec![9.0; 2 * 32 * 4], vec![99.0; 2 * 32 * 4]);
        let ln3 = 3f32.ln();
        keys[128..136].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 2.0 * ln3, 0.0, 0.0, 0.0]);
        values[128..136].copy_from_slice(&[4.0, 8.0, 0.0, 1.0, 8.0, 0.0, 4.0, 1.0]);
        let q = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0];
        // Scores 0 and ln 3: weights 1/4 and 3/4; for the second head 0 and -ln 3: 3/4 and 1/4.
        let y = reference(&[[0, 1, 0, 0]], &[1], 1, &q, (&keys, &values), &[], &op);
        for (got, want) in y.iter().zip([7.0, 2.0, 3.0, 1.0, 5.0, 6.0, 1.0, 1.0]) {
            assert!((got - want).abs() < 1e-6, "{y:?}");
        }
        let first = reference(&[[0, 0, 0, 0]], &[1], 1, &q, (&keys, &values), &[], &op);
        assert_eq!(first, [4.0, 8.0, 0.0, 1.0, 4.0, 8.0, 0.0, 1.0]);
    }

    #[test]
    fn what_is_seen_ends_behind_a_window_or_the_chunks_beginning() {
        let first = |reach: MaskKind| [0, 3, 4, 7, 8].map(|position| reach.first(position));
        assert_eq!(first(MaskKind::Causal), [0; 5]);
        assert_eq!(first(MaskKind::SlidingWindow(4)), [0, 0, 1, 4, 5]);
        assert_eq!(first(MaskKind::Chunked(4)), [0, 0, 4, 4, 8]);
    }

    #[test]
    fn caps_temperature_and_sinks_change_the_weights() {
        let ln3 = 3f32.ln();
        // One head of four; keys give the scores 0 and 2 ln 3, values are 0 and 1.
        let mut keys = vec![0.0; 32 * 4];
        keys[4] = 2.0 * ln3;
        let mut values = vec![0.0; 32 * 4];
        values[4] = 1.0;
        let plain = Attention { scale: 1.0, ..Attention::full(1, 1, 4) };
        let y = |sinks: &[f32], op: Attention| {
            reference(&[[0, 1, 0, 0]], &[0], 1, &[1.0, 0.0, 0.0, 0.0], (&keys, &values), sinks, &op)[0]
        };
        let close = |got: f32, want: f32| assert!((got - want).abs() < 1e-6, "{got} is not {want}");
        close(y(&[], plain.clone()), 9.0 / 10.0);
        close(y(&[], Attention { mask: MaskKind::SlidingWindow(1), ..plain.clone() }), 1.0);
        // tanh(2 ln 3) = 40/41.
        let e = (40f32 / 41.0).exp();
        close(y(&[], Attention { softcap: Some(1.0), ..plain.clone() }), e / (1.0 + e));
        // One step of one position: the factor is 1 + ln 2 / ln 2 = 2.
        let temperature = Some(AttentionTemperature { floor_scale: 1, attn_scale: 1.0 / 2f32.ln(), offset: 0 });
        close(y(&[], Attention { temperature, ..plain.clone() }), 81.0 / 82.0);
        close(y(&[10f32.ln()], Attention { sinks: true, ..plain }), 9.0 / 20.0);
    }
}
