//! Suballocation: which weights, caches and other tensors share a buffer. Activations are in [`super::activations`].
//!
//! wgpu tracks whole buffers. Each buffer that a dispatch binds costs CPU time in every step, but a second range of the
//! same buffer costs almost nothing. So tensors that are bound together share a buffer, unless that would make one
//! dispatch wait for another: the weights of a node, its caches, and everything that kernels only read.

use std::collections::{BTreeMap, BTreeSet};

use super::activations::NodeTensors;
use super::{DispatchList, tensor_bytes};
use crate::graph::{TensorId, TensorKind};

/// The maximum size of a shared buffer in bytes; larger tensors get separate buffers. Large pieces fill memory blocks
/// badly, and a model with tensors of this size is limited by the GPU, not by recording.
const SHARED: u64 = 16 << 20;

/// Alignment of a range, valid on any adapter (WebGPU's `minStorageBufferOffsetAlignment`).
const ALIGNMENT: u64 = 256;

/// Buffers, and the tensors in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SharedBuffers {
    /// Bytes of each buffer.
    pub bytes: Vec<u64>,
    /// The range of each tensor; those of a weight's shards in order.
    pub of: BTreeMap<TensorId, Vec<Suballocation>>,
}

/// A range of a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suballocation {
    /// Index of the buffer.
    pub buffer: usize,
    /// The first byte.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// Assigns a dispatch list's tensors, activations left out.
pub(super) fn assign(dispatch_list: &DispatchList) -> SharedBuffers {
    let graph = &dispatch_list.graph;
    let written: BTreeSet<TensorId> = dispatch_list
        .kernels
        .iter()
        .flat_map(|(_, kernel)| kernel.bindings.iter().filter(|b| b.write).map(|b| b.tensor))
        .collect();
    let mut parts = SharedBuffers::default();
    let is_weight = |id: &TensorId| matches!(graph.tensor(*id).kind, TensorKind::Weight { .. });
    let is_cache =
        |id: &TensorId| matches!(graph.tensor(*id).kind, TensorKind::KvCache { .. } | TensorKind::State { .. });
    for node in &graph.nodes {
        let node = NodeTensors::from(node);
        parts.add(dispatch_list, node.all().filter(is_weight));
        parts.add(dispatch_list, node.all().filter(is_cache));
    }
    let (own, read): (Vec<_>, Vec<_>) = dispatch_list
        .used()
        .into_iter()
        .filter(|id| !is_weight(id) && !is_cache(id) && graph.tensor(*id).kind != TensorKind::Activation)
        .partition(|id| written.contains(id));
    parts.add(dispatch_list, read.into_iter());
    own.into_iter().for_each(|id| parts.add(dispatch_list, std::iter::once(id)));
    parts
}

impl SharedBuffers {
    /// Places tensors in as few buffers as possible; tensors that are already placed stay.
    fn add(&mut self, dispatch_list: &DispatchList, ids: impl Iterator<Item = TensorId>) {
        let most = SHARED.min(dispatch_list.max_binding);
        let mut open = None;
        for id in ids {
            if self.of.contains_key(&id) {
                continue;
            }
            let place = |bytes: u64| {
                let size = bytes.max(16).next_multiple_of(ALIGNMENT);
                let fits = |buffer: &usize| self.bytes[*buffer] + size <= most;
                let buffer = open.filter(fits).unwrap_or_else(|| {
                    self.bytes.push(0);
                    self.bytes.len() - 1
                });
                open = Some(buffer);
                let offset = self.bytes[buffer];
                self.bytes[buffer] += size;
                Suballocation { buffer, offset, bytes: bytes.max(16).next_multiple_of(16) }
            };
            let placed = sizes(dispatch_list, id).into_iter().map(place).collect();
            self.of.insert(id, placed);
        }
    }
}

/// Bytes of each shard of a tensor.
fn sizes(dispatch_list: &DispatchList, id: TensorId) -> Vec<u64> {
    let t = dispatch_list.graph.tensor(id);
    match t.kind {
        TensorKind::Weight { dtype, .. } => {
            dispatch_list.shards(id).iter().map(|s| dtype.gpu_bytes(s.rows, t.cols)).collect()
        }
        _ => vec![tensor_bytes(&dispatch_list.graph, id, &dispatch_list.capacity)],
    }
}
