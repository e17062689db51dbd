//! The data from which an op chooses its kernels.

use super::grid::StepSize;
use super::kernel::Kernel;
use super::kv::Capacity;
use super::shard::{Shard, weight_shards};
use crate::caps::{Caps, Tier};
use crate::dtype::DType;
use crate::graph::{Graph, Rows, TensorId, TensorKind};

/// See the module.
pub struct KernelContext<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The adapter's capabilities.
    pub caps: &'a Caps,
    /// The largest step.
    pub capacity: &'a Capacity,
}

impl KernelContext<'_> {
    /// Words in a row of a tensor.
    pub fn cols(&self, id: TensorId) -> u32 {
        self.graph.cols(id)
    }

    /// The size that the rows of a tensor follow: rows of the step, or those that have logits.
    pub(super) fn rows(&self, id: TensorId) -> StepSize {
        if self.graph.tensor(id).rows == Rows::Logits { StepSize::Logits } else { StepSize::Rows }
    }

    /// The most rows that a step has of this size.
    pub(super) fn most_rows(&self, rows: StepSize) -> u32 {
        if rows == StepSize::Logits { self.capacity.logits } else { self.capacity.rows }
    }

    /// The type and number of experts of a weight.
    pub fn weight(&self, id: TensorId) -> (DType, u32) {
        match self.graph.tensor(id).kind {
            TensorKind::Weight { dtype, experts, .. } => (dtype, experts),
            _ => panic!("{} is no weight", self.graph.tensor(id).name),
        }
    }

    /// The type of a weight.
    pub(super) fn dtype(&self, id: TensorId) -> DType {
        self.weight(id).0
    }

    /// The shards of a weight.
    pub fn shards(&self, id: TensorId) -> Vec<Shard> {
        weight_shards(self.graph, id, self.caps.bindable())
    }

    /// Up to this many rows a product is a matvec. On a software adapter that is one: there the matmul, which keeps
    /// weights in registers, takes little longer for eight. The f16 prefill tiers round activations, so their matmuls
    /// must not be used for decode rows.
    pub fn matvec_rows(&self) -> u32 {
        let one = self.caps.software && !Tier::F16_TIERS.contains(&self.caps.tier);
        if one { 1 } else { self.capacity.decode_rows() }
    }

    /// Threads that share one reduction over `work` items: a power of two that the subgroup tier can use too.
    pub fn lanes(&self, work: u32) -> u32 {
        let (_, max) = self.caps.subgroup;
        let least = match (self.caps.subgroups(), self.caps.software) {
            (true, _) => max.min(128),
            (false, true) => 1,
            (false, false) => 32,
        };
        let most = if self.caps.software { least.max(16) } else { 256 };
        work.next_power_of_two().clamp(least, most)
    }

    /// Gives a kernel the reductions of this tier, over `lanes` threads in workgroups of `wg`.
    pub(super) fn reduce(&self, kernel: Kernel, wg: u32, lanes: u32) -> Kernel {
        let (min, max) = self.caps.subgroup;
        let file = if self.caps.subgroups() { "lib/reduce_subgroup" } else { "lib/reduce" };
        let kernel = kernel.import("reduce", file).set("WG", wg).set("LANES", lanes);
        kernel.set("ONE_SUBGROUP", min == max && lanes == max)
    }
}
