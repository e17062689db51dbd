//! Mixture of experts: routing, sorting, the experts' matrices, and their weighted sum. Routing stays on the GPU.
//!
//! A row is sent to `used` of `experts` experts; slot `s` of row `r` is number `r * used + s`, best expert first.
//! Few rows: a matvec for each slot. Many rows: slots sorted by expert, a matmul for each tile of one expert's slots.
//! A stack of matrices that exceeds a binding is split between experts, and each shard passes over foreign slots.

mod linear;
mod router;
mod sort;
mod sum;

pub use linear::ExpertLinear;
pub use router::Router;
pub use sort::ExpertSort;
pub use sum::ExpertSum;

use super::glu::Activation;
use crate::graph::{Graph, TensorId};

/// The weights of a feed-forward network of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertWeights {
    /// Logits of the experts: (experts, d).
    pub router: TensorId,
    /// Stack of gate matrices: experts of (n, d).
    pub gate: TensorId,
    /// Stack of up matrices: experts of (n, d).
    pub up: TensorId,
    /// Stack of down matrices: experts of (d, n).
    pub down: TensorId,
}

impl Graph {
    /// A feed-forward network of experts: x (rows, d) -> (rows, d).
    #[track_caller]
    pub fn expert_ffn(
        &mut self,
        x: TensorId,
        weights: ExpertWeights,
        router: Router,
        activation: Activation,
    ) -> TensorId {
        let logits = self.linear(x, weights.router, None);
        let (ids, shares) = self.router(logits, router);
        let sorted = self.expert_sort(ids, router.experts, router.used);
        let gate = self.expert_linear(x, weights.gate, ids, sorted);
        let up = self.expert_linear(x, weights.up, ids, sorted);
        let gated = self.glu(gate, up, activation);
        let down = self.expert_linear(gated, weights.down, ids, sorted);
        self.expert_sum(down, shares)
    }
}
