//! Which activations share a buffer: two may when no node needs both.
//!
//! Slots are whole buffers. wgpu tracks hazards by buffer, so two tensors in one arena could neither be read and
//! written in one dispatch nor run concurrently.

use std::collections::BTreeMap;

use crate::graph::{Op, TensorId};

/// The buffers of a graph's activations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActivationSlots {
    /// Bytes of each slot.
    pub bytes: Vec<u64>,
    /// The slot of each activation that some node uses.
    pub of: BTreeMap<TensorId, usize>,
}

/// The tensors that a node uses.
#[derive(Clone, Debug, Default)]
pub struct NodeTensors {
    /// Those that it reads.
    pub reads: Vec<TensorId>,
    /// Those that it writes.
    pub writes: Vec<TensorId>,
}

impl From<&Op> for NodeTensors {
    fn from(op: &Op) -> Self {
        NodeTensors { reads: op.inputs(), writes: op.outputs() }
    }
}

impl NodeTensors {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = TensorId> {
        self.reads.iter().chain(&self.writes).copied()
    }
}

/// Assigns slots in order of execution. `bytes` gives the size of an activation, and nothing for other tensors; tensors
/// in `keep` share with none.
pub fn assign(nodes: &[NodeTensors], bytes: impl Fn(TensorId) -> Option<u64>, keep: &[TensorId]) -> ActivationSlots {
    let last_use: BTreeMap<TensorId, usize> =
        nodes.iter().enumerate().flat_map(|(i, node)| node.all().map(move |id| (id, i))).collect();
    let mut slots = ActivationSlots::default();
    let mut free: Vec<usize> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        for &id in &node.writes {
            let Some(bytes) = bytes(id).filter(|_| !slots.of.contains_key(&id)) else { continue };
            let kept = keep.contains(&id);
            let slot = if kept { None } else { best(&free, &slots.bytes, bytes) };
            let slot = slot.map(|at| free.swap_remove(at)).unwrap_or_else(|| {
                slots.bytes.push(0);
                slots.bytes.len() - 1
            });
            slots.bytes[slot] = slots.bytes[slot].max(bytes);
            slots.of.insert(id, slot);
        }
        let mut ended: Vec<TensorId> = node.all().collect();
        ended.sort();
        ended.dedup();
        for id in ended {
            if last_use[&id] == i && !keep.contains(&id) {
                free.extend(slots.of.get(&id));
            }
        }
    }
    slots
}

/// Among the free slots: the smallest that is large enough, else the largest.
fn best(free: &[usize], sizes: &[u64], wanted: u64) -> Option<usize> {
    let key = |at: &usize| {
        let size = sizes[free[*at]];
        if size >= wanted { (0, size - wanted) } else { (1, wanted - size) }
    };
    (0..free.len()).min_by_key(key)
}
