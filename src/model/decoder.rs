//! Records a model's spec as the graph of a step. The graph is the load manifest: its weights and vectors say where
//! they are in the file.

use super::blocks::Recorder;
use super::expert_slots::OffloadedLayer;
use super::spec::{ModelSpec, OutputHead};
use crate::graph::{Graph, LogitScale, TensorId};

/// A recorded model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The graph of a step.
    pub graph: Graph,
    /// Its logits, if it has an output head: (logit rows, vocabulary).
    pub logits: Option<TensorId>,
    /// The hidden states that logits are computed from: (logit rows, hidden).
    pub hidden: TensorId,
    /// Layers with offloaded experts.
    pub offloaded: Vec<OffloadedLayer>,
}

/// How a model is recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recording {
    /// Positions, at most.
    pub context: u32,
    /// Whether layers with local attention have a sliding-window KV cache with separate pages.
    pub sliding: bool,
    /// With expert offload, the share of experts beyond one layer's that stays resident
    /// ([`ExpertSlots`](super::expert_slots::ExpertSlots)); `None`: all experts are resident.
    pub resident_experts: Option<f64>,
    /// Whether the output head and the sampler are recorded.
    pub output_head: bool,
}

/// Records a model.
pub fn record(spec: &ModelSpec, recording: Recording) -> Decoder {
    let mut r = Recorder::new(spec, recording);
    let (embedding, mut x) = r.embedding(&spec.embedding);
    for (n, layer) in (0..).zip(&spec.layers) {
        x = r.layer(x, layer, n);
    }
    let x = r.graph.gather(x);
    let hidden = r.norm(x, &spec.output_norm);
    let OutputHead::Logits { weight, scale } = &spec.head;
    let weight = weight.as_ref().map_or(embedding, |weight| r.weight(weight));
    let logits = recording.output_head.then(|| {
        let mut logits = r.graph.linear(hidden, weight, None);
        if *scale != (LogitScale { scale: 1.0, softcap: None }) {
            logits = r.graph.logit_scale(logits, scale.clone());
        }
        r.graph.sample(logits);
        logits
    });
    let (graph, offloaded) = r.finish();
    Decoder { graph, logits, hidden, offloaded }
}
