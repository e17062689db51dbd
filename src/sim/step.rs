//! Profiles a step: the counts of each of its dispatches, extrapolated from a sample of workgroups.

use std::collections::HashMap;

use super::{DispatchProfile, SimulatedPlan, SimulationOptions};
use crate::graph::{StepInput, TensorKind};
use crate::ops::{Binding, Capacity, Kernel, StepSizes};
use crate::shader::{ShaderLanguage, assemble};

/// The number of workgroups of a dispatch that are run; the workgroups of a kernel do nearly the same work.
const SAMPLE: u32 = 16;

/// The counts of a kernel in a step.
#[derive(Clone, Debug)]
pub struct KernelProfile {
    /// Index of the kernel in the dispatch list.
    pub kernel: usize,
    /// The counts of all its workgroups.
    pub profile: DispatchProfile,
    /// The least traffic in bytes: each tensor once, and the cached positions.
    pub bytes: u64,
}

impl KernelProfile {
    /// Equal profiles, as layers of the same kind have them, with their number.
    pub fn grouped(profiles: &[KernelProfile]) -> Vec<(usize, &KernelProfile)> {
        let mut groups: Vec<(usize, &KernelProfile)> = Vec::new();
        for next in profiles {
            let equal = |of: &KernelProfile| of.bytes == next.bytes && of.profile == next.profile;
            match groups.iter_mut().find(|(_, first)| equal(first)) {
                Some((count, _)) => *count += 1,
                None => groups.push((1, next)),
            }
        }
        groups
    }
}

impl SimulatedPlan {
    /// Writes the tables of a step of `rows` rows of one sequence, the first at `position`; returns the step's sizes.
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

    /// The counts of every dispatch of such a step. Layers that run the same shader on the same grid do the same work,
    /// so each shader runs once.
    ///
    /// # Errors
    /// If a kernel uses a feature that the simulator does not support, or its grid is too large.
    pub fn profile_step(&mut self, rows: u32, position: u32) -> Result<Vec<KernelProfile>, String> {
        let sizes = self.write_step(rows, position);
        let options = SimulationOptions { profile: true, max_workgroups: Some(SAMPLE), ..Default::default() };
        let mut known: HashMap<(String, [u32; 3]), DispatchProfile> = HashMap::new();
        let mut profiles = Vec::new();
        for index in self.begin_step(&sizes) {
            let kernel = &self.dispatch_list().kernels[index].1;
            let (text, grid) = (assemble(&kernel.source, ShaderLanguage::Native), kernel.workgroups(&sizes));
            let bytes = self.dispatch_list().traffic(kernel, &sizes) + self.cached_bytes(kernel, position + rows);
            let profile = match known.get(&(text.clone(), grid)) {
                Some(profile) => profile.clone(),
                None => {
                    let sample = self.run_kernel(index, &sizes, options)?.profile;
                    let profile = sample.scaled_to(grid.iter().map(|n| u64::from(*n)).product());
                    known.insert((text, grid), profile.clone());
                    profile
                }
            };
            profiles.push(KernelProfile { kernel: index, profile, bytes });
        }
        Ok(profiles)
    }

    /// Bytes of the keys and values that an attention kernel reads.
    fn cached_bytes(&self, kernel: &Kernel, positions: u32) -> u64 {
        let Capacity { kv, sliding, .. } = self.dispatch_list().capacity;
        let cached = |binding: &Binding| match self.dispatch_list().graph.tensor(binding.tensor).kind {
            TensorKind::KvCache { heads, head_dim, sliding: windowed } if !binding.write => {
                let seen = sliding.filter(|_| windowed).map_or(positions, |pages| positions.min(pages.window));
                kv.bytes(heads, head_dim) * u64::from(seen)
            }
            _ => 0,
        };
        kernel.bindings.iter().map(cached).sum()
    }
}
