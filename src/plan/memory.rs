//! A plan's buffers: their allocation, the upload of weights, and how tensors are written and read.
//!
//! Pipelines are not part of it: weights can be uploaded while pipelines are compiled.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZero;

use super::DispatchList;
use super::suballocation::Suballocation;
use super::weights::ShardRows;
use crate::gpu::{Buffer, Gpu, Submission};
use crate::graph::{StepInput, TensorId, TensorKind};
use crate::ops::StepSizes;
use crate::{Error, Result};

/// The buffers of a dispatch list's tensors, on a device.
pub struct PlanMemory {
    pub(super) gpu: Gpu,
    pub(super) dispatch_list: DispatchList,
    /// [`StepSizes`], as kernels read them.
    pub(super) step: Buffer,
    buffers: Vec<Buffer>,
    pub(super) ranges: BTreeMap<TensorId, Vec<BufferRange>>,
}

/// The bytes of a buffer that hold a tensor, or a shard of a weight.
#[derive(Clone)]
pub(super) struct BufferRange {
    buffer: Buffer,
    offset: u64,
    bytes: u64,
}

impl BufferRange {
    /// All of a buffer.
    pub(super) fn whole(buffer: Buffer) -> Self {
        BufferRange { offset: 0, bytes: buffer.size(), buffer }
    }

    /// The binding for a kernel.
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        let BufferRange { buffer, offset, bytes } = self;
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: *offset, size: NonZero::new(*bytes) })
    }

    fn write(&self, gpu: &Gpu, offset: u64, data: &[u8]) {
        gpu.write(&self.buffer, self.offset + offset, data);
    }
}

impl PlanMemory {
    /// Allocates every buffer, and writes the constants.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has not enough memory.
    pub(super) async fn allocate(gpu: &Gpu, dispatch_list: DispatchList) -> Result<Self> {
        let watch = gpu.error_scope();
        let buffers = buffers(gpu, &dispatch_list);
        let step = gpu.uniform("step", size_of::<StepSizes>() as u64);
        if let Err(error) = watch.finish().await {
            let mib = dispatch_list.bytes().total() >> 20;
            return Err(Error::Memory(format!("{error}: {mib} MiB are needed; take a smaller file or --context")));
        }
        let ranges = ranges(&dispatch_list, &buffers);
        let memory = PlanMemory { gpu: gpu.clone(), dispatch_list, step, buffers, ranges };
        write_tables(&memory);
        for id in memory.dispatch_list.used() {
            if let TensorKind::Constant(values) = &memory.dispatch_list.graph.tensor(id).kind {
                memory.write(id, 0, bytemuck::cast_slice(values));
            }
        }
        Ok(memory)
    }

    /// The dispatch list that the buffers were allocated for.
    pub fn dispatch_list(&self) -> &DispatchList {
        &self.dispatch_list
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The total size of its buffers as allocated, in bytes; [`DispatchList::bytes`] predicts it.
    pub fn allocated(&self) -> u64 {
        self.buffers.iter().map(Buffer::size).sum::<u64>() + self.step.size()
    }

    fn place(&self, id: TensorId) -> &BufferRange {
        &self.ranges[&id][0]
    }

    /// Records a copy of a tensor's first bytes, as many as `to` takes.
    pub(super) fn copy(&self, encoder: &mut wgpu::CommandEncoder, id: TensorId, to: &Buffer) {
        let BufferRange { buffer, offset, .. } = self.place(id);
        encoder.copy_buffer_to_buffer(buffer, *offset, to, 0, to.size());
    }

    /// Writes `data` at byte `offset` of a tensor that is not a weight, before the next step.
    pub fn write(&self, id: TensorId, offset: u64, data: &[u8]) {
        self.place(id).write(&self.gpu, offset, data);
    }

    /// Writes one of the engine's inputs; does nothing if the graph does not use it.
    pub fn write_input(&self, input: StepInput, offset: u64, data: &[u8]) {
        if let Some(id) = self.input(input) {
            self.write(id, offset, data);
        }
    }

    /// The tensor of one of the engine's inputs, if the graph uses it.
    pub fn input(&self, input: StepInput) -> Option<TensorId> {
        let tensors = &self.dispatch_list.graph.tensors;
        let id = TensorId(tensors.iter().position(|t| t.kind == TensorKind::StepInput(input))?);
        self.ranges.contains_key(&id).then_some(id)
    }

    /// Fills rows of a weight with rows in the layout of a file, repacked. `row` is even unless these are its last.
    pub fn write_rows(&self, id: TensorId, row: u32, data: &[u8]) {
        for part in &self.rows(id, row, data.len()) {
            fill(&self.gpu, part, data);
        }
    }

    /// As [`PlanMemory::write_rows`], on another thread where threads exist; the work starts at once and is then
    /// awaited. That thread also passes the rows to the device: a software adapter copies them in that call.
    pub(crate) fn write_rows_async(
        &self,
        id: TensorId,
        row: u32,
        data: Vec<u8>,
    ) -> impl Future<Output = Submission> + use<> {
        let (gpu, parts) = (self.gpu.clone(), self.rows(id, row, data.len()));
        self.gpu.spawn_blocking(move || {
            parts.iter().for_each(|part| fill(&gpu, part, &data));
            gpu.queue().submit([])
        })
    }

    /// The ranges that `bytes` bytes of rows go to, from `row` on.
    fn rows(&self, id: TensorId, row: u32, bytes: usize) -> Vec<(BufferRange, ShardRows)> {
        let parts = self.dispatch_list.shard_rows(id, row, bytes);
        parts.into_iter().map(|part| (self.ranges[&id][part.shard].clone(), part)).collect()
    }

    /// Reads a tensor back, as many bytes as asked for.
    pub async fn read(&self, id: TensorId, bytes: u64) -> Result<Vec<u8>> {
        let BufferRange { buffer, offset, .. } = self.place(id);
        self.gpu.read(buffer, *offset..offset + bytes).await
    }
}

/// Fills a part of a shard with rows in the layout of a file.
fn fill(gpu: &Gpu, (range, rows): &(BufferRange, ShardRows), data: &[u8]) {
    for (offset, plane) in rows.planes(data) {
        range.write(gpu, offset, &plane);
    }
}

/// The buffers of a dispatch list's parts, and then those of its slots.
fn buffers(gpu: &Gpu, dispatch_list: &DispatchList) -> Vec<Buffer> {
    let parts = dispatch_list.shared.bytes.iter().map(|bytes| ("tensors", *bytes));
    let slots = dispatch_list.slots.bytes.iter().map(|bytes| ("slot", *bytes));
    let mut wanted: Vec<_> = parts.chain(slots).enumerate().collect();
    // The largest first: that packs the allocator's blocks best.
    wanted.sort_by_key(|(_, (_, bytes))| Reverse(*bytes));
    let mut made: Vec<_> = wanted.into_iter().map(|(i, (label, bytes))| (i, gpu.buffer(label, bytes))).collect();
    made.sort_by_key(|(i, _)| *i);
    made.into_iter().map(|(_, buffer)| buffer).collect()
}

fn ranges(dispatch_list: &DispatchList, buffers: &[Buffer]) -> BTreeMap<TensorId, Vec<BufferRange>> {
    let (parts, slots) = buffers.split_at(dispatch_list.shared.bytes.len());
    let part = |part: &Suballocation| BufferRange {
        buffer: parts[part.buffer].clone(),
        offset: part.offset,
        bytes: part.bytes,
    };
    let of_parts = dispatch_list.shared.of.iter().map(|(id, of)| (*id, of.iter().map(part).collect()));
    let of_slots =
        dispatch_list.slots.of.iter().map(|(id, slot)| (*id, vec![BufferRange::whole(slots[*slot].clone())]));
    of_parts.chain(of_slots).collect()
}

/// Writes the tables that follow the planes of some weight types.
fn write_tables(memory: &PlanMemory) {
    for (id, shard, offset, table) in memory.dispatch_list.tables() {
        memory.ranges[&id][shard].write(&memory.gpu, offset, table);
    }
}
