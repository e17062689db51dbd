//! A plan's buffers: what the device is asked for, how weights come into them, and how tensors are written and read.
//!
//! It knows nothing of pipelines: it can be filled while they are compiled.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZero;
use std::ops::Range;

use super::Listing;
use super::parts::Part;
use crate::dtype::DType;
use crate::gpu::{Buffer, Gpu, Submission};
use crate::graph::{Input, Kind, TensorId};
use crate::ops::{Shard, StepSizes};
use crate::{Error, Result};

/// The buffers of a listing's tensors, on a device.
pub struct Memory {
    pub(super) gpu: Gpu,
    pub(super) listing: Listing,
    /// [`StepSizes`], as kernels read them.
    pub(super) step: Buffer,
    buffers: Vec<Buffer>,
    pub(super) places: BTreeMap<TensorId, Vec<Place>>,
}

/// Where a tensor lies, or a shard of a weight: some bytes of a buffer.
#[derive(Clone)]
pub(super) struct Place {
    buffer: Buffer,
    offset: u64,
    bytes: u64,
}

impl Place {
    /// All of a buffer.
    pub(super) fn whole(buffer: Buffer) -> Self {
        Place { offset: 0, bytes: buffer.size(), buffer }
    }

    /// What a kernel sees of it.
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        let Place { buffer, offset, bytes } = self;
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: *offset, size: NonZero::new(*bytes) })
    }

    fn write(&self, gpu: &Gpu, offset: u64, data: &[u8]) {
        gpu.write(&self.buffer, self.offset + offset, data);
    }
}

impl Memory {
    /// Allocates every buffer, and writes the constants.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has not enough memory.
    pub(super) async fn allocate(gpu: &Gpu, listing: Listing) -> Result<Self> {
        let watch = gpu.error_scope();
        let buffers = buffers(gpu, &listing);
        let step = gpu.uniform("step", size_of::<StepSizes>() as u64);
        if let Err(error) = watch.finish().await {
            let mib = listing.bytes().total() >> 20;
            return Err(Error::Memory(format!("{error}: {mib} MiB are needed; take a smaller file or --context")));
        }
        let places = places(&listing, &buffers);
        let memory = Memory { gpu: gpu.clone(), listing, step, buffers, places };
        write_tables(&memory);
        for id in memory.listing.used() {
            if let Kind::Constant(values) = &memory.listing.graph.tensor(id).kind {
                memory.write(id, 0, bytemuck::cast_slice(values));
            }
        }
        Ok(memory)
    }

    /// What it holds.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes of all its buffers as the device was asked for them: what [`Listing::bytes`] foretells.
    pub fn allocated(&self) -> u64 {
        self.buffers.iter().map(Buffer::size).sum::<u64>() + self.step.size()
    }

    fn place(&self, id: TensorId) -> &Place {
        &self.places[&id][0]
    }

    /// Records a copy of a tensor's first bytes, as many as `to` takes.
    pub(super) fn copy(&self, encoder: &mut wgpu::CommandEncoder, id: TensorId, to: &Buffer) {
        let Place { buffer, offset, .. } = self.place(id);
        encoder.copy_buffer_to_buffer(buffer, *offset, to, 0, to.size());
    }

    /// Writes `data` at byte `offset` of a tensor that is not a weight, before the next step.
    pub fn write(&self, id: TensorId, offset: u64, data: &[u8]) {
        self.place(id).write(&self.gpu, offset, data);
    }

    /// Writes one of the engine's inputs; does nothing if the graph does not use it.
    pub fn write_input(&self, input: Input, offset: u64, data: &[u8]) {
        if let Some(id) = self.input(input) {
            self.write(id, offset, data);
        }
    }

    /// The tensor of one of the engine's inputs, if the graph uses it.
    pub fn input(&self, input: Input) -> Option<TensorId> {
        let tensors = &self.listing.graph.tensors;
        let id = TensorId(tensors.iter().position(|t| t.kind == Kind::Input(input))?);
        self.places.contains_key(&id).then_some(id)
    }

    /// Fills rows of a weight with rows as they lie in a file, repacked. `row` is even unless these are its last.
    pub fn write_rows(&self, id: TensorId, row: u32, data: &[u8]) {
        for part in self.rows(id, row, data.len()) {
            part.fill(&self.gpu, data);
        }
    }

    /// As [`Memory::write_rows`], on another thread where there are some; it has begun, and is waited for. That thread hands
    /// the rows to the device, too: where a processor pretends to be one, it is then that they are copied.
    pub(crate) fn write_rows_apart(
        &self,
        id: TensorId,
        row: u32,
        data: Vec<u8>,
    ) -> impl Future<Output = Submission> + use<> {
        let (gpu, parts) = (self.gpu.clone(), self.rows(id, row, data.len()));
        self.gpu.spawn_blocking(move || {
            parts.iter().for_each(|part| part.fill(&gpu, &data));
            gpu.queue().submit([])
        })
    }

    /// Where so many bytes of rows go, from `row` on: a weight may be in shards.
    fn rows(&self, id: TensorId, row: u32, bytes: usize) -> Vec<SomeRows> {
        let t = self.listing.graph.tensor(id);
        let Kind::Weight { dtype, .. } = t.kind else { panic!("{} is no weight", t.name) };
        let row_bytes = dtype.row_bytes(t.cols.into()).expect("whole blocks") as usize;
        let end = row + (bytes / row_bytes) as u32;
        let part = |(shard, place): (&Shard, &Place)| {
            let (from, to) = (row.max(shard.row0), end.min(shard.row0 + shard.rows));
            (from < to).then(|| SomeRows {
                place: place.clone(),
                dtype,
                shape: (shard.rows, t.cols),
                row: from - shard.row0,
                bytes: (from - row) as usize * row_bytes..(to - row) as usize * row_bytes,
            })
        };
        self.listing.shards(id).iter().zip(&self.places[&id]).filter_map(part).collect()
    }

    /// Reads a tensor back, as many bytes as asked for.
    pub async fn read(&self, id: TensorId, bytes: u64) -> Result<Vec<u8>> {
        let Place { buffer, offset, .. } = self.place(id);
        self.gpu.read(buffer, *offset..offset + bytes).await
    }
}

/// A part of some rows, and where it goes.
struct SomeRows {
    /// A shard.
    place: Place,
    dtype: DType,
    /// Rows and columns of the shard.
    shape: (u32, u32),
    /// The first of its rows that are filled.
    row: u32,
    /// With these of the rows' bytes.
    bytes: Range<usize>,
}

impl SomeRows {
    fn fill(&self, gpu: &Gpu, data: &[u8]) {
        let SomeRows { place, dtype, shape: (rows, cols), row, bytes } = self;
        let mut planes = vec![Vec::new(); dtype.planes().len()];
        dtype.pack_rows(&data[bytes.clone()], *cols as usize, &mut planes);
        let first_group = u64::from(*row) * u64::from(cols.div_ceil(32));
        for ((plane, layout), start) in planes.iter_mut().zip(dtype.planes()).zip(dtype.plane_offsets(*rows, *cols)) {
            let at = first_group / u64::from(layout.groups) * u64::from(layout.bytes);
            assert!(at.is_multiple_of(4), "a chunk of {dtype} begins within a word");
            plane.resize(plane.len().next_multiple_of(4), 0);
            place.write(gpu, start + at, plane);
        }
    }
}

/// The buffers of a listing's parts, and then those of its slots.
fn buffers(gpu: &Gpu, listing: &Listing) -> Vec<Buffer> {
    let parts = listing.parts.bytes.iter().map(|bytes| ("tensors", *bytes));
    let slots = listing.slots.bytes.iter().map(|bytes| ("slot", *bytes));
    let mut wanted: Vec<_> = parts.chain(slots).enumerate().collect();
    // The largest first: blocks of memory are filled best so.
    wanted.sort_by_key(|(_, (_, bytes))| Reverse(*bytes));
    let mut made: Vec<_> = wanted.into_iter().map(|(i, (label, bytes))| (i, gpu.buffer(label, bytes))).collect();
    made.sort_by_key(|(i, _)| *i);
    made.into_iter().map(|(_, buffer)| buffer).collect()
}

fn places(listing: &Listing, buffers: &[Buffer]) -> BTreeMap<TensorId, Vec<Place>> {
    let (parts, slots) = buffers.split_at(listing.parts.bytes.len());
    let part = |part: &Part| Place { buffer: parts[part.buffer].clone(), offset: part.offset, bytes: part.bytes };
    let of_parts = listing.parts.of.iter().map(|(id, of)| (*id, of.iter().map(part).collect()));
    let of_slots = listing.slots.of.iter().map(|(id, slot)| (*id, vec![Place::whole(slots[*slot].clone())]));
    of_parts.chain(of_slots).collect()
}

/// Writes the tables that types of weights have behind their planes.
fn write_tables(memory: &Memory) {
    let Memory { gpu, listing, places, .. } = memory;
    for (id, dtype) in listing.weights().into_iter().filter(|(_, dtype)| !dtype.table().is_empty()) {
        for (shard, place) in listing.shards(id).into_iter().zip(&places[&id]) {
            let end = dtype.gpu_bytes(shard.rows, listing.graph.cols(id));
            place.write(gpu, end - dtype.table().len() as u64, dtype.table());
        }
    }
}
