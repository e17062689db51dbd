//! Mixture of experts: routing, sorting, the experts' matrices, and their weighted sum. Routing stays on the GPU.
//!
//! A row is sent to `used` of `experts` experts; slot `s` of row `r` is number `r * used + s`, best expert first.
//! Few rows: a matvec for each slot. Many rows: slots sorted by expert, a matmul for each tile of one expert's slots.
//! A stack of matrices that exceeds a binding is split between experts, and each shard passes over foreign slots.

mod linear;
mod router;
mod sort;
mod sum;

pub use linear::{ExpertEpilogue, ExpertLinear};
pub use router::{Router, RouterGroups, Scoring};
pub use sort::ExpertSort;
pub use sum::ExpertSum;

use super::glu::Activation;
use crate::graph::{Graph, Rows, TensorId};

/// The weights of a feed-forward network of experts; biases where the model has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertWeights {
    /// Multipliers of the experts' shares: (experts).
    pub expert_scales: Option<TensorId>,
    /// Stack of gate matrices: experts of (n, d).
    pub gate: TensorId,
    /// Stack of up matrices: experts of (n, d).
    pub up: TensorId,
    /// Stack of down matrices: experts of (d, n).
    pub down: TensorId,
    /// Added to the scores when experts are chosen: (experts).
    pub selection_bias: Option<TensorId>,
    /// Added to what gate, up and down make: (experts, n), (experts, n), (experts, d).
    pub biases: Option<[TensorId; 3]>,
    /// Where in the stacks the experts lie, if they are room for some of them.
    pub slot_table: Option<TensorId>,
}

/// What the router's weights multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingWeights {
    /// What the experts make.
    OnOutputs,
    /// What they read (Llama 4).
    OnInputs,
}

impl Graph {
    /// A feed-forward network of experts: x (rows, d) and the router's logits (rows, experts) -> (rows, d), and the expert
    /// of each slot. RoutingWeights of inputs want one expert a row, and no biases.
    #[track_caller]
    pub fn expert_ffn(
        &mut self,
        x: TensorId,
        logits: TensorId,
        weights: ExpertWeights,
        router: Router,
        activation: Activation,
        shared: RoutingWeights,
    ) -> (TensorId, TensorId) {
        let of_inputs = shared == RoutingWeights::OnInputs;
        assert!(!of_inputs || (router.used == 1 && weights.biases.is_none()), "{router:?}");
        let (ids, shares) = self.router(logits, weights.selection_bias, weights.expert_scales, router);
        let sorted = self.expert_sort(ids, router.experts, router.used);
        let epilogue = |i: usize| match weights.biases {
            Some(biases) => ExpertEpilogue::Bias(biases[i]),
            None if of_inputs && i < 2 => ExpertEpilogue::RoutingWeight(shares),
            None => ExpertEpilogue::Plain,
        };
        let gate = self.expert_linear(x, (weights.gate, weights.slot_table), ids, sorted, epilogue(0));
        let up = self.expert_linear(x, (weights.up, weights.slot_table), ids, sorted, epilogue(1));
        let gated = self.glu(gate, up, activation);
        let down = self.expert_linear(gated, (weights.down, weights.slot_table), ids, sorted, epilogue(2));
        if of_inputs {
            // A row has one slot: slots are rows.
            self.tensors[down.0].rows = Rows::Step;
            return (down, ids);
        }
        (self.expert_sum(down, shares), ids)
    }
}
