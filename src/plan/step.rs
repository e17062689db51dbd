//! What a step costs: its sizes, and the bytes that it reads and writes. For tables and measurements.

use super::{Listing, runs};
use crate::graph::{Kind, TensorId};
use crate::ops::{StepSizes, attention};

impl Listing {
    /// The sizes of a step of `rows` rows of one sequence, the first at `position`, whose last row wants a token that
    /// is chosen without filters.
    pub fn step(&self, rows: u32, position: u32) -> StepSizes {
        StepSizes {
            rows,
            logits: 1,
            splits: position.saturating_add(rows).div_ceil(attention::SPLIT),
            tiles: rows.div_ceil(self.attention_tile()),
            sampled: 1,
            runs: 1,
            ..Default::default()
        }
    }

    /// Rows of a tile of the attention kernels.
    pub fn attention_tile(&self) -> u32 {
        self.tile
    }

    /// Bytes that the keys and values of `positions` positions take in the KV cache, over all layers; of layers that see
    /// only what is near, those that the last position sees.
    pub fn kv_traffic(&self, positions: u32) -> u64 {
        let span = self.capacity.near.map_or(positions, |near| positions.min(near.span));
        let layer = |id: TensorId| match self.graph.tensor(id).kind {
            Kind::Kv { heads, head_dim, near } => {
                self.capacity.kv.bytes(heads, head_dim) * u64::from(if near { span } else { positions })
            }
            _ => 0,
        };
        self.used().into_iter().map(layer).sum()
    }

    /// Bytes that a step as of [`Listing::step`] must at least read and write: each kernel's tensors, and the KV cache
    /// of the positions up to its last row, each counted once.
    pub fn step_traffic(&self, rows: u32, position: u32) -> u64 {
        let sizes = self.step(rows, position);
        let kernels = self.kernels.iter().filter(|(_, kernel)| runs(kernel, &sizes));
        kernels.map(|(_, kernel)| self.traffic(kernel, &sizes)).sum::<u64>() + self.kv_traffic(position + rows)
    }
}
