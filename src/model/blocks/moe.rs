//! Mixtures of experts.

use super::Recorder;
use crate::graph::{Activation, ExpertWeights, TensorId};
use crate::model::expert_slots::OffloadedLayer;
use crate::model::spec::{MoeSpec, SharedExpertSpec};

impl Recorder<'_> {
    /// x (rows, hidden), and the router's input -> (rows, hidden)
    pub fn moe(&mut self, x: TensorId, routed: TensorId, spec: &MoeSpec) -> TensorId {
        let logits = self.linear(routed, &spec.router_logits);
        let (stacks, slot_table) = match &mut self.expert_slots {
            Some(slots) => {
                let (stacks, table) = slots.stacks(&mut self.graph, &spec.stacks);
                (stacks, Some(table))
            }
            None => (spec.stacks.each_ref().map(|stack| self.weight(stack)), None),
        };
        let [gate, up, down] = stacks;
        let weights = ExpertWeights {
            selection_bias: self.vector_if(spec.selection_bias.as_ref()),
            expert_scales: self.vector_if(spec.expert_scales.as_ref()),
            gate,
            up,
            down,
            biases: spec.biases.as_ref().map(|biases| biases.each_ref().map(|bias| self.vector(bias))),
            slot_table,
        };
        let (y, ids) = self.graph.expert_ffn(x, logits, weights, spec.router, spec.activation, spec.routing_weights);
        if let (Some(slots), Some(places)) = (&mut self.expert_slots, slot_table) {
            slots.offloaded.push(OffloadedLayer { ids, places, stacks, parts: spec.stacks.clone() });
        }
        match &spec.shared {
            Some(shared) => self.add_shared_expert(y, x, shared),
            None => y,
        }
    }

    /// y plus what the shared expert computes of x; both (rows, hidden).
    fn add_shared_expert(&mut self, y: TensorId, x: TensorId, spec: &SharedExpertSpec) -> TensorId {
        let mut shared = self.dense(x, &spec.dense);
        if let Some(gate) = &spec.gate {
            let gate = self.linear(x, gate);
            shared = self.graph.glu(gate, shared, Activation::Sigmoid);
        }
        self.graph.sum(y, shared)
    }
}
