//! A plan's buffers: what the device is asked for, how weights come into them, and how tensors are written and read.
//!
//! It knows nothing of pipelines: it can be filled while they are compiled.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::ops::Range;

use super::Listing;
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
    pub(super) buffers: BTreeMap<TensorId, Vec<Buffer>>,
}

impl Memory {
    /// Allocates every buffer, and writes the constants.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has not enough memory.
    pub(super) async fn allocate(gpu: &Gpu, listing: Listing) -> Result<Self> {
        let watch = gpu.watch();
        let buffers = buffers(gpu, &listing);
        let step = gpu.uniform("step", size_of::<StepSizes>() as u64);
        if let Err(error) = watch.finish().await {
            let mib = listing.bytes().total() >> 20;
            return Err(Error::Memory(format!("{error}: {mib} MiB are needed; take a smaller file or --context")));
        }
        let memory = Memory { gpu: gpu.clone(), listing, step, buffers };
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
        let mut seen = HashSet::new();
        let mut first = |id| self.listing.slots.of.get(id).is_none_or(|slot| seen.insert(*slot));
        let buffers = self.buffers.iter().filter(|(id, _)| first(id)).flat_map(|(_, buffers)| buffers);
        buffers.map(Buffer::size).sum::<u64>() + self.step.size()
    }

    pub(super) fn buffer(&self, id: TensorId) -> &Buffer {
        &self.buffers[&id][0]
    }

    /// Writes `data` at byte `offset` of a tensor that is not a weight, before the next step.
    pub fn write(&self, id: TensorId, offset: u64, data: &[u8]) {
        self.gpu.write(self.buffer(id), offset, data);
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
        self.buffers.contains_key(&id).then_some(id)
    }

    /// Fills rows of a weight with rows as they lie in a file, repacked. `row` is even unless these are its last.
    pub fn write_rows(&self, id: TensorId, row: u32, data: &[u8]) {
        for place in self.places(id, row, data.len()) {
            place.fill(&self.gpu, data);
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
        let (gpu, places) = (self.gpu.clone(), self.places(id, row, data.len()));
        self.gpu.apart(move || {
            places.iter().for_each(|place| place.fill(&gpu, &data));
            gpu.queue().submit([])
        })
    }

    /// Where so many bytes of rows go, from `row` on: a weight may be in shards.
    fn places(&self, id: TensorId, row: u32, bytes: usize) -> Vec<Place> {
        let t = self.listing.graph.tensor(id);
        let Kind::Weight { dtype, .. } = t.kind else { panic!("{} is no weight", t.name) };
        let row_bytes = dtype.row_bytes(t.cols.into()).expect("whole blocks") as usize;
        let end = row + (bytes / row_bytes) as u32;
        let place = |(shard, buffer): (&Shard, &Buffer)| {
            let (from, to) = (row.max(shard.row0), end.min(shard.row0 + shard.rows));
            (from < to).then(|| Place {
                buffer: buffer.clone(),
                dtype,
                shape: (shard.rows, t.cols),
                row: from - shard.row0,
                bytes: (from - row) as usize * row_bytes..(to - row) as usize * row_bytes,
            })
        };
        self.listing.shards(id).iter().zip(&self.buffers[&id]).filter_map(place).collect()
    }

    /// Reads a tensor back, as many bytes as asked for.
    pub async fn read(&self, id: TensorId, bytes: u64) -> Result<Vec<u8>> {
        self.gpu.read(self.buffer(id), 0..bytes).await
    }
}

/// Where a part of some rows goes.
struct Place {
    /// A shard.
    buffer: Buffer,
    dtype: DType,
    /// Rows and columns of the shard.
    shape: (u32, u32),
    /// The first of its rows that are filled.
    row: u32,
    /// With these of the rows' bytes.
    bytes: Range<usize>,
}

impl Place {
    fn fill(&self, gpu: &Gpu, data: &[u8]) {
        let Place { buffer, dtype, shape: (rows, cols), row, bytes } = self;
        let mut planes = vec![Vec::new(); dtype.planes().len()];
        dtype.pack_rows(&data[bytes.clone()], *cols as usize, &mut planes);
        let first_group = u64::from(*row) * u64::from(cols.div_ceil(32));
        for ((plane, layout), start) in planes.iter_mut().zip(dtype.planes()).zip(dtype.plane_offsets(*rows, *cols)) {
            let at = first_group / u64::from(layout.groups) * u64::from(layout.bytes);
            assert!(at.is_multiple_of(4), "a chunk of {dtype} begins within a word");
            plane.resize(plane.len().next_multiple_of(4), 0);
            gpu.write(buffer, start + at, plane);
        }
    }
}

fn buffers(gpu: &Gpu, listing: &Listing) -> BTreeMap<TensorId, Vec<Buffer>> {
    let mut buffers = BTreeMap::new();
    for (id, dtype) in listing.weights() {
        let t = listing.graph.tensor(id);
        let shards = listing.shards(id);
        let make = |s: &Shard| {
            let buffer = gpu.buffer(&t.name, dtype.gpu_bytes(s.rows, t.cols));
            let table = dtype.table();
            if !table.is_empty() {
                gpu.write(&buffer, dtype.gpu_bytes(s.rows, t.cols) - table.len() as u64, table);
            }
            buffer
        };
        buffers.insert(id, shards.iter().map(make).collect());
    }
    for (id, bytes) in listing.fixed_tensors() {
        buffers.insert(id, vec![gpu.buffer(&listing.graph.tensor(id).name, bytes)]);
    }
    let slots: Vec<Buffer> = listing.slots.bytes.iter().map(|bytes| gpu.buffer("slot", *bytes)).collect();
    for (id, slot) in &listing.slots.of {
        buffers.insert(*id, vec![slots[*slot].clone()]);
    }
    buffers
}
