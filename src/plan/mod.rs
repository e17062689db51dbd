//! A graph made ready for one device: buffers, pipelines, bind groups, and a list of dispatches that is only replayed.
//!
//! WebGPU has no graph object and its command buffers run once, so replay means recording the same list again; with
//! everything prebuilt that costs well under a microsecond a dispatch. Nothing is created per step, and a step is one
//! pass in one submit (a long prefill: a few). Kernels whose sizes do not apply to a step are passed over, so that one
//! list serves decode, small batches and prefill.

pub mod activations;
mod expected;
pub mod fuse;
mod measure;
mod memory;
mod open;
mod pipelines;
mod step;
pub mod suballocation;
pub mod tune;
pub mod weights;

use std::future::{Future, poll_fn};
use std::ops::{Deref, Range};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::dtype::DType;
use crate::gpu::{Buffer, Caps, Gpu, Pipeline, Submission};
use crate::graph::{Graph, Rows, StepInput, TensorId, TensorKind};
use crate::ops::{self, Binding, Capacity, Kernel, KernelContext, Shard, StepSizes};
use crate::{Error, Result};
use activations::{ActivationSlots, NodeTensors};
use fuse::Fuse;
pub use measure::{Cost, arithmetic_rate, attention, copy_bandwidth, measured_matrix, products};
pub use memory::PlanMemory;
use suballocation::SharedBuffers;

/// How to compile.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Which fusions run.
    pub fuse: Fuse,
    /// Activations that are read back: each keeps a slot that no other tensor uses.
    pub keep: Vec<TensorId>,
}

/// A plan without a device: the dispatches, and how many bytes their tensors take. Plain data.
#[derive(Clone, Debug)]
pub struct DispatchList {
    /// The fused graph.
    pub graph: Graph,
    /// The largest step.
    pub capacity: Capacity,
    /// Every kernel in order, with its node.
    pub kernels: Vec<(usize, Kernel)>,
    /// The activations' buffers.
    pub slots: ActivationSlots,
    /// The buffers of all other tensors.
    pub shared: SharedBuffers,
    max_binding: u64,
    tile: u32,
}

impl DispatchList {
    /// Fuses `graph` and chooses its kernels.
    pub fn new(graph: Graph, caps: &Caps, capacity: Capacity, options: &PlanOptions) -> Self {
        let max_binding = caps.bindable();
        let graph = fuse::fuse(graph, options.fuse, max_binding);
        let mut kernels = Vec::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            let cx = KernelContext { graph: &graph, caps, capacity: &capacity };
            kernels.extend(ops::kernels(node, &cx).into_iter().map(|k| (i, k)));
        }
        let nodes: Vec<NodeTensors> = graph.nodes.iter().map(NodeTensors::from).collect();
        let bytes = |id| {
            let activation = graph.tensor(id).kind == TensorKind::Activation;
            activation.then(|| tensor_bytes(&graph, id, &capacity))
        };
        let slots = activations::assign(&nodes, bytes, &options.keep);
        let tile = ops::attention::max_query_tile(&graph, caps);
        let mut dispatch_list =
            DispatchList { graph, capacity, kernels, slots, shared: SharedBuffers::default(), max_binding, tile };
        dispatch_list.shared = suballocation::assign(&dispatch_list);
        dispatch_list
    }

    /// The shader of a kernel that would run more workgroups than `caps` allow in some step, however they are
    /// dispatched; none in a plan that can run.
    pub fn oversized(&self, caps: &Caps) -> Option<&'static str> {
        let exceeds = |kernel: &Kernel| kernel.exceeds(&self.capacity, caps.max_workgroups);
        self.kernels.iter().find(|(_, kernel)| exceeds(kernel)).map(|(_, kernel)| kernel.source.file)
    }

    /// Bytes of the tensors that are neither activations nor weights: vectors, constants, inputs, KV.
    fn fixed_tensors(&self) -> impl Iterator<Item = (TensorId, u64)> {
        let used = self.used();
        let fixed = used
            .into_iter()
            .filter(|id| !matches!(self.graph.tensor(*id).kind, TensorKind::Weight { .. } | TensorKind::Activation));
        fixed.map(|id| (id, tensor_bytes(&self.graph, id, &self.capacity)))
    }

    /// Every tensor that some node uses, once.
    pub fn used(&self) -> Vec<TensorId> {
        let mut ids = Vec::new();
        self.graph.nodes.iter().for_each(|node| node.visit(&mut |id, _| ids.push(id)));
        ids.sort();
        ids.dedup();
        ids
    }

    /// The shards of a weight.
    pub fn shards(&self, id: TensorId) -> Vec<Shard> {
        ops::weight_shards(&self.graph, id, self.max_binding)
    }

    /// The weights that the graph mentions: the load manifest.
    pub fn weights(&self) -> Vec<(TensorId, DType)> {
        let used = self.used();
        let weight = |id: TensorId| match self.graph.tensor(id).kind {
            TensorKind::Weight { dtype, .. } => Some((id, dtype)),
            _ => None,
        };
        used.into_iter().filter_map(weight).collect()
    }

    /// Bytes on the GPU, by purpose.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = Bytes { slots: self.slots.bytes.iter().sum(), ..Default::default() };
        for (id, dtype) in self.weights() {
            let cols = self.graph.cols(id);
            bytes.weights += self.shards(id).iter().map(|s| dtype.gpu_bytes(s.rows, cols)).sum::<u64>();
        }
        for (id, size) in self.fixed_tensors() {
            match self.graph.tensor(id).kind {
                TensorKind::KvCache { .. } | TensorKind::State { .. } => bytes.kv += size,
                _ => bytes.other += size,
            }
        }
        bytes
    }

    /// The largest single binding, in bytes, and its name.
    pub fn largest_binding(&self) -> (u64, String) {
        let slots = self.slots.of.iter().map(|(id, slot)| (self.slots.bytes[*slot], *id));
        let (bytes, id) = slots.chain(self.fixed_tensors().map(|(id, b)| (b, id))).max().unwrap_or((0, TensorId(0)));
        (bytes, self.graph.tensors.get(id.0).map(|t| t.name.clone()).unwrap_or_default())
    }

    /// Bytes that a kernel reads and writes in a step of these sizes (the KV cache not counted).
    pub fn traffic(&self, kernel: &Kernel, sizes: &StepSizes) -> u64 {
        let one = |b: &Binding| {
            let t = self.graph.tensor(b.tensor);
            match t.kind {
                TensorKind::Weight { .. } if kernel.source.file == "embed" => {
                    u64::from(sizes.rows) * 4 * u64::from(t.cols)
                }
                TensorKind::Weight { dtype, .. } => {
                    let all = dtype.gpu_bytes(self.shards(b.tensor)[b.shard].rows, t.cols);
                    let share =
                        kernel.experts_read.map(|(of, each)| f64::from((each * sizes.rows).min(of)) / f64::from(of));
                    (all as f64 * share.unwrap_or(1.0)) as u64
                }
                TensorKind::State { values } => 2 * u64::from(sizes.segments) * u64::from(values) * 4,
                TensorKind::KvCache { .. }
                | TensorKind::Constant(_)
                | TensorKind::StepInput(_)
                | TensorKind::ExpertSlotTable => 0,
                TensorKind::Vector { .. } | TensorKind::Concatenated(_) => u64::from(t.cols) * 4,
                TensorKind::Activation => rows_in_step(t.rows, sizes) * u64::from(t.cols) * 4,
            }
        };
        kernel.bindings.iter().map(one).sum()
    }
}

/// Bytes on the GPU, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The file's matrices.
    pub weights: u64,
    /// The KV cache and the recurrent state of sequences.
    pub kv: u64,
    /// Activations.
    pub slots: u64,
    /// Vectors, tables and the engine's own buffers.
    pub other: u64,
}

impl Bytes {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.slots + self.other
    }
}

fn rows_in_step(rows: Rows, sizes: &StepSizes) -> u64 {
    match rows {
        Rows::Fixed(n) => n.into(),
        Rows::Step | Rows::Decode => sizes.rows.into(),
        Rows::Routed(k) => u64::from(sizes.rows * k),
        Rows::ExpertTiles { used, tile, experts } => u64::from((sizes.rows * used).div_ceil(tile) + experts),
        Rows::Logits => sizes.logits.into(),
        Rows::KvSplits(k) => u64::from(sizes.rows * k * sizes.splits),
    }
}

/// Bytes of a tensor's buffer.
///
/// # Panics
/// For weights, which are sized by shard.
pub fn tensor_bytes(graph: &Graph, id: TensorId, capacity: &Capacity) -> u64 {
    let t = graph.tensor(id);
    let words = |rows: u32, cols: u32| u64::from(rows) * u64::from(cols) * 4;
    match &t.kind {
        TensorKind::Weight { .. } => panic!("{}: weights are sized by shard", t.name),
        TensorKind::KvCache { heads, head_dim, sliding: near } => {
            let pages = capacity.sliding.filter(|_| *near).map_or(capacity.pages, |near| near.pages);
            u64::from(pages) * u64::from(ops::PAGE) * capacity.kv.bytes(*heads, *head_dim)
        }
        TensorKind::State { values } => words(capacity.state_slots(), *values),
        TensorKind::StepInput(StepInput::Segments) => words(capacity.sequences, 4),
        TensorKind::StepInput(StepInput::Pages | StepInput::SlidingPages) => {
            words(capacity.sequences, capacity.pages_per_sequence)
        }
        TensorKind::StepInput(StepInput::Embeddings) => words(capacity.embeddings.max(1), t.cols),
        TensorKind::StepInput(StepInput::Sampled) => words(capacity.outputs, 1),
        TensorKind::StepInput(StepInput::Sampling) => words(capacity.outputs, 16),
        TensorKind::StepInput(StepInput::Counts) => words(capacity.outputs, t.cols),
        _ => {
            let max = capacity.largest_step();
            let decode = StepSizes { rows: capacity.decode_rows(), ..max };
            let largest = if matches!(t.rows, Rows::KvSplits(_) | Rows::Decode) { &decode } else { &max };
            rows_in_step(t.rows, largest) * u64::from(t.cols) * 4
        }
    }
}

/// A kernel with everything bound.
struct Dispatch {
    kernel: Kernel,
    node: usize,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
}

/// A compiled graph: its memory and the dispatch list. See the module.
pub struct Plan {
    memory: PlanMemory,
    dispatches: Vec<Dispatch>,
}

impl Deref for Plan {
    type Target = PlanMemory;

    fn deref(&self) -> &PlanMemory {
        &self.memory
    }
}

/// How long one dispatch took; see [`Plan::profile`].
#[derive(Clone, Debug)]
pub struct Timing {
    /// The op.
    pub op: &'static str,
    /// The node's output.
    pub name: String,
    /// The shader's file.
    pub shader: &'static str,
    /// On the GPU.
    pub time: Duration,
    /// Bytes read and written, the KV cache not counted.
    pub bytes: u64,
}

impl Plan {
    /// Allocates every buffer and builds every pipeline of a dispatch list. Weights and vectors are to be filled by
    /// [`PlanMemory::write_rows`] and [`PlanMemory::write`].
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has not enough memory.
    ///
    /// # Panics
    /// If the dispatch list was made for an adapter that allows more workgroups, or is
    /// [oversized](DispatchList::oversized).
    pub async fn compile(gpu: &Gpu, dispatch_list: DispatchList) -> Result<Self> {
        Self::compile_while(gpu, dispatch_list, async |_| Ok(())).await
    }

    /// As [`Plan::compile`]; the memory is filled while drivers compile.
    ///
    /// # Errors
    /// As [`Plan::compile`], and those of filling.
    pub async fn compile_while(
        gpu: &Gpu,
        dispatch_list: DispatchList,
        fill: impl AsyncFnOnce(&PlanMemory) -> Result<()>,
    ) -> Result<Self> {
        if let Some(shader) = dispatch_list.oversized(gpu.caps()) {
            panic!("{shader} runs more workgroups than {} allows", gpu.adapter().name);
        }
        let memory = PlanMemory::allocate(gpu, dispatch_list).await?;
        let kernels = &memory.dispatch_list().kernels;
        let building = pipelines::build(gpu, &kernels.iter().map(|(_, kernel)| kernel).collect::<Vec<_>>());
        // Both are awaited in any case, so that no thread is still inside a driver after an error.
        let (filled, built) = both(fill(&memory), building).await;
        filled?;
        let bind = |((node, kernel), pipeline): (&(usize, Kernel), Pipeline)| {
            pipelines::bind(gpu, pipeline, (*node, kernel), &memory.step, &memory.ranges)
        };
        let dispatches = kernels.iter().zip(built?).map(bind).collect();
        Ok(Plan { memory, dispatches })
    }

    /// Runs a step in `segments` submits. If `copy` is given, those first bytes of a tensor go to a staging buffer.
    pub(crate) fn submit(&self, sizes: &StepSizes, segments: u32, copy: Option<(TensorId, &Buffer)>) -> Submission {
        self.submit_nodes(0..usize::MAX, sizes, segments, copy)
    }

    /// The same for some of the graph's nodes.
    pub(crate) fn submit_nodes(
        &self,
        nodes: Range<usize>,
        sizes: &StepSizes,
        segments: u32,
        copy: Option<(TensorId, &Buffer)>,
    ) -> Submission {
        self.gpu.write(&self.step, 0, bytemuck::bytes_of(sizes));
        let wanted = |d: &&Dispatch| nodes.contains(&d.node) && runs(&d.kernel, sizes);
        let list: Vec<&Dispatch> = self.dispatches.iter().filter(wanted).collect();
        let part = list.len().div_ceil(segments.max(1) as usize).max(1);
        let mut parts = list.chunks(part).peekable();
        loop {
            let dispatches = parts.next().unwrap_or_default();
            let mut encoder = encode(&self.gpu, dispatches, sizes);
            let last = parts.peek().is_none();
            if let (true, Some((id, staging))) = (last, copy) {
                self.copy(&mut encoder, id, staging);
            }
            let index = self.gpu.queue().submit([encoder.finish()]);
            if last {
                return index;
            }
        }
    }

    /// Runs a step and waits for it.
    pub async fn run(&self, sizes: &StepSizes) -> Result<()> {
        let index = self.submit(sizes, 1, None);
        self.gpu.wait(index).await
    }

    /// Dispatches in a step of these sizes.
    pub fn dispatches(&self, sizes: &StepSizes) -> usize {
        self.running(sizes).count()
    }

    fn running<'a>(&'a self, sizes: &'a StepSizes) -> impl Iterator<Item = &'a Dispatch> {
        self.dispatches.iter().filter(|d| runs(&d.kernel, sizes))
    }

    /// Runs a step with a pass for each dispatch and a timestamp around it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the adapter has no timestamps.
    pub async fn profile(&self, sizes: &StepSizes) -> Result<Vec<Timing>> {
        if !self.gpu.caps().timestamps {
            return Err(Error::Unsupported(format!(
                "{} has no timestamps; leave --profile out",
                self.gpu.adapter().name
            )));
        }
        self.gpu.write(&self.step, 0, bytemuck::bytes_of(sizes));
        let list: Vec<&Dispatch> = self.running(sizes).collect();
        let mut timings = Vec::with_capacity(list.len());
        // A query set holds at most 4096 timestamps.
        for part in list.chunks(2048) {
            timings.extend(self.profile_part(part, sizes).await?);
        }
        Ok(timings)
    }

    async fn profile_part(&self, list: &[&Dispatch], sizes: &StepSizes) -> Result<Vec<Timing>> {
        let count = 2 * list.len() as u32;
        let queries = self.gpu.counted_device().create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let bytes = u64::from(count) * 8;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.gpu.counted_device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        let mut encoder = self.gpu.encoder();
        for (i, d) in list.iter().enumerate() {
            let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                query_set: &queries,
                beginning_of_pass_write_index: Some(2 * i as u32),
                end_of_pass_write_index: Some(2 * i as u32 + 1),
            });
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            record(&mut pass, d, sizes);
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
        self.gpu.queue().submit([encoder.finish()]);
        let stamps = self.gpu.read(&resolved, 0..bytes).await?;
        let stamps: &[u64] = &bytemuck::pod_collect_to_vec(&stamps);
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        let timing = |(d, pair): (&&Dispatch, &[u64])| {
            let node = &self.dispatch_list.graph.nodes[d.node];
            Timing {
                op: node.name(),
                name: self.dispatch_list.graph.tensor(node.outputs()[0]).name.clone(),
                shader: d.kernel.source.file,
                time: Duration::from_nanos((pair[1].saturating_sub(pair[0]) as f64 * period) as u64),
                bytes: self.dispatch_list.traffic(&d.kernel, sizes),
            }
        };
        Ok(list.iter().zip(stamps.chunks_exact(2)).map(timing).collect())
    }
}

/// Whether a kernel runs in a step of these sizes.
pub fn runs(kernel: &Kernel, sizes: &StepSizes) -> bool {
    kernel.when.iter().all(|w| (w.min..=w.max).contains(&sizes.get(w.size)))
        && kernel.grid.iter().all(|extent| extent.of(sizes) > 0)
}

/// All of them in one pass.
/// Awaits two futures at the same time.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|context: &mut Context<'_>| {
        if of_a.is_none() {
            of_a = ready(a.as_mut().poll(context));
        }
        if of_b.is_none() {
            of_b = ready(b.as_mut().poll(context));
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            unfinished => {
                (of_a, of_b) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

fn ready<T>(polled: Poll<T>) -> Option<T> {
    match polled {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn encode(gpu: &Gpu, dispatches: &[&Dispatch], sizes: &StepSizes) -> wgpu::CommandEncoder {
    let mut encoder = gpu.encoder();
    let mut pass = encoder.begin_compute_pass(&Default::default());
    for d in dispatches {
        record(&mut pass, d, sizes);
    }
    drop(pass);
    encoder
}

fn record(pass: &mut wgpu::ComputePass, d: &Dispatch, sizes: &StepSizes) {
    pass.set_pipeline(&d.pipeline);
    pass.set_bind_group(0, &d.group, &[]);
    let [x, y, z] = d.kernel.workgroups(sizes);
    pass.dispatch_workgroups(x, y, z);
}
