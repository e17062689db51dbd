//! The memory planner: whether a model fits a device, and with which context, KV cache type and resident experts. It
//! needs only the file's header; no weight is read.

use std::collections::BTreeSet;

use crate::gpu::Caps;
use crate::graph::{Graph, MaskKind, Op, Rows, TensorId, TensorKind};
use crate::model::Model;
use crate::model::decoder::{self, Recording};
use crate::model::expert_slots::OffloadedLayer;
use crate::model::spec::ModelSpec;
use crate::ops::{self, Capacity, KvType, PAGE, SlidingPages};
use crate::plan::{DispatchList, PlanOptions, fuse::Fuse};
use crate::setters::setters;
use crate::{Error, Result};

/// How to open a session. The defaults suit most uses: `SessionOptions::default().context(8192)`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Positions per sequence; by default what the model was trained for, at most 4096, fewer if they do not fit.
    pub context: Option<u32>,
    /// Concurrent sequences.
    pub sequences: u32,
    /// Rows of a prefill step (the prefill chunk).
    pub chunk: u32,
    /// Rows that can have logits in one step; at least one per sequence.
    pub logits: u32,
    /// Output slots, each with its own sampling parameters and penalty counts; at least one per sequence. More let one
    /// sequence sample several rows of a step.
    pub outputs: u32,
    /// Vectors that rows can take as their input instead of a token's embedding.
    pub input_embeddings: u32,
    /// Whether the plan has the output head and the sampler. Without them it ends with the hidden states and takes less
    /// memory; the session then only embeds texts.
    pub output_head: bool,
    /// Bytes of device memory to use at most; by default all that is free.
    pub memory: Option<u64>,
    /// Type of the KV cache; by default f16, or q8_0 where only that leaves a usable context.
    pub kv: Option<KvType>,
    /// Decode steps queued before the first result is read (pipeline depth).
    pub run_ahead: u32,
    /// Target duration of one submit of a prefill step, in seconds. Drivers reset the GPU after about two seconds, and
    /// the desktop cannot draw during a submit.
    pub submit_seconds: f64,
    /// Enabled fusions.
    pub fuse: Fuse,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            context: None,
            sequences: 1,
            chunk: 512,
            logits: 1,
            outputs: 1,
            input_embeddings: 0,
            output_head: true,
            memory: None,
            kv: None,
            run_ahead: 4,
            submit_seconds: 0.25,
            fuse: Fuse::ALL,
        }
    }
}

setters!(SessionOptions {
    context: impl Into<Option<u32>>,
    sequences: u32,
    chunk: u32,
    logits: u32,
    outputs: u32,
    input_embeddings: u32,
    output_head: bool,
    memory: impl Into<Option<u64>>,
    kv: impl Into<Option<KvType>>,
    run_ahead: u32,
    submit_seconds: f64,
    fuse: Fuse,
});

/// A model recorded and planned for a device's limits.
#[non_exhaustive]
pub struct MemoryPlan {
    /// The dispatches and allocations.
    pub dispatch_list: DispatchList,
    /// Its logits, if it has an output head.
    pub logits: Option<TensorId>,
    /// Its last hidden states.
    pub hidden: TensorId,
    /// Positions per sequence.
    pub context: u32,
    /// Layers with offloaded experts.
    pub offloaded: Vec<OffloadedLayer>,
    /// Warnings for the user.
    pub notices: Vec<String>,
}

/// The default context is at most this, since its cache is allocated up front.
const DEFAULT_CONTEXT: u32 = 4096;
/// The cache's type is reduced before the context becomes smaller than this.
pub const USABLE_CONTEXT: u32 = 4096;
/// The default context is never smaller than this: it would not hold a conversation.
const LEAST_CONTEXT: u32 = 256;

/// Chooses the context (up to 4096 positions, unless `options` ask for more), the KV cache's type and, if not all
/// experts fit, how many stay resident; then lists the dispatches and allocations.
///
/// # Errors
/// [`Error::DoesNotFit`] if the model exceeds what the device can bind or has free, with the smallest change that would
/// help; [`Error::Usage`] if the cache type does not support the model's head size.
pub fn plan_memory(model: &Model, caps: &Caps, options: &SessionOptions) -> Result<MemoryPlan> {
    Planner { model, caps, options, resident_experts: None }.choose(DEFAULT_CONTEXT)
}

/// As [`plan_memory`], with the largest context that fits, up to what the model was trained for.
///
/// # Errors
/// As [`plan_memory`].
pub fn plan_max_context(model: &Model, caps: &Caps, options: &SessionOptions) -> Result<MemoryPlan> {
    Planner { model, caps, options, resident_experts: None }.choose(u32::MAX)
}

#[derive(Clone, Copy)]
struct Planner<'a> {
    model: &'a Model,
    caps: &'a Caps,
    options: &'a SessionOptions,
    /// See [`Recording::resident_experts`].
    resident_experts: Option<f64>,
}

impl Planner<'_> {
    fn choose(&self, most: u32) -> Result<MemoryPlan> {
        let trained = self.model.spec.context_length;
        let wish = self.options.context.unwrap_or(trained.min(most));
        if wish == 0 {
            return Err(Error::Usage("a context of 0 positions holds nothing".into()));
        }
        let kv_types = self.kv_types()?;
        let enough = self.options.context.unwrap_or(wish.min(USABLE_CONTEXT));
        let mut best: Option<MemoryPlan> = None;
        for kv in &kv_types {
            let Some(plan) = self.largest(*kv, wish)? else { continue };
            let first = best.as_ref().map_or(0, |best| best.context);
            if plan.context > first {
                best = Some(plan);
            }
            if best.as_ref().is_some_and(|best| best.context >= enough) {
                break;
            }
        }
        if self.model.spec.moes().next().is_some() && best.as_ref().is_none_or(|best| best.context < enough) {
            best = self.offload_experts(&kv_types, enough)?.or(best);
        }
        let least = self.options.context.unwrap_or(wish.min(LEAST_CONTEXT));
        let Some(mut plan) = best.filter(|best| best.context >= least) else {
            return Err(self.refusal(&kv_types, wish));
        };
        self.notices(&mut plan, wish, most);
        Ok(plan)
    }

    /// Possible types of the KV cache, the best first.
    fn kv_types(&self) -> Result<Vec<KvType>> {
        match self.options.kv {
            Some(kv) => match self.unsupported_head(kv) {
                Some(head_dim) => Err(Error::Usage(format!(
                    "keys and values of {head_dim} values a head cannot be stored in {}, whose blocks have 32: take \
                     f16",
                    kv.name()
                ))),
                None => Ok(vec![kv]),
            },
            None => {
                Ok([KvType::F16, KvType::Q8_0].into_iter().filter(|kv| self.unsupported_head(*kv).is_none()).collect())
            }
        }
    }

    /// The size of a head that this cache type does not support, if there is one.
    fn unsupported_head(&self, kv: KvType) -> Option<u32> {
        self.model.spec.kv_caches().map(|cache| cache.head_dim).find(|head_dim| !kv.takes(*head_dim))
    }

    /// The largest context up to `wish` that fits; whole pages, unless it is `wish`.
    fn largest(&self, kv: KvType, wish: u32) -> Result<Option<MemoryPlan>> {
        match self.list_if_fits(kv, wish)? {
            Some(plan) => Ok(Some(plan)),
            None => last_that_fits(None, wish.div_ceil(PAGE), |pages| self.list_if_fits(kv, pages * PAGE)),
        }
    }

    /// The plan with as many resident experts as fit with this context.
    fn offload_experts(&self, kv_types: &[KvType], context: u32) -> Result<Option<MemoryPlan>> {
        const STEPS: u32 = 256;
        let fits = |kv, steps: u32| {
            let resident_experts = Some(f64::from(steps) / f64::from(STEPS));
            Planner { resident_experts, ..*self }.list_if_fits(kv, context)
        };
        for kv in kv_types {
            if let Some(least) = fits(*kv, 0)? {
                return last_that_fits(Some(least), STEPS, |steps| fits(*kv, steps));
            }
        }
        Ok(None)
    }

    /// The plan for this context, if it fits.
    fn list_if_fits(&self, kv: KvType, context: u32) -> Result<Option<MemoryPlan>> {
        match self.list(kv, context) {
            Ok(plan) => Ok(Some(plan)),
            Err(Error::DoesNotFit { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The plan for this context.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] if it does not fit; without advice.
    fn list(&self, kv: KvType, context: u32) -> Result<MemoryPlan> {
        let Planner { model, caps, options, resident_experts } = *self;
        let spec = &model.spec;
        let limit = caps.bindable();
        let sequences = options.sequences.max(1);
        let outputs = options.outputs.max(sequences);
        let pages_per_sequence = context.div_ceil(PAGE);
        let pages = u64::from(pages_per_sequence) * u64::from(sequences);
        let rows = options.chunk.clamp(1, pages_per_sequence * PAGE).max(sequences);
        let sliding = sliding_pages(spec, rows, pages_per_sequence, sequences);
        let whole = spec.kv_caches().filter(|cache| sliding.is_none() || cache.mask == MaskKind::Causal);
        let position = whole.map(|cache| kv.bytes(cache.heads, cache.head_dim)).max();
        let layer = pages.saturating_mul(u64::from(PAGE) * position.unwrap_or(0));
        if layer > limit || pages > 1 << 24 {
            let (needs, allows) = (layer >> 20, limit >> 20);
            let message = format!(
                "a context of {context} for {sequences} sequences needs {needs} MiB in one binding, this adapter \
                 allows \
                 {allows}"
            );
            return Err(Error::DoesNotFit { message, needed: layer, available: limit });
        }
        let output_head = options.output_head;
        let recording = Recording { context, sliding: sliding.is_some(), resident_experts, output_head };
        let recorded = decoder::record(spec, recording);
        check_weights(&recorded.graph, limit)?;
        let capacity = Capacity {
            rows,
            logits: options.logits.max(outputs),
            sequences,
            outputs,
            embeddings: options.input_embeddings,
            pages: pages as u32,
            pages_per_sequence,
            sliding,
            kv,
        };
        let plan =
            PlanOptions { fuse: options.fuse, keep: recorded.logits.into_iter().chain([recorded.hidden]).collect() };
        let dispatch_list = DispatchList::new(recorded.graph, caps, capacity, &plan);
        if let Some(shader) = dispatch_list.oversized(caps) {
            let message = format!("{shader} runs more workgroups for {rows} rows than this adapter allows");
            return Err(Error::DoesNotFit { message, needed: 0, available: 0 });
        }
        let (largest, name) = dispatch_list.largest_binding();
        if largest > limit {
            let (takes, binds) = (largest >> 20, limit >> 20);
            let message = format!("{name} takes {takes} MiB, this adapter binds {binds} MiB at most");
            return Err(Error::DoesNotFit { message, needed: largest, available: limit });
        }
        let free = [caps.memory, options.memory].into_iter().flatten().min().unwrap_or(u64::MAX);
        let needed = dispatch_list.bytes().total();
        if needed > free {
            let message = format!(
                "the model needs {} MiB with a context of {context} in {}, {} MiB {}",
                needed.div_ceil(1 << 20),
                kv.name(),
                free >> 20,
                if options.memory == Some(free) { "are allowed" } else { "are free on this adapter" }
            );
            return Err(Error::DoesNotFit { message, needed, available: free });
        }
        let decoder::Decoder { logits, hidden, offloaded, .. } = recorded;
        Ok(MemoryPlan { dispatch_list, logits, hidden, context, offloaded, notices: Vec::new() })
    }

    /// Why `wish` positions do not fit, and the smallest change that would help.
    fn refusal(&self, kv_types: &[KvType], wish: u32) -> Error {
        let kv = *kv_types.last().expect("f16 takes any head");
        let one = SessionOptions { sequences: 1, ..self.options.clone() };
        let alone = Planner { options: &one, ..*self };
        let advice = match (self.list(kv, wish.min(LEAST_CONTEXT)), self.largest(kv, wish)) {
            (Ok(_), Ok(Some(plan))) => {
                let smaller = kv != KvType::Q8_0 && self.unsupported_head(KvType::Q8_0).is_none();
                let or = if smaller && self.list(KvType::Q8_0, wish).is_ok() { ", or --kv q8_0" } else { "" };
                format!("take --context {}{or}", plan.context)
            }
            _ if alone.list(kv, wish.min(LEAST_CONTEXT)).is_ok() => "use fewer sequences at once".into(),
            _ => "use a smaller quantization".into(),
        };
        match self.list(kv, wish) {
            Err(Error::DoesNotFit { message, needed, available }) => {
                Error::DoesNotFit { message: format!("{message}: {advice}"), needed, available }
            }
            Err(error) => error,
            Ok(_) => unreachable!("a context that fits was refused"),
        }
    }

    /// Warns about reduced settings, and a context beyond the trained one.
    fn notices(&self, plan: &mut MemoryPlan, wish: u32, most: u32) {
        let (spec, context, kv) = (&self.model.spec, plan.context, plan.dispatch_list.capacity.kv);
        if self.options.kv.is_none() && kv != KvType::F16 {
            let name = kv.name();
            plan.notices.push(format!("the KV cache is stored in {name}: with f16 no usable context fits"));
        }
        if !plan.offloaded.is_empty() {
            plan.notices.push(experts_notice(&plan.dispatch_list.graph, &plan.offloaded));
        }
        if context < wish && most == DEFAULT_CONTEXT {
            plan.notices.push(format!("the context is {context} instead of {wish}: this adapter holds no more"));
        }
        if context > spec.context_length {
            let trained = spec.context_length;
            plan.notices.push(format!("the model was trained for {trained} positions, the context has {context}"));
        }
    }
}

/// Bisects for the plan of the largest number below `beyond` that fits; `best` is the plan of 0.
fn last_that_fits(
    mut best: Option<MemoryPlan>,
    mut beyond: u32,
    list: impl Fn(u32) -> Result<Option<MemoryPlan>>,
) -> Result<Option<MemoryPlan>> {
    let mut fits = 0;
    while fits + 1 < beyond {
        let middle = fits.midpoint(beyond);
        match list(middle)? {
            Some(plan) => (best, fits) = (Some(plan), middle),
            None => beyond = middle,
        }
    }
    Ok(best)
}

/// How many experts stay resident, and the cost of reading the others.
fn experts_notice(graph: &Graph, offloaded: &[OffloadedLayer]) -> String {
    let stacks: BTreeSet<TensorId> = offloaded.iter().map(|layer| layer.stacks[0]).collect();
    let room: u32 = stacks.iter().map(|stack| graph.experts_of(*stack)).sum();
    let all: u32 = offloaded.iter().map(|layer| graph.cols(layer.places)).sum();
    let bytes = |layer: &OffloadedLayer| {
        let used = match graph.tensor(layer.ids).rows {
            Rows::Routed(used) => u64::from(used),
            _ => 0,
        };
        let expert = layer.parts.iter().map(|part| u64::from(part.rows()) * part.row_bytes()).sum::<u64>();
        expert * used
    };
    let token = offloaded.iter().map(bytes).sum::<u64>() as f64 * f64::from(all - room.min(all)) / f64::from(all);
    let mib = token / f64::from(1 << 20);
    format!(
        "{room} of {all} experts fit; the others are read from the file on demand: {mib:.0} MiB per token if all are \
         used \
         equally, {:.1} tokens per second at 2 GB/s",
        2e9 / token.max(1.0)
    )
}

/// The pages of layers with a sliding window or chunks, if they need fewer than the others.
fn sliding_pages(spec: &ModelSpec, rows: u32, pages_per_sequence: u32, sequences: u32) -> Option<SlidingPages> {
    let span = spec.kv_caches().filter_map(|cache| cache.mask.span()).max()?;
    let pages = SlidingPages::pages_per_sequence(span, rows);
    (pages < pages_per_sequence).then_some(SlidingPages { window: span, pages: pages * sequences })
}

/// Matrices are split by rows over bindings; the smallest piece must fit into one.
fn check_weights(graph: &Graph, limit: u64) -> Result<()> {
    for (i, t) in graph.tensors.iter().enumerate() {
        let TensorKind::Weight { dtype, experts, .. } = t.kind else { continue };
        let unit = ops::shard_unit(graph.fixed_rows(TensorId(i)), experts);
        if ops::shard_rows(dtype, t.cols, unit, limit) == 0 {
            let message = format!("a piece of {} exceeds the {} MiB that this adapter can bind", t.name, limit >> 20);
            return Err(Error::DoesNotFit { message, needed: dtype.gpu_bytes(unit, t.cols), available: limit });
        }
    }
    Ok(())
}

/// Multiplications and additions per row, without attention.
pub fn flops_per_row(graph: &Graph) -> f64 {
    let weight = |id: &TensorId, most: u32| match graph.tensor(*id).kind {
        TensorKind::Weight { experts, .. } => {
            let values = f64::from(graph.fixed_rows(*id)) * f64::from(graph.cols(*id));
            values / f64::from(experts) * f64::from(experts.min(most))
        }
        _ => 0.0,
    };
    // A row uses a few of the experts, but all heads.
    let node = |op: &Op| match op {
        Op::Embed(..) => 0.0,
        Op::HeadLinear(_, io) => weight(&io.weight, u32::MAX),
        _ => op.inputs().iter().map(|id| weight(id, 8)).sum(),
    };
    graph.nodes.iter().map(node).sum::<f64>() * 2.0
}
