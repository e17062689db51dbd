//! What a step costs: its sizes, and the bytes that it reads and writes. For tables and measurements.

use super::{DispatchList, runs};
use crate::graph::{TensorId, TensorKind};
use crate::ops::{StepSizes, attention};

impl DispatchList {
    /// The sizes of a step of `rows` rows of one sequence, the first at `position`; a token is sampled for the last
    /// row, without filters.
    pub fn step(&self, rows: u32, position: u32) -> StepSizes {
        StepSizes {
            rows,
            logits: 1,
            splits: position.saturating_add(rows).div_ceil(attention::KV_SPLIT),
            tiles: rows.div_ceil(self.query_tile()),
            sampled: 1,
            segments: 1,
            ..Default::default()
        }
    }

    /// Rows of a tile of the attention kernels.
    pub fn query_tile(&self) -> u32 {
        self.tile
    }

    /// Bytes that the keys and values of `positions` positions take in the KV cache, over all layers; of layers with a
    /// sliding window, those that the last position sees.
    pub fn kv_traffic(&self, positions: u32) -> u64 {
        let span = self.capacity.sliding.map_or(positions, |near| positions.min(near.window));
        let layer = |id: TensorId| match self.graph.tensor(id).kind {
            TensorKind::KvCache { heads, head_dim, sliding: near } => {
                self.capacity.kv.bytes(heads, head_dim) * u64::from(if near { span } else { positions })
            }
            _ => 0,
        };
        self.used().into_iter().map(layer).sum()
    }

    /// Bytes that a step as of [`DispatchList::step`] must at least read and write: each kernel's tensors, and the KV
    /// cache of the positions up to its last row, each counted once.
    pub fn step_traffic(&self, rows: u32, position: u32) -> u64 {
        let sizes = self.step(rows, position);
        let kernels = self.kernels.iter().filter(|(_, kernel)| runs(kernel, &sizes));
        kernels.map(|(_, kernel)| self.traffic(kernel, &sizes)).sum::<u64>() + self.kv_traffic(position + rows)
    }
}
