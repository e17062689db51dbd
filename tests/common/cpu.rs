//! What a graph means: its nodes one after another, by each op's `reference`.

use super::{Data, Step};
use firelight::graph::{Graph, Node, TensorId, TensorKind};
use firelight::ops::experts::ExpertEpilogue;
use firelight::ops::{Capacity, Op, PAGE};
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
    /// The last token of each sequence.
    sampled: Vec<u32>,
    values: BTreeMap<TensorId, Vec<f32>>,
}

impl<'a> Cpu<'a> {
    /// Caches hold NaN until they are written.
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

    /// What the last step computed; expert numbers as bits.
    pub fn value(&self, id: TensorId) -> &[f32] {
        &self.values[&id]
    }

    fn node(&mut self, node: &Node, step: &Step) {
        let (rows, per_sequence) = (&step.rows, self.capacity.pages_per_sequence);
        let input = |i: usize| self.values[&node.inputs[i]].as_slice();
        let cols = |i: usize| self.graph.cols(node.inputs[i]) as usize;
        let optional = |there: bool, i: usize| there.then(|| input(i));
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        let y = match &node.op {
            Op::Embed(op) => embed::reference(rows, &self.sampled, input(2), cols(2), op.scale),
            Op::RmsNorm(op) => rms_norm::reference(input(0), input(1), op.eps),
            Op::LayerNorm(op) => layer_norm::reference(input(0), input(1), input(2), op.eps),
            Op::Linear(op) => {
                let (bias, residual) = (optional(op.bias, 2), optional(op.residual, 2 + usize::from(op.bias)));
                linear::reference(input(0), input(1), cols(0), bias, residual)
            }
            Op::LinearGlu(op) => linear_glu::reference(input(0), input(1), input(2), cols(0), op.activation),
            Op::Rope(op) => rope::reference(rows, input(1), input(2), op),
            Op::KvWrite(op) => {
                for (i, cache) in node.outputs.iter().enumerate() {
                    let heads = self.values[&node.inputs[2 + i]].chunks(op.head_dim as usize);
                    let x: Vec<f32> = heads.flat_map(|x| kv_write::stored(x, self.capacity.kv)).collect();
                    let cache = self.values.get_mut(cache).expect("a cache");
                    kv_write::reference(rows, &self.pages, per_sequence, &x, op, cache);
                }
                return;
            }
            Op::Attention(op) => {
                let sinks = if op.sinks { input(6) } else { &[] };
                attention::reference(rows, &self.pages, per_sequence, input(3), (input(4), input(5)), sinks, op)
            }
            Op::HeadSlice(op) => head_slice::reference(input(0), op),
            Op::HeadConcat(op) => {
                let heads = op.heads as usize;
                head_concat::reference(input(0), input(1), (cols(0) / heads, cols(1) / heads))
            }
            Op::HeadLinear(op) => op.reference(input(0), input(1), cols(1)),
            Op::ShortConv(op) => {
                let mut state = self.values[&node.outputs[1]].clone();
                let y = short_conv::reference(&step.runs, input(1), input(2), op, &mut state);
                self.values.insert(node.outputs[1], state);
                y
            }
            Op::DeltaNet(op) => {
                let mut state = self.values[&node.outputs[1]].clone();
                let rest = [input(2), input(3), input(4)];
                let y = delta_net::reference(&step.runs, input(1), rest, op, &mut state);
                self.values.insert(node.outputs[1], state);
                y
            }
            Op::Glu(op) => glu::reference(input(0), input(1), op.activation),
            Op::Add(op) => add::reference(input(0), input(1), op.scale),
            Op::LogitScale(op) => logit_scale::reference(input(0), op),
            Op::Gather(_) => gather::reference(&step.logit_rows, input(1), cols(1)),
            Op::Router(op) => {
                let expert_scales = 1 + usize::from(op.biased);
                let bias = optional(op.biased, 1).unwrap_or_default();
                let expert_scales = optional(node.inputs.len() > expert_scales, expert_scales).unwrap_or_default();
                let (ids, weights) = op.reference(input(0), bias, expert_scales);
                self.values.insert(node.outputs[1], weights);
                ids.into_iter().map(f32::from_bits).collect()
            }
            // The reference of the experts' matrices needs no order.
            Op::ExpertSort(_) => return,
            Op::ExpertLinear(op) => {
                let added = if op.epilogue == ExpertEpilogue::Plain { &[] } else { input(5) };
                op.reference(input(0), input(1), &bits(input(2)), cols(0), added)
            }
            Op::ExpertSum(op) => {
                let n = cols(0);
                let zeros = vec![0.0; rows.len() * n];
                op.reference(input(0), input(1), optional(op.residual, 2).unwrap_or(&zeros), n)
            }
            Op::Sample(_) => return,
            Op::Qkv(_) | Op::RopeKv(_) | Op::NormAdd(_) => unreachable!("only fusing makes them"),
        };
        self.values.insert(node.outputs[0], y);
    }
}
