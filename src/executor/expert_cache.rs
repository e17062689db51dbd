//! Expert offload: experts that do not all fit the GPU. A step stops after each router; the experts that its rows are
//! routed to are read from the file if they are not resident, in place of the least recently used ones; then the step
//! continues.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::gpu::{Buffer, Submission};
use crate::graph::{Rows, TensorId};
use crate::model::expert_slots::OffloadedLayer;
use crate::model::load;
use crate::ops::StepSizes;
use crate::plan::Plan;

/// In a layer's slot table: the expert is not resident.
const NOT_RESIDENT: u32 = u32::MAX;
/// Bytes that are written before a flush, which frees their staging memory.
const FLUSH_BYTES: u64 = 64 << 20;

/// How many experts were used, and how many of them had to be read from the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpertReads {
    /// Experts that steps used, each counted once per layer and step.
    pub wanted: u64,
    /// How many of those were read from the file.
    pub read: u64,
    /// Bytes read from the file.
    pub bytes: u64,
}

/// The resident experts of all layers. See the module.
pub struct ExpertCache {
    /// The opened files; see [`load::load`].
    sources: Vec<Arc<Checkpoint>>,
    layers: Vec<ExpertLayer>,
    stacks: Vec<SharedStacks>,
    staging: Buffer,
    clock: u64,
    /// What was read so far.
    pub reads: ExpertReads,
}

struct ExpertLayer {
    offloaded: OffloadedLayer,
    /// Which of the shared stacks its experts are in.
    stacks: usize,
    /// The node that routes rows to experts.
    router: usize,
    /// Experts of a row.
    used: u32,
    /// The slot of each expert, or [`NOT_RESIDENT`].
    slots: Vec<u32>,
    /// Whether the GPU's copy of `slots` is outdated.
    stale: bool,
}

/// Stacks of slots that several layers share.
struct SharedStacks {
    stacks: [TensorId; 3],
    slots: Vec<ExpertSlot>,
}

#[derive(Clone, Default)]
struct ExpertSlot {
    /// The layer and expert that is resident.
    resident: Option<(usize, u32)>,
    last_used: u64,
}

impl SharedStacks {
    fn least_recently_used(&self) -> usize {
        (0..self.slots.len()).min_by_key(|slot| self.slots[*slot].last_used).expect("slots for a layer's experts")
    }
}

impl ExpertCache {
    /// No expert is resident. `None` if the plan offloads none.
    pub fn new(plan: &Plan, sources: Vec<Arc<Checkpoint>>, offloaded: Vec<OffloadedLayer>) -> Option<Self> {
        let (graph, capacity) = (&plan.dispatch_list().graph, plan.dispatch_list().capacity);
        let mut stacks: Vec<SharedStacks> = Vec::new();
        let mut layers = Vec::new();
        for layer in offloaded {
            let shared = stacks.iter().position(|shared| shared.stacks == layer.stacks).unwrap_or_else(|| {
                let count = graph.experts_of(layer.stacks[0]) as usize;
                stacks.push(SharedStacks { stacks: layer.stacks, slots: vec![ExpertSlot::default(); count] });
                stacks.len() - 1
            });
            let router = graph.nodes.iter().position(|node| node.writes(layer.ids)).expect("a router");
            let Rows::Routed(used) = graph.tensor(layer.ids).rows else { panic!("expert ids are routed rows") };
            let slots = vec![NOT_RESIDENT; graph.cols(layer.places) as usize];
            layers.push(ExpertLayer { offloaded: layer, stacks: shared, router, used, slots, stale: true });
        }
        let most = layers.iter().map(|layer| layer.used * capacity.rows).max()?;
        let staging = plan.gpu().staging(u64::from(most) * 4);
        Some(ExpertCache { sources, layers, stacks, staging, clock: 0, reads: ExpertReads::default() })
    }

    /// Runs a step up to node `end`; `copy` as in [`Plan::submit`].
    ///
    /// # Errors
    /// If the file cannot be read or the device is lost.
    pub async fn run(
        &mut self,
        plan: &Plan,
        sizes: &StepSizes,
        end: usize,
        copy: Option<(TensorId, &Buffer)>,
    ) -> Result<Submission> {
        let mut from = 0;
        for layer in 0..self.layers.len() {
            let ExpertLayer { router, used, offloaded: OffloadedLayer { ids, .. }, .. } = self.layers[layer];
            let submission = plan.submit_nodes(from..router + 1, sizes, 1, Some((ids, &self.staging)));
            from = router + 1;
            let bytes = plan.gpu().map_staging(&self.staging, submission).bytes(plan.gpu()).await?;
            let ids: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            self.make_resident(plan, layer, &ids[..(used * sizes.rows) as usize]).await?;
        }
        Ok(plan.submit_nodes(from..end, sizes, 1, copy))
    }

    /// Makes experts of a layer resident and updates its slot table.
    async fn make_resident(&mut self, plan: &Plan, layer: usize, ids: &[u32]) -> Result<()> {
        let wanted: BTreeSet<u32> = ids.iter().copied().collect();
        self.clock += 1;
        self.reads.wanted += wanted.len() as u64;
        let here = &self.layers[layer];
        let stacks = here.stacks;
        let is_resident = |id: &&u32| here.slots[**id as usize] != NOT_RESIDENT;
        let (resident, missing): (Vec<u32>, Vec<u32>) = wanted.iter().partition(is_resident);
        for id in resident {
            self.stacks[stacks].slots[here.slots[id as usize] as usize].last_used = self.clock;
        }
        let mut unflushed = 0;
        for id in missing {
            let slot = self.stacks[stacks].least_recently_used();
            self.evict(stacks, slot);
            let bytes = self.read(plan, layer, id, slot as u32).await?;
            self.stacks[stacks].slots[slot] = ExpertSlot { resident: Some((layer, id)), last_used: self.clock };
            self.layers[layer].slots[id as usize] = slot as u32;
            self.layers[layer].stale = true;
            self.reads.read += 1;
            self.reads.bytes += bytes;
            unflushed += bytes;
            if unflushed >= FLUSH_BYTES {
                plan.gpu().flush().await?;
                unflushed = 0;
            }
        }
        let here = &mut self.layers[layer];
        if std::mem::take(&mut here.stale) {
            plan.write(here.offloaded.places, 0, bytemuck::cast_slice(&here.slots));
        }
        Ok(())
    }

    fn evict(&mut self, stacks: usize, slot: usize) {
        let evicted = std::mem::take(&mut self.stacks[stacks].slots[slot]);
        if let Some((layer, expert)) = evicted.resident {
            self.layers[layer].slots[expert as usize] = NOT_RESIDENT;
            self.layers[layer].stale = true;
        }
    }

    /// Reads an expert of a layer into a slot. Returns how many bytes were read.
    async fn read(&self, plan: &Plan, layer: usize, expert: u32, slot: u32) -> Result<u64> {
        let OffloadedLayer { stacks, parts, .. } = &self.layers[layer].offloaded;
        let mut read = 0;
        for (stack, part) in stacks.iter().zip(parts) {
            let bytes = load::read_expert(&self.sources, part, expert).await?;
            plan.write_rows(*stack, slot * part.rows(), &bytes);
            read += bytes.len() as u64;
        }
        Ok(read)
    }
}
