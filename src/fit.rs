//! Does a model fit a device, and with which context? Known from the header alone, before a weight is read.

use crate::gpu::Caps;
use crate::graph::{Graph, Kind, TensorId};
use crate::model::{Model, decoder};
use crate::ops::{Capacity, KvType, Op, PAGE};
use crate::plan::{Listing, Options as PlanOptions, fuse::Fuse};
use crate::{Error, Result};

/// How to open a session. The default needs no thought.
#[derive(Clone, Debug)]
pub struct Options {
    /// Positions a sequence may have; by default what the model was trained for, at most 4096, less if it must.
    pub context: Option<u32>,
    /// Sequences at once.
    pub sequences: u32,
    /// Rows of a prefill step.
    pub chunk: u32,
    /// Rows that may want logits in one step, at least one for each sequence.
    pub logits: u32,
    /// How the KV cache is stored.
    pub kv: KvType,
    /// Decode steps queued before the first is read.
    pub run_ahead: u32,
    /// A submit of a prompt's step shall not take longer: drivers kill what runs for two seconds, and what else the
    /// GPU draws has to wait for it.
    pub submit_seconds: f64,
    /// Which fusions run.
    pub fuse: Fuse,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            context: None,
            sequences: 1,
            chunk: 512,
            logits: 1,
            kv: KvType::F16,
            run_ahead: 4,
            submit_seconds: 0.25,
            fuse: Fuse::ALL,
        }
    }
}

/// A model recorded for a device's limits.
pub struct Fitted {
    /// What will be dispatched and allocated.
    pub listing: Listing,
    /// The logits in it.
    pub logits: TensorId,
    /// The last hidden states in it.
    pub hidden: TensorId,
    /// Positions that a sequence may have.
    pub context: u32,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// Without a wish, a context is not larger than this: its cache is allocated at once.
const DEFAULT_CONTEXT: u32 = 4096;

/// Chooses the context and lists the plan.
///
/// # Errors
/// [`Error::Limit`] if a matrix or the cache exceeds what the device can bind, with the change that would help.
pub fn fit(model: &Model, caps: &Caps, options: &Options) -> Result<Fitted> {
    let config = &model.config;
    let mut notices = Vec::new();
    let limit = caps.max_binding.min(caps.max_buffer);
    let page_bytes = u64::from(config.kv_heads * config.head_dim * PAGE) * options.kv.bytes();
    let sequences = options.sequences.max(1);
    let fitting = (limit / page_bytes / u64::from(sequences)).min(1 << 24) as u32 * PAGE;
    if fitting == 0 {
        return Err(Error::Limit(format!("{sequences} sequences do not fit one binding; use fewer")));
    }
    let context = match options.context {
        Some(0) => return Err(Error::Usage("a context of 0 positions holds nothing".into())),
        Some(wish) if wish > fitting => {
            return Err(Error::Limit(format!(
                "a context of {wish} needs {} MiB in one binding, this adapter allows {}: take --context {fitting}",
                (u64::from(wish.div_ceil(PAGE)) * page_bytes * u64::from(sequences)) >> 20,
                limit >> 20
            )));
        }
        Some(wish) => {
            if wish > config.context {
                let trained = config.context;
                notices.push(format!("the model was trained for {trained} positions, the context has {wish}"));
            }
            wish
        }
        None => {
            let wish = config.context.min(DEFAULT_CONTEXT);
            if wish > fitting {
                notices.push(format!("the context is {fitting} instead of {wish}: one binding holds no more"));
            }
            wish.min(fitting)
        }
    };
    if let Some(window) = config.window.filter(|window| context > *window) {
        notices.push(format!(
            "the model was trained to look back {window} positions; here it looks back over all {context}"
        ));
    }
    let recorded = decoder::record(&model.checkpoint, config, context)?;
    check_weights(&recorded.graph, limit)?;
    let pages_per_sequence = context.div_ceil(PAGE);
    let capacity = Capacity {
        rows: options.chunk.clamp(1, pages_per_sequence * PAGE).max(sequences),
        logits: options.logits.max(sequences),
        sequences,
        pages: pages_per_sequence * sequences,
        pages_per_sequence,
        kv: options.kv,
    };
    let plan = PlanOptions { fuse: options.fuse, keep: vec![recorded.logits, recorded.hidden] };
    let listing = Listing::new(recorded.graph, caps, capacity, &plan);
    let (largest, name) = listing.largest_binding();
    if largest > limit {
        return Err(Error::Limit(format!(
            "{name} takes {} MiB, this adapter binds {} MiB at most: take a smaller --context",
            largest >> 20,
            limit >> 20
        )));
    }
    let (needed, free) = (listing.bytes().total(), caps.memory.unwrap_or(u64::MAX));
    if needed > free {
        return Err(Error::Limit(format!(
            "the model needs {} MiB with a context of {context}, this adapter has {} MiB free: take a file of smaller \
             weights, or a smaller --context",
            needed >> 20,
            free >> 20
        )));
    }
    Ok(Fitted { listing, logits: recorded.logits, hidden: recorded.hidden, context, notices })
}

/// Matrices are split by rows over bindings; the smallest piece must fit one.
fn check_weights(graph: &Graph, limit: u64) -> Result<()> {
    for (i, t) in graph.tensors.iter().enumerate() {
        let Kind::Weight { dtype, experts } = t.kind else { continue };
        let rows = graph.fixed_rows(TensorId(i));
        let unit = if experts > 1 { rows / experts } else { crate::ops::SHARD_UNIT };
        if dtype.gpu_bytes(unit, t.cols) + 64 > limit {
            let (name, mib) = (&t.name, limit >> 20);
            return Err(Error::Limit(format!(
                "a piece of {name} exceeds the {mib} MiB that this adapter can bind: take a smaller model or type"
            )));
        }
    }
    Ok(())
}

/// Multiplications and additions that one row costs, attention not counted.
pub fn flops_a_row(graph: &Graph) -> f64 {
    let weight = |id: &TensorId| match graph.tensor(*id).kind {
        Kind::Weight { experts, .. } => {
            let values = f64::from(graph.fixed_rows(*id)) * f64::from(graph.cols(*id));
            values / f64::from(experts) * f64::from(experts.min(8))
        }
        _ => 0.0,
    };
    let matrices = graph.nodes.iter().filter(|n| !matches!(n.op, Op::Embed(_)));
    matrices.flat_map(|n| n.inputs.iter().map(weight)).sum::<f64>() * 2.0
}
