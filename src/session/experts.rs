//! Experts that are not all on the GPU: a step stops behind each router, the experts that its rows are sent to are read
//! from the file where they are missed, in place of those that were wanted longest ago, and the step goes on.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::gpu::{Buffer, Submission};
use crate::graph::{Rows, TensorId};
use crate::model::expert_slots::OffloadedLayer;
use crate::ops::StepSizes;
use crate::plan::Plan;

/// In a table of places: the expert is not there.
const NOWHERE: u32 = u32::MAX;
/// Bytes that are written before the device is waited for, which then gives its staging memory back.
const UNFLUSHED: u64 = 64 << 20;

/// How often experts were wanted and had to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpertReads {
    /// Experts that steps wanted, each once a layer and step.
    pub wanted: u64,
    /// Of those, how many were read from the file.
    pub read: u64,
    /// Bytes of the file that were read.
    pub bytes: u64,
}

/// See the module.
pub struct Experts {
    checkpoint: Rc<Checkpoint>,
    layers: Vec<Layer>,
    rooms: Vec<Room>,
    staging: Buffer,
    clock: u64,
    /// What was read so far.
    pub reads: ExpertReads,
}

/// A layer, and which of its experts are there.
struct Layer {
    streamed: OffloadedLayer,
    room: usize,
    /// The node that sends rows to experts.
    router: usize,
    used: u32,
    places: Vec<u32>,
    /// Whether the GPU's table is another.
    stale: bool,
}

/// Stacks that layers share: who is in each place, and when it was last wanted.
struct Room {
    stacks: [TensorId; 3],
    places: Vec<(Option<(usize, u32)>, u64)>,
}

impl Room {
    /// The place that was wanted longest ago.
    fn oldest(&self) -> usize {
        (0..self.places.len()).min_by_key(|at| self.places[*at].1).expect("room for a layer's experts")
    }
}

impl Experts {
    /// Nothing is there yet. `None` if all experts of the plan have places of their own.
    pub fn new(plan: &Plan, checkpoint: &Rc<Checkpoint>, streamed: Vec<OffloadedLayer>) -> Option<Self> {
        let (graph, capacity) = (&plan.dispatch_list().graph, plan.dispatch_list().capacity);
        let mut rooms: Vec<Room> = Vec::new();
        let mut layers = Vec::new();
        for layer in streamed {
            let room = rooms.iter().position(|room| room.stacks == layer.stacks).unwrap_or_else(|| {
                let count = graph.experts_of(layer.stacks[0]) as usize;
                rooms.push(Room { stacks: layer.stacks, places: vec![(None, 0); count] });
                rooms.len() - 1
            });
            let router = graph.nodes.iter().position(|node| node.outputs.contains(&layer.ids)).expect("a router");
            let Rows::Routed(used) = graph.tensor(layer.ids).rows else { panic!("ids are of slots") };
            let places = vec![NOWHERE; graph.cols(layer.places) as usize];
            layers.push(Layer { streamed: layer, room, router, used, places, stale: true });
        }
        let most = layers.iter().map(|layer| layer.used * capacity.rows).max()?;
        let staging = plan.gpu().staging(u64::from(most) * 4);
        let checkpoint = checkpoint.clone();
        Some(Experts { checkpoint, layers, rooms, staging, clock: 0, reads: ExpertReads::default() })
    }

    /// Runs a step up to node `end`; `copy` as [`Plan::submit`] has it.
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
            let Layer { router, used, streamed: OffloadedLayer { ids, .. }, .. } = self.layers[layer];
            let submission = plan.submit_nodes(from..router + 1, sizes, 1, Some((ids, &self.staging)));
            from = router + 1;
            let bytes = plan.gpu().map_staging(&self.staging, submission).bytes(plan.gpu()).await?;
            let ids: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            self.fetch(plan, layer, &ids[..(used * sizes.rows) as usize]).await?;
        }
        Ok(plan.submit_nodes(from..end, sizes, 1, copy))
    }

    /// Sees to it that these experts of a layer are on the GPU.
    async fn fetch(&mut self, plan: &Plan, layer: usize, ids: &[u32]) -> Result<()> {
        let wanted: BTreeSet<u32> = ids.iter().copied().collect();
        self.clock += 1;
        self.reads.wanted += wanted.len() as u64;
        let here = &self.layers[layer];
        let room = here.room;
        let (there, missed): (Vec<u32>, Vec<u32>) = wanted.iter().partition(|id| here.places[**id as usize] != NOWHERE);
        for id in there {
            self.rooms[room].places[here.places[id as usize] as usize].1 = self.clock;
        }
        let mut unflushed = 0;
        for id in missed {
            let place = self.rooms[room].oldest();
            if let (Some((other, expert)), _) = std::mem::take(&mut self.rooms[room].places[place]) {
                self.layers[other].places[expert as usize] = NOWHERE;
                self.layers[other].stale = true;
            }
            let bytes = self.read(plan, layer, id, place as u32).await?;
            self.rooms[room].places[place] = (Some((layer, id)), self.clock);
            self.layers[layer].places[id as usize] = place as u32;
            self.layers[layer].stale = true;
            self.reads.read += 1;
            self.reads.bytes += bytes;
            unflushed += bytes;
            if unflushed >= UNFLUSHED {
                plan.gpu().flush().await?;
                unflushed = 0;
            }
        }
        let here = &mut self.layers[layer];
        if std::mem::take(&mut here.stale) {
            plan.write(here.streamed.places, 0, bytemuck::cast_slice(&here.places));
        }
        Ok(())
    }

    /// Reads an expert of a layer into a place. Returns how many bytes it has.
    async fn read(&self, plan: &Plan, layer: usize, expert: u32, place: u32) -> Result<u64> {
        let OffloadedLayer { stacks, parts, .. } = &self.layers[layer].streamed;
        let mut read = 0;
        for (stack, part) in stacks.iter().zip(parts) {
            let bytes = self.checkpoint.read(&part.tensor, part.bytes_of(expert)).await?;
            plan.write_rows(*stack, place * part.rows, &bytes);
            read += bytes.len() as u64;
        }
        Ok(read)
    }
}
