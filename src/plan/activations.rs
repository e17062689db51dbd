//! Which activations share a buffer: two may when no node needs both.
//!
//! ActivationSlots are whole buffers. wgpu tracks hazards by buffer, so two tensors in one arena could neither be read and
//! written in one dispatch nor run side by side.

use std::collections::BTreeMap;

use crate::graph::{Graph, TensorId, TensorKind};

/// The buffers of a graph's activations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActivationSlots {
    /// Bytes of each slot.
    pub bytes: Vec<u64>,
    /// The slot of each activation that some node uses.
    pub of: BTreeMap<TensorId, usize>,
}

/// Assigns slots in order of execution. `bytes` gives a tensor's size; tensors in `keep` share with none.
pub fn assign(graph: &Graph, bytes: impl Fn(TensorId) -> u64, keep: &[TensorId]) -> ActivationSlots {
    let mut last_use = BTreeMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for id in node.inputs.iter().chain(&node.outputs) {
            last_use.insert(*id, i);
        }
    }
    let mut slots = ActivationSlots::default();
    let mut free: Vec<usize> = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for &id in &node.outputs {
            if graph.tensor(id).kind != TensorKind::Activation || slots.of.contains_key(&id) {
                continue;
            }
            let kept = keep.contains(&id);
            let slot = if kept { None } else { best(&free, &slots.bytes, bytes(id)) };
            let slot = slot.map(|at| free.swap_remove(at)).unwrap_or_else(|| {
                slots.bytes.push(0);
                slots.bytes.len() - 1
            });
            slots.bytes[slot] = slots.bytes[slot].max(bytes(id));
            slots.of.insert(id, slot);
        }
        let mut ended: Vec<TensorId> = node.inputs.iter().chain(&node.outputs).copied().collect();
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
