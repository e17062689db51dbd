//! Measurements: the bandwidth and arithmetic rate that shaders reach, the cost of a product or of attention, and the
//! time that the CPU takes to record a step.

use std::collections::BTreeMap;

use super::memory::BufferRange;
use super::pipelines;
use super::{Dispatch, DispatchList, Fuse, Plan, PlanOptions, encode};
use crate::Result;
use crate::dtype::DType;
use crate::gpu::{Caps, Gpu, Tier};
use crate::graph::{Attention, Graph, Rows, StepInput, TensorId, TensorKind};
use crate::ops::{self, Capacity, GridDim, Kernel, KvType, StepSizes};

/// The GB/s of a copy shader that reads and writes `bytes` bytes each: the memory bandwidth that `bench` reports.
pub async fn copy_bandwidth(gpu: &Gpu, bytes: u64) -> Result<f64> {
    let count = (bytes.min(gpu.caps().bindable()) / 16) as u32;
    let side = count.div_ceil(256).min(32768);
    let grid = [GridDim::fixed(side), GridDim::ceil(count, 256 * side), GridDim::fixed(1)];
    let bytes = u64::from(count) * 16;
    let seconds = read_write_seconds(gpu, Kernel::new("copy", grid).set("COUNT", count), bytes).await?;
    Ok(2.0 * bytes as f64 / seconds / 1e9)
}

/// The peak GFLOP/s of a shader of fused multiply-adds, each counted as two: in f32, in f16 for [`Tier::F16`], with
/// cooperative matrices for [`Tier::Cooperative`].
pub async fn arithmetic_rate(gpu: &Gpu) -> Result<f64> {
    let caps = gpu.caps();
    let (groups, rounds) = if caps.software { (64, 128) } else { (1 << 14, 1024) };
    let grid = [GridDim::fixed(groups), GridDim::fixed(1), GridDim::fixed(1)];
    let rate = |element| (Kernel::new("rate", grid).import("element", element), 64, 64 * 64);
    let (kernel, threads, flops) = match caps.tier {
        Tier::Cooperative => {
            let threads = 4 * caps.subgroup.1;
            let kernel = Kernel::new("rate_cooperative", grid).set("WG", threads);
            let kernel = kernel.import("cooperative", ops::cooperative_shader(caps));
            (kernel, threads, 4 * 4 * 2 * u64::from(caps.cooperative).pow(3))
        }
        Tier::F16 => rate("element/f16"),
        _ => rate("element/f32"),
    };
    let bytes = u64::from(groups * threads) * 16;
    let seconds = read_write_seconds(gpu, kernel.set("ROUNDS", rounds), bytes).await?;
    Ok((u64::from(groups) * u64::from(rounds) * flops) as f64 / seconds / 1e9)
}

/// Seconds of a kernel that reads a buffer of `bytes` bytes and writes another.
async fn read_write_seconds(gpu: &Gpu, kernel: Kernel, bytes: u64) -> Result<f64> {
    let ids = [TensorId(0), TensorId(1)];
    let kernel = kernel.read(ids[0]).write(ids[1]);
    let watch = gpu.error_scope();
    let make = |id| (id, vec![BufferRange::whole(gpu.buffer(kernel.source.file, bytes))]);
    let ranges: BTreeMap<TensorId, Vec<BufferRange>> = ids.map(make).into();
    let step = gpu.uniform("step", size_of::<StepSizes>() as u64);
    watch.finish().await?;
    let built = pipelines::build(gpu, &[&kernel]).await?;
    let bind = |pipeline| pipelines::bind(gpu, pipeline, (0, &kernel), &step, &ranges);
    let dispatches: Vec<Dispatch> = built.into_iter().map(bind).collect();
    seconds(gpu, &dispatches.iter().collect::<Vec<_>>(), &StepSizes::default()).await
}

/// Seconds per dispatch: the minimum of several rounds after a warm-up. A round repeats a short dispatch often, so that
/// launch overhead hardly counts, and a long one less often, so that the measurement stays short.
async fn seconds(gpu: &Gpu, dispatches: &[&Dispatch], sizes: &StepSizes) -> Result<f64> {
    const ROUND: f64 = 0.01;
    const ENOUGH: f64 = 0.1;
    let once = round(gpu, dispatches, sizes).await?;
    let times = ((ROUND / once) as usize).clamp(1, 64);
    let list = dispatches.repeat(times);
    let (mut best, mut all) = (f64::MAX, once);
    while best == f64::MAX || (all < ENOUGH && all < 6.0 * ROUND.max(once)) {
        let seconds = round(gpu, &list, sizes).await?;
        (best, all) = (best.min(seconds / times as f64), all + seconds);
    }
    Ok(best)
}

/// Seconds from a submit to its end.
async fn round(gpu: &Gpu, list: &[&Dispatch], sizes: &StepSizes) -> Result<f64> {
    let encoder = encode(gpu, list, sizes);
    let start = crate::gpu::Clock::now();
    let index = gpu.queue().submit([encoder.finish()]);
    gpu.wait(index).await?;
    Ok(start.seconds())
}

/// The cost of a matrix product or of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Seconds.
    pub seconds: f64,
    /// Bytes that must be read and written.
    pub bytes: u64,
}

/// Rows and columns of the benchmark matrix: more than GPU caches hold, or what a software adapter computes in a
/// moment.
pub fn measured_matrix(caps: &Caps) -> (u32, u32) {
    if caps.software { (1024, 1024) } else { (16384, 8192) }
}

/// The cost of a product with an (`n`, `k`) matrix of this weight type, for each row count.
///
/// # Errors
/// If the device has not enough memory, or is lost.
pub async fn products(gpu: &Gpu, dtype: DType, (n, k): (u32, u32), rows: &[u32]) -> Result<Vec<Cost>> {
    let most = rows.iter().copied().max().unwrap_or(1);
    let alone = SingleOp::product(gpu, gpu.caps(), dtype, (n, k), (most, ops::DECODE_ROWS)).await?;
    let mut out = Vec::new();
    for &rows in rows {
        out.push(alone.cost(rows, 0).await?);
    }
    Ok(out)
}

/// The cost of attention over a KV cache of this type, for each row count of one sequence that starts at position
/// `first`.
///
/// # Errors
/// If the device has not enough memory, or is lost.
pub async fn attention(gpu: &Gpu, op: &Attention, kv: KvType, rows: &[u32], first: u32) -> Result<Vec<Cost>> {
    let most = rows.iter().copied().max().unwrap_or(1);
    let alone = SingleOp::attention(gpu, gpu.caps(), op, kv, most, (first + most).div_ceil(ops::PAGE)).await?;
    let mut out = Vec::new();
    for &rows in rows {
        let cost = alone.cost(rows, first).await?;
        let cached = 2 * u64::from(first + rows) * kv.bytes(op.kv_heads, op.head_dim);
        out.push(Cost { bytes: cost.bytes + cached, ..cost });
    }
    Ok(out)
}

/// Rows of the embedding table from which [`SingleOp`] takes its input.
pub(super) const TABLE: u32 = 64;

/// A plan that measures its last node, a matrix product or attention. Its input rows come from an embedding table.
pub(super) struct SingleOp {
    pub plan: Plan,
    /// (TABLE, k) of F32.
    pub table: TensorId,
    /// Its other inputs: the weight (n, k), or the caches.
    pub others: Vec<TensorId>,
    /// (rows, n)
    pub y: TensorId,
}

impl SingleOp {
    /// Rows times a matrix of (`n`, `k`), up to `rows` rows of up to `sequences` sequences.
    pub async fn product(
        gpu: &Gpu,
        caps: &Caps,
        dtype: DType,
        (n, k): (u32, u32),
        (rows, sequences): (u32, u32),
    ) -> Result<Self> {
        let mut graph = Graph::default();
        let table = graph.weight("rows.weight", TABLE, k, DType::F32);
        let x = graph.embed(table, 1.0);
        let weight = graph.weight("matrix.weight", n, k, dtype);
        let y = graph.linear(x, weight, None);
        let (pages, pages_per_sequence) = (1, 1);
        let capacity = Capacity {
            rows,
            logits: 1,
            sequences,
            outputs: 1,
            embeddings: 0,
            pages,
            pages_per_sequence,
            sliding: None,
            kv: KvType::F16,
        };
        Self::compile(gpu, caps, graph, capacity, (table, vec![weight], y)).await
    }

    /// Attention of up to `rows` rows over a cache of `pages` pages.
    pub async fn attention(gpu: &Gpu, caps: &Caps, op: &Attention, kv: KvType, rows: u32, pages: u32) -> Result<Self> {
        let mut graph = Graph::default();
        let table = graph.weight("rows.weight", TABLE, op.heads * op.head_dim, DType::F32);
        let q = graph.embed(table, 1.0);
        let mut cache = |name| {
            let kind = TensorKind::KvCache { heads: op.kv_heads, head_dim: op.head_dim, sliding: false };
            graph.add(name, Rows::Fixed(0), 0, kind)
        };
        let (keys, values) = (cache("keys"), cache("values"));
        let y = graph.attention(q, (keys, values), None, op.clone());
        let capacity = Capacity {
            rows,
            logits: 1,
            sequences: 1,
            outputs: 1,
            embeddings: 0,
            pages,
            pages_per_sequence: pages,
            sliding: None,
            kv,
        };
        Self::compile(gpu, caps, graph, capacity, (table, vec![keys, values], y)).await
    }

    async fn compile(
        gpu: &Gpu,
        caps: &Caps,
        graph: Graph,
        capacity: Capacity,
        (table, others, y): (TensorId, Vec<TensorId>, TensorId),
    ) -> Result<Self> {
        let dispatch_list = DispatchList::new(graph, caps, capacity, &PlanOptions { fuse: Fuse::NONE, keep: vec![y] });
        Ok(SingleOp { plan: Plan::compile(gpu, dispatch_list).await?, table, others, y })
    }

    /// Writes a step of `rows` rows of a sequence, the first at `position`.
    pub fn ready(&self, rows: u32, position: u32) -> StepSizes {
        let (plan, dispatch_list) = (&self.plan, self.plan.dispatch_list());
        let table: Vec<[u32; 4]> = (0..rows).map(|row| [row % TABLE, position + row, 0, 0]).collect();
        let tile = dispatch_list.query_tile();
        let tiles = (0..rows).step_by(tile as usize).map(|row| [row, tile.min(rows - row), 0, 0]);
        plan.write_input(StepInput::Rows, 0, bytemuck::cast_slice(&table));
        plan.write_input(StepInput::QueryTiles, 0, bytemuck::cast_slice(&tiles.collect::<Vec<[u32; 4]>>()));
        plan.write_input(
            StepInput::Pages,
            0,
            bytemuck::cast_slice(&(0..dispatch_list.capacity.pages).collect::<Vec<u32>>()),
        );
        dispatch_list.step(rows, position)
    }

    /// The cost of the node in such a step.
    pub async fn cost(&self, rows: u32, position: u32) -> Result<Cost> {
        let (plan, sizes) = (&self.plan, self.ready(rows, position));
        plan.gpu.write(&plan.step, 0, bytemuck::bytes_of(&sizes));
        let last = plan.dispatch_list.graph.nodes.len() - 1;
        let list: Vec<&Dispatch> = plan.running(&sizes).filter(|d| d.node == last).collect();
        let bytes = list.iter().map(|d| plan.dispatch_list.traffic(&d.kernel, &sizes)).sum();
        Ok(Cost { seconds: seconds(&plan.gpu, &list, &sizes).await?, bytes })
    }
}

impl Plan {
    /// Seconds that the CPU takes to record a step of these sizes: the minimum of `times` measurements. Nothing is
    /// submitted.
    pub fn recording_seconds(&self, sizes: &StepSizes, times: u32) -> f64 {
        let list: Vec<&Dispatch> = self.running(sizes).collect();
        let once = |_| {
            let start = crate::gpu::Clock::now();
            drop(encode(&self.gpu, &list, sizes).finish());
            start.seconds()
        };
        (0..times).map(once).fold(f64::MAX, f64::min)
    }
}
