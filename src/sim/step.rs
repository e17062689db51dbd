//! Profiles a step: the counts of each of its dispatches, extrapolated from a sample of workgroups.

use super::{DispatchProfile, SimulatedPlan, SimulationOptions};
use crate::graph::{StepInput, TensorKind};
use crate::ops::{Binding, Capacity, Kernel, StepSizes};

/// Workgroups of a dispatch that are run; those of a kernel do nearly the same work.
const SAMPLE: u32 = 16;

/// The counts of a kernel in a step.
#[derive(Clone, Debug)]
pub struct KernelProfile {
    /// Index of the kernel in the dispatch list.
    pub kernel: usize,
    /// The counts of all its workgroups.
    pub profile: DispatchProfile,
    /// Bytes that must be moved at least: each tensor once, and the cached positions.
    pub bytes: u64,
}

impl SimulatedPlan {
    /// Writes the tables of a step of `rows` rows of one sequence, the first at `position`; the step's sizes.
    pub fn write_step(&mut self, rows: u32, position: u32) -> StepSizes {
        let sizes = self.dispatch_list().step(rows, position);
        let tile = self.dispatch_list().query_tile();
        let pages: Vec<u32> = (0..self.dispatch_list().capacity.pages_per_sequence).collect();
        let table: Vec<[u32; 4]> = (0..rows).map(|row| [0, position + row, 0, 0]).collect();
        let tiles: Vec<[u32; 4]> =
            (0..rows).step_by(tile as usize).map(|row| [row, tile.min(rows - row), 0, rows]).collect();
        self.write_input(StepInput::Rows, 0, bytemuck::cast_slice(&table));
        self.write_input(StepInput::QueryTiles, 0, bytemuck::cast_slice(&tiles));
        self.write_input(StepInput::LogitRows, 0, bytemuck::cast_slice(&[rows - 1]));
        self.write_input(StepInput::Segments, 0, bytemuck::cast_slice(&[0, rows, 0, 0]));
        for pages_of in [StepInput::Pages, StepInput::SlidingPages] {
            self.write_input(pages_of, 0, bytemuck::cast_slice(&pages));
        }
        sizes
    }

    /// The counts of every dispatch of such a step.
    ///
    /// # Errors
    /// If a kernel has something that the simulator has not.
    pub fn profile_step(&mut self, rows: u32, position: u32) -> Result<Vec<KernelProfile>, String> {
        let sizes = self.write_step(rows, position);
        let options = SimulationOptions { profile: true, most_workgroups: Some(SAMPLE), ..Default::default() };
        let dispatches = self.run(&sizes, options)?;
        let profile = |dispatch: super::SimulatedDispatch| {
            let kernel = &self.dispatch_list().kernels[dispatch.kernel].1;
            let all = kernel.workgroups(&sizes).iter().map(|n| u64::from(*n)).product();
            let bytes = self.dispatch_list().traffic(kernel, &sizes) + self.cached_bytes(kernel, position + rows);
            KernelProfile { kernel: dispatch.kernel, profile: dispatch.report.profile.scaled_to(all), bytes }
        };
        Ok(dispatches.into_iter().map(profile).collect())
    }

    /// Bytes of the keys and values that an attention kernel reads.
    fn cached_bytes(&self, kernel: &Kernel, positions: u32) -> u64 {
        let Capacity { kv, sliding, .. } = self.dispatch_list().capacity;
        let cached = |binding: &Binding| match self.dispatch_list().graph.tensor(binding.tensor).kind {
            TensorKind::KvCache { heads, head_dim, sliding: near } if !binding.write => {
                let seen = sliding.filter(|_| near).map_or(positions, |sliding| positions.min(sliding.window));
                kv.bytes(heads, head_dim) * u64::from(seen)
            }
            _ => 0,
        };
        kernel.bindings.iter().map(cached).sum()
    }
}
