//! Does a model fit a device, and with which context? Known from the header alone, before a weight is read.

use std::collections::BTreeSet;

use crate::gpu::Caps;
use crate::graph::{Graph, Kind, Node, Rows, TensorId};
use crate::model::Model;
use crate::model::config::Config;
use crate::model::decoder::{self, Recording};
use crate::model::rooms::StreamedLayer;
use crate::ops::attention::Reach;
use crate::ops::{self, Capacity, KvType, Near, Op, PAGE};
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
    /// Bytes of the device's memory that may be taken; by default all that are free.
    pub memory: Option<u64>,
    /// How the KV cache is stored; by default in f16, in q8_0 where that alone leaves a usable context.
    pub kv: Option<KvType>,
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
            memory: None,
            kv: None,
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
    /// Layers whose experts come and go.
    pub streamed: Vec<StreamedLayer>,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// Without a wish, a context is not larger than this: its cache is allocated at once.
const DEFAULT_CONTEXT: u32 = 4096;
/// Before a context is made smaller than this, the cache's type is.
pub const USABLE_CONTEXT: u32 = 4096;
/// A context that nobody asked for is not made smaller than this: it would hold no conversation.
const LEAST_CONTEXT: u32 = 256;

/// Chooses the context, up to 4096 positions unless `options` ask for more, and how the cache is stored, and lists the
/// plan.
///
/// # Errors
/// [`Error::Limit`] if the model exceeds what the device can bind or has free, with the smallest change that would help;
/// [`Error::Usage`] if the cache's type does not take the model's heads.
pub fn fit(model: &Model, caps: &Caps, options: &Options) -> Result<Fitted> {
    Place { model, caps, options, experts: None }.choose(DEFAULT_CONTEXT)
}

/// The same with the largest context that fits, up to what the model was trained for.
///
/// # Errors
/// As [`fit`].
pub fn widest(model: &Model, caps: &Caps, options: &Options) -> Result<Fitted> {
    Place { model, caps, options, experts: None }.choose(u32::MAX)
}

/// What is to be placed where.
#[derive(Clone, Copy)]
struct Place<'a> {
    model: &'a Model,
    caps: &'a Caps,
    options: &'a Options,
    /// See [`Recording::experts`].
    experts: Option<f64>,
}

impl Place<'_> {
    fn choose(&self, most: u32) -> Result<Fitted> {
        let trained = self.model.config.context;
        let wish = self.options.context.unwrap_or(trained.min(most));
        if wish == 0 {
            return Err(Error::Usage("a context of 0 positions holds nothing".into()));
        }
        let kinds = self.kinds()?;
        let enough = self.options.context.unwrap_or(wish.min(USABLE_CONTEXT));
        let mut best: Option<Fitted> = None;
        for kv in &kinds {
            let Some(fitted) = self.largest(*kv, wish)? else { continue };
            let first = best.as_ref().map_or(0, |best| best.context);
            if fitted.context > first {
                best = Some(fitted);
            }
            if best.as_ref().is_some_and(|best| best.context >= enough) {
                break;
            }
        }
        if self.model.config.experts.is_some() && best.as_ref().is_none_or(|best| best.context < enough) {
            best = self.streamed(&kinds, enough)?.or(best);
        }
        let least = self.options.context.unwrap_or(wish.min(LEAST_CONTEXT));
        let Some(mut fitted) = best.filter(|best| best.context >= least) else {
            return Err(self.refusal(&kinds, wish));
        };
        self.notices(&mut fitted, wish, most);
        Ok(fitted)
    }

    /// How the cache may be stored, the best first.
    fn kinds(&self) -> Result<Vec<KvType>> {
        match self.options.kv {
            Some(kv) => match self.refused(kv) {
                Some(head_dim) => Err(Error::Usage(format!(
                    "keys and values of {head_dim} values a head cannot be stored in {}, whose blocks have 32: take f16",
                    kv.name()
                ))),
                None => Ok(vec![kv]),
            },
            None => Ok([KvType::F16, KvType::Q8_0].into_iter().filter(|kv| self.refused(*kv).is_none()).collect()),
        }
    }

    /// The size of a head that cannot be stored so, if there is one.
    fn refused(&self, kv: KvType) -> Option<u32> {
        self.model.config.layers.iter().map(|layer| layer.head_dim).find(|head_dim| !kv.takes(*head_dim))
    }

    /// The largest context up to `wish` that fits, in whole pages unless it is `wish`.
    fn largest(&self, kv: KvType, wish: u32) -> Result<Option<Fitted>> {
        let fits = |context| match self.list(kv, context) {
            Ok(fitted) => Ok(Some(fitted)),
            Err(Error::Limit(_)) => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(fitted) = fits(wish)? {
            return Ok(Some(fitted));
        }
        let (mut best, mut pages, mut beyond) = (None, 0, wish.div_ceil(PAGE));
        while pages + 1 < beyond {
            let middle = pages.midpoint(beyond);
            match fits(middle * PAGE)? {
                Some(fitted) => (best, pages) = (Some(fitted), middle),
                None => beyond = middle,
            }
        }
        Ok(best)
    }

    /// The plan with room for as many experts as fit beside the rest and this context.
    fn streamed(&self, kinds: &[KvType], context: u32) -> Result<Option<Fitted>> {
        const STEPS: u32 = 256;
        let fits = |kv, steps: u32| {
            let place = Place { experts: Some(f64::from(steps) / f64::from(STEPS)), ..*self };
            match place.list(kv, context) {
                Ok(fitted) => Ok(Some(fitted)),
                Err(Error::Limit(_)) => Ok(None),
                Err(error) => Err(error),
            }
        };
        for kv in kinds {
            let Some(mut best) = fits(*kv, 0)? else { continue };
            let (mut steps, mut beyond) = (0, STEPS);
            while steps + 1 < beyond {
                let middle = steps.midpoint(beyond);
                match fits(*kv, middle)? {
                    Some(fitted) => (best, steps) = (fitted, middle),
                    None => beyond = middle,
                }
            }
            return Ok(Some(best));
        }
        Ok(None)
    }

    /// The plan for this context.
    ///
    /// # Errors
    /// [`Error::Limit`] if it does not fit, without advice.
    fn list(&self, kv: KvType, context: u32) -> Result<Fitted> {
        let Place { model, caps, options, experts } = *self;
        let config = &model.config;
        let limit = caps.bindable();
        let sequences = options.sequences.max(1);
        let pages_per_sequence = context.div_ceil(PAGE);
        let pages = u64::from(pages_per_sequence) * u64::from(sequences);
        let rows = options.chunk.clamp(1, pages_per_sequence * PAGE).max(sequences);
        let near = near(config, rows, pages_per_sequence, sequences);
        let whole = config.layers.iter().filter(|layer| near.is_none() || layer.reach == Reach::All);
        let position = whole.map(|layer| kv.bytes(layer.kv_heads, layer.head_dim)).max();
        let layer = pages.saturating_mul(u64::from(PAGE) * position.unwrap_or(0));
        if layer > limit || pages > 1 << 24 {
            return Err(Error::Limit(format!(
                "a context of {context} for {sequences} sequences needs {} MiB in one binding, this adapter allows {}",
                layer >> 20,
                limit >> 20
            )));
        }
        let recorded =
            decoder::record(&model.checkpoint, config, Recording { context, near: near.is_some(), experts })?;
        check_weights(&recorded.graph, limit)?;
        let capacity = Capacity {
            rows,
            logits: options.logits.max(sequences),
            sequences,
            pages: pages as u32,
            pages_per_sequence,
            near,
            kv,
        };
        let plan = PlanOptions { fuse: options.fuse, keep: vec![recorded.logits, recorded.hidden] };
        let listing = Listing::new(recorded.graph, caps, capacity, &plan);
        if let Some(shader) = listing.oversized(caps) {
            return Err(Error::Limit(format!(
                "{shader} runs more workgroups for {rows} rows than this adapter allows"
            )));
        }
        let (largest, name) = listing.largest_binding();
        if largest > limit {
            let (takes, binds) = (largest >> 20, limit >> 20);
            return Err(Error::Limit(format!("{name} takes {takes} MiB, this adapter binds {binds} MiB at most")));
        }
        let free = [caps.memory, options.memory].into_iter().flatten().min().unwrap_or(u64::MAX);
        let needed = listing.bytes().total();
        if needed > free {
            return Err(Error::Limit(format!(
                "the model needs {} MiB with a context of {context} in {}, {} MiB {}",
                needed.div_ceil(1 << 20),
                kv.name(),
                free >> 20,
                if options.memory == Some(free) { "are allowed" } else { "are free on this adapter" }
            )));
        }
        let decoder::Decoder { logits, hidden, streamed, .. } = recorded;
        Ok(Fitted { listing, logits, hidden, context, streamed, notices: Vec::new() })
    }

    /// Why `wish` positions do not fit, and the smallest change that would help.
    fn refusal(&self, kinds: &[KvType], wish: u32) -> Error {
        let kv = *kinds.last().expect("f16 takes any head");
        let one = Options { sequences: 1, ..self.options.clone() };
        let alone = Place { options: &one, ..*self };
        let advice = match (self.list(kv, wish.min(LEAST_CONTEXT)), self.largest(kv, wish)) {
            (Ok(_), Ok(Some(fitted))) => {
                let smaller = kv != KvType::Q8_0 && self.refused(KvType::Q8_0).is_none();
                let or = if smaller && self.list(KvType::Q8_0, wish).is_ok() { ", or --kv q8_0" } else { "" };
                format!("take --context {}{or}", fitted.context)
            }
            _ if alone.list(kv, wish.min(LEAST_CONTEXT)).is_ok() => "use fewer sequences at once".into(),
            _ => "take a file of smaller weights".into(),
        };
        match self.list(kv, wish) {
            Err(Error::Limit(why)) => Error::Limit(format!("{why}: {advice}")),
            Err(error) => error,
            Ok(_) => Error::Limit(advice),
        }
    }

    /// What gave way, and what the model was not made for.
    fn notices(&self, fitted: &mut Fitted, wish: u32, most: u32) {
        let (config, context, kv) = (&self.model.config, fitted.context, fitted.listing.capacity.kv);
        if self.options.kv.is_none() && kv != KvType::F16 {
            let name = kv.name();
            fitted.notices.push(format!("keys and values are stored in {name}: in f16 a usable context does not fit"));
        }
        if !fitted.streamed.is_empty() {
            fitted.notices.push(experts_notice(&fitted.listing.graph, &fitted.streamed));
        }
        if context < wish && most == DEFAULT_CONTEXT {
            fitted.notices.push(format!("the context is {context} instead of {wish}: this adapter holds no more"));
        }
        if context > config.context {
            let trained = config.context;
            fitted.notices.push(format!("the model was trained for {trained} positions, the context has {context}"));
        }
    }
}

/// How many experts there is room for, and what that costs.
fn experts_notice(graph: &Graph, streamed: &[StreamedLayer]) -> String {
    let stacks: BTreeSet<TensorId> = streamed.iter().map(|layer| layer.stacks[0]).collect();
    let room: u32 = stacks.iter().map(|stack| graph.experts_of(*stack)).sum();
    let all: u32 = streamed.iter().map(|layer| graph.cols(layer.places)).sum();
    let bytes = |layer: &StreamedLayer| {
        let used = match graph.tensor(layer.ids).rows {
            Rows::Slots(used) => u64::from(used),
            _ => 0,
        };
        let expert = layer.parts.iter().map(|part| part.rows as u64 * part.tensor.row_bytes()).sum::<u64>();
        expert * used
    };
    let token = streamed.iter().map(bytes).sum::<u64>() as f64 * f64::from(all - room.min(all)) / f64::from(all);
    let mib = token / f64::from(1 << 20);
    format!(
        "{room} of {all} experts fit; the others are read from the file as they are wanted: were all wanted alike, {mib:.0} \
         MiB a token, at 2 GB/s {:.1} tokens a second",
        2e9 / token.max(1.0)
    )
}

/// The pages of layers with windows or chunks, if they need fewer than the others.
fn near(config: &Config, rows: u32, pages_per_sequence: u32, sequences: u32) -> Option<Near> {
    let span = config.layers.iter().filter_map(|layer| layer.reach.span()).max()?;
    let pages = Near::pages_per_sequence(span, rows);
    (pages < pages_per_sequence).then_some(Near { span, pages: pages * sequences })
}

/// Matrices are split by rows over bindings; the smallest piece must fit one.
fn check_weights(graph: &Graph, limit: u64) -> Result<()> {
    for (i, t) in graph.tensors.iter().enumerate() {
        let Kind::Weight { dtype, experts, .. } = t.kind else { continue };
        let unit = ops::shard_unit(graph.fixed_rows(TensorId(i)), experts);
        if ops::shard_rows(dtype, t.cols, unit, limit) == 0 {
            let (name, mib) = (&t.name, limit >> 20);
            return Err(Error::Limit(format!("a piece of {name} exceeds the {mib} MiB that this adapter can bind")));
        }
    }
    Ok(())
}

/// Multiplications and additions that one row costs, attention not counted.
pub fn flops_a_row(graph: &Graph) -> f64 {
    let weight = |id: &TensorId, most: u32| match graph.tensor(*id).kind {
        Kind::Weight { experts, .. } => {
            let values = f64::from(graph.fixed_rows(*id)) * f64::from(graph.cols(*id));
            values / f64::from(experts) * f64::from(experts.min(most))
        }
        _ => 0.0,
    };
    // Of experts a row meets a few, of heads all.
    let node = |node: &Node| match node.op {
        Op::Embed(_) => 0.0,
        Op::HeadLinear(_) => weight(&node.inputs[1], u32::MAX),
        _ => node.inputs.iter().map(|id| weight(id, 8)).sum(),
    };
    graph.nodes.iter().map(node).sum::<f64>() * 2.0
}
