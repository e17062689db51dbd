//! Evaluates a graph on the CPU: its nodes in order, by each op's `reference`.

use super::{Data, Step};
use firelight::graph::{ExpertEpilogue, Graph, Op, TensorId, TensorKind};
use firelight::ops::{Capacity, PAGE};
use firelight::ops::{
    add, attention, delta_net, embed, gather, glu, head_concat, head_slice, kv_write, layer_norm, linear, linear_glu,
    logit_scale, rms_norm, rope, short_conv,
};
use std::collections::BTreeMap;

/// A graph with its data, dequantized, and the KV caches between steps.
pub struct Cpu<'a> {
    graph: &'a Graph,
    capacity: Capacity,
    /// Page tables.
    pages: Vec<u32>,
    /// The last token of each output slot.
    sampled: Vec<u32>,
    values: BTreeMap<TensorId, Vec<f32>>,
}

impl<'a> Cpu<'a> {
    /// Caches contain NaN until they are written.
    pub fn new(graph: &'a Graph, data: &Data, capacity: Capacity, pages: &[u32], sampled: &[u32]) -> Self {
        let mut values = data.vectors.clone();
        for (i, tensor) in graph.tensors.iter().enumerate() {
            let id = TensorId(i);
            match &tensor.kind {
                TensorKind::Weight { dtype, .. } => {
                    let mut out = vec![0.0; (graph.fixed_rows(id) * tensor.cols) as usize];
                    dtype.dequantize(&data.weights[&id], &mut out);
                    values.insert(id, out);
                }
                TensorKind::Constant(constant) => drop(values.insert(id, constant.clone())),
                TensorKind::State { values: n } => {
                    values.insert(id, vec![f32::NAN; (capacity.state_slots() * n) as usize]);
                }
                TensorKind::KvCache { heads, head_dim, .. } => {
                    values.insert(id, vec![f32::NAN; (capacity.pages * heads * head_dim * PAGE) as usize]);
                }
                _ => {}
            }
        }
        Cpu { graph, capacity, pages: pages.into(), sampled: sampled.into(), values }
    }

    /// Runs a step.
    pub fn run(&mut self, step: &Step) {
        for node in &self.graph.nodes {
            self.node(node, step);
        }
    }

    /// A tensor's values after the last step; expert ids are stored as bits.
    pub fn value(&self, id: TensorId) -> &[f32] {
        &self.values[&id]
    }

    fn node(&mut self, node: &Op, step: &Step) {
        let (rows, per_sequence) = (&step.rows, self.capacity.pages_per_sequence);
        let value = |id: TensorId| self.values[&id].as_slice();
        let optional = |id: Option<TensorId>| id.map(value);
        let cols = |id: TensorId| self.graph.cols(id) as usize;
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        let y = match node {
            Op::Embed(op, io) => {
                let table = (value(io.weight), cols(io.weight));
                embed::reference(op, rows, &self.sampled, value(io.embeddings), table)
            }
            Op::RmsNorm(op, io) => rms_norm::reference(value(io.x), value(io.weight), op.eps),
            Op::LayerNorm(op, io) => layer_norm::reference(value(io.x), value(io.weight), value(io.bias), op.eps),
            Op::Linear(_, io) => {
                let (bias, residual) = (optional(io.bias), optional(io.residual));
                linear::reference(value(io.x), value(io.weight), cols(io.x), bias, residual)
            }
            Op::LinearGlu(op, io) => {
                linear_glu::reference(value(io.x), value(io.gate), value(io.up), cols(io.x), op.activation)
            }
            Op::Rope(op, io) => rope::reference(rows, value(io.angles), value(io.x), op),
            Op::KvWrite(op, io) => {
                let values = io.values.iter().map(|values| (values.v, values.cache));
                for (x, cache) in [(io.k, io.keys)].into_iter().chain(values) {
                    let heads = self.values[&x].chunks(op.head_dim as usize);
                    let x: Vec<f32> = heads.flat_map(|x| kv_write::stored(x, self.capacity.kv)).collect();
                    let cache = self.values.get_mut(&cache).expect("a cache");
                    kv_write::reference(rows, &self.pages, per_sequence, &x, op, cache);
                }
                return;
            }
            Op::Attention(op, io) => {
                let kv = (value(io.kv.keys), value(io.kv.values));
                let sinks = optional(io.sinks).unwrap_or_default();
                match io.kv.pages {
                    Some(_) => attention::reference(rows, &self.pages, per_sequence, value(io.q), kv, sinks, op),
                    None => attention::reference_over_rows(rows, value(io.q), kv, sinks, op),
                }
            }
            Op::HeadSlice(op, io) => head_slice::reference(value(io.x), op),
            Op::HeadConcat(op, io) => {
                let heads = op.heads as usize;
                head_concat::reference(value(io.a), value(io.b), (cols(io.a) / heads, cols(io.b) / heads))
            }
            Op::HeadLinear(op, io) => op.reference(value(io.x), value(io.weight), cols(io.weight)),
            Op::ShortConv(op, io) => {
                let mut state = self.values[&io.state].clone();
                let y = short_conv::reference(&step.segments, value(io.x), value(io.weight), op, &mut state);
                self.values.insert(io.state, state);
                y
            }
            Op::DeltaNet(op, io) => {
                let mut state = self.values[&io.state].clone();
                let rest = [io.alpha, io.b, io.rates].map(value);
                let y = delta_net::reference(&step.segments, value(io.x), rest, op, &mut state);
                self.values.insert(io.state, state);
                y
            }
            Op::Glu(op, io) => glu::reference(value(io.gate), value(io.up), op.activation),
            Op::Add(op, io) => add::reference(value(io.a), value(io.b), op.scale),
            Op::LogitScale(op, io) => logit_scale::reference(value(io.x), op),
            Op::Gather(_, io) => gather::reference(&step.logit_rows, value(io.x), cols(io.x)),
            Op::Router(op, io) => {
                let bias = optional(io.selection_bias).unwrap_or_default();
                let scales = optional(io.expert_scales).unwrap_or_default();
                let (ids, weights) = op.reference(value(io.logits), bias, scales);
                self.values.insert(io.weights, weights);
                ids.into_iter().map(f32::from_bits).collect()
            }
            // The reference of ExpertLinear does not need sorted slots.
            Op::ExpertSort(..) => return,
            Op::ExpertLinear(op, io) => {
                let epilogue = io.epilogue.map(|epilogue| match epilogue {
                    ExpertEpilogue::Bias(bias) => ExpertEpilogue::Bias(value(bias)),
                    ExpertEpilogue::RoutingWeight(weights) => ExpertEpilogue::RoutingWeight(value(weights)),
                });
                op.reference(value(io.x), value(io.weight), &bits(value(io.ids)), cols(io.x), epilogue)
            }
            Op::ExpertSum(op, io) => {
                let n = cols(io.x);
                let zeros = vec![0.0; rows.len() * n];
                op.reference(value(io.x), value(io.weights), optional(io.residual).unwrap_or(&zeros), n)
            }
            Op::Sample(..) => return,
            Op::Qkv(..) | Op::RopeKv(..) | Op::NormAdd(..) => unreachable!("only fusion creates these"),
        };
        self.values.insert(node.outputs()[0], y);
    }
}
