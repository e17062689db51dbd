//! The blocks of a model, recorded as graph nodes: one file for each kind, which reads like the paper. They take specs
//! as they are; whatever depends on the file was decided when the spec was read.

mod attention;
mod delta_net;
mod embedding;
mod ffn;
mod mla;
mod moe;
mod short_conv;

use std::collections::BTreeMap;

use super::arch::NormKind;
use super::decoder::Recording;
use super::expert_slots::{ExpertSlots, OffloadedLayer};
use super::spec::{
    BranchNorms, Ffn, KvCacheSpec, LayerSpec, LinearSpec, Mixer, ModelSpec, NormPlacement, NormSpec, RopeConfig,
    VectorSpec, WeightSpec,
};
use crate::graph::{Activation, Graph, MaskKind, Rows, TensorId, TensorKind};

/// A graph while a model is recorded.
pub(super) struct Recorder<'a> {
    pub graph: Graph,
    /// The rotary embeddings, and their angles.
    ropes: Vec<(&'a RopeConfig, TensorId)>,
    residual_scale: f32,
    sliding: bool,
    expert_slots: Option<ExpertSlots>,
    /// Per-layer embeddings of all layers, concatenated: (rows, layers * size).
    layer_embeddings: Option<TensorId>,
    /// The KV caches of the layers recorded so far.
    caches: BTreeMap<u32, (TensorId, TensorId)>,
}

impl<'a> Recorder<'a> {
    pub fn new(spec: &'a ModelSpec, recording: Recording) -> Self {
        let Recording { context, sliding, resident_experts, .. } = recording;
        let mut graph = Graph::default();
        let angles =
            |rope: &'a RopeConfig| (rope, graph.rope_angles(rope.frequencies_for(context), context, rope.scale));
        Recorder {
            ropes: spec.ropes.iter().map(angles).collect(),
            graph,
            residual_scale: spec.residual_scale,
            sliding,
            expert_slots: resident_experts.map(ExpertSlots::new),
            layer_embeddings: None,
            caches: BTreeMap::new(),
        }
    }

    /// The graph, and the layers with offloaded experts.
    pub fn finish(mut self) -> (Graph, Vec<OffloadedLayer>) {
        let offloaded = self.expert_slots.map_or_else(Vec::new, |slots| slots.finish(&mut self.graph));
        (self.graph, offloaded)
    }

    /// x (rows, hidden) -> (rows, hidden)
    pub fn layer(&mut self, x: TensorId, layer: &LayerSpec, n: u32) -> TensorId {
        let mut x = match &layer.norms {
            NormPlacement::Sequential { mixer, ffn } => {
                let x = self.mixer_branch(x, &layer.mixers, mixer, n);
                self.ffn_branch(x, layer.ffn.as_ref(), ffn)
            }
            NormPlacement::Parallel(norm) => {
                let h = self.norm(x, norm);
                let ffn = layer.ffn.as_ref().map(|ffn| self.ffn(x, h, ffn));
                let branches = self.mixers(h, &layer.mixers, n).into_iter().chain(ffn);
                branches.fold(x, |x, branch| self.graph.scaled_sum(x, branch, self.residual_scale))
            }
        };
        if let Some(embedding) = &layer.embedding {
            x = self.add_layer_embedding(x, embedding);
        }
        let Some(scale) = &layer.output_scale else { return x };
        let scale = self.vector(scale);
        self.graph.glu(scale, x, Activation::Product)
    }

    /// x + after(mixers(before(x)))
    fn mixer_branch(&mut self, x: TensorId, mixers: &[Mixer], norms: &BranchNorms, n: u32) -> TensorId {
        let h = self.norm_if(x, norms.before.as_ref());
        let Some(h) = self.mixers(h, mixers, n) else { return x };
        let h = self.norm_if(h, norms.after.as_ref());
        self.graph.scaled_sum(x, h, self.residual_scale)
    }

    /// x + after(ffn(before(x)))
    fn ffn_branch(&mut self, x: TensorId, ffn: Option<&Ffn>, norms: &BranchNorms) -> TensorId {
        let Some(ffn) = ffn else { return x };
        let h = self.norm_if(x, norms.before.as_ref());
        let h = self.ffn(x, h, ffn);
        let h = self.norm_if(h, norms.after.as_ref());
        self.graph.scaled_sum(x, h, self.residual_scale)
    }

    /// The sum of all mixers; (rows, hidden) -> (rows, hidden).
    fn mixers(&mut self, x: TensorId, mixers: &[Mixer], n: u32) -> Option<TensorId> {
        let outputs: Vec<TensorId> = mixers.iter().map(|mixer| self.mixer(x, mixer, n)).collect();
        outputs.into_iter().reduce(|a, b| self.graph.sum(a, b))
    }

    fn mixer(&mut self, x: TensorId, mixer: &Mixer, n: u32) -> TensorId {
        match mixer {
            Mixer::Attention(spec) => self.attention(x, spec, n),
            Mixer::Mla(spec) => self.mla(x, spec, n),
            Mixer::DeltaNet(spec) => self.delta_net(x, spec, n),
            Mixer::ShortConv(spec) => self.short_conv(x, spec, n),
        }
    }

    /// A matrix or a stack of matrices.
    pub fn weight(&mut self, spec: &WeightSpec) -> TensorId {
        self.graph.weight_from(&spec.tensor, spec.experts, spec.cols, spec.dtype)
    }

    fn vector(&mut self, spec: &VectorSpec) -> TensorId {
        self.graph.vector_from(&spec.tensor, spec.plus)
    }

    fn vector_if(&mut self, spec: Option<&VectorSpec>) -> Option<TensorId> {
        spec.map(|spec| self.vector(spec))
    }

    /// The same value for all rows.
    fn scalar(&mut self, name: &str, value: f32) -> TensorId {
        self.graph.add(name, Rows::Fixed(1), 1, TensorKind::Constant(vec![value]))
    }

    /// x (rows, k) -> (rows, n)
    fn linear(&mut self, x: TensorId, spec: &LinearSpec) -> TensorId {
        let weight = self.weight(&spec.weight);
        let bias = self.vector_if(spec.bias.as_ref());
        self.graph.linear(x, weight, bias)
    }

    /// A norm of every `spec.size` values of a row.
    pub fn norm(&mut self, x: TensorId, spec: &NormSpec) -> TensorId {
        let constant = |graph: &mut Graph, name: &str, value: f32| {
            graph.add(name, Rows::Fixed(1), spec.size, TensorKind::Constant(vec![value; spec.size as usize]))
        };
        let weight = self.vector_if(spec.weight.as_ref());
        let weight = weight.unwrap_or_else(|| constant(&mut self.graph, "ones", 1.0));
        match spec.kind {
            NormKind::Rms => self.graph.rms_norm(x, weight, spec.eps),
            NormKind::Layer => {
                let bias = self.vector_if(spec.bias.as_ref());
                let bias = bias.unwrap_or_else(|| constant(&mut self.graph, "zeros", 0.0));
                self.graph.layer_norm(x, weight, bias, spec.eps)
            }
        }
    }

    fn norm_if(&mut self, x: TensorId, spec: Option<&NormSpec>) -> TensorId {
        spec.map_or(x, |spec| self.norm(x, spec))
    }

    /// The cache of a layer's keys or values.
    fn cache(&mut self, name: String, spec: KvCacheSpec) -> TensorId {
        let KvCacheSpec { heads, head_dim, mask } = spec;
        let sliding = self.sliding && mask != MaskKind::Causal;
        self.graph.add(name, Rows::Fixed(0), 0, TensorKind::KvCache { heads, head_dim, sliding })
    }
}
