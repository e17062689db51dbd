//! Fills a plan's weights from checkpoints: byte ranges -> repack -> GPU, a few MiB at a time (transposed matrices as a
//! whole), so that host memory stays at a few chunks, whatever the model's size. While one chunk is read, earlier ones
//! are repacked on other threads and taken by the device.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::spec::{WeightSpec, read_vector};
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::gpu;
use crate::graph::{TensorId, TensorKind, TensorRef};
use crate::plan::PlanMemory;
use crate::{Error, Result};

/// Loading progress, in bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to read.
    pub total: u64,
}

/// Bytes read at once.
pub const CHUNK: u64 = 4 << 20;
/// Chunks that are repacked concurrently, at most.
const MOST_CHUNKS: usize = 8;

/// A tensor of the graph, and the tensor of a file that fills it.
struct LoadItem<'a> {
    id: TensorId,
    source: u32,
    info: &'a TensorInfo,
    checkpoint: &'a Checkpoint,
    rows: Range<u32>,
    kind: LoadKind,
}

enum LoadKind {
    /// The same rows of each of these matrices.
    Matrices(u32),
    /// Values, plus a constant, at an offset in the graph's vector.
    Values { start: u32, plus: f32 },
}

impl<'a> LoadItem<'a> {
    fn new(id: TensorId, tensor: &TensorRef, kind: LoadKind, sources: &'a [Arc<Checkpoint>]) -> Result<Self> {
        let (checkpoint, info) = find(sources, tensor)?;
        Ok(LoadItem { id, source: tensor.source, info, checkpoint, rows: tensor.rows.clone(), kind })
    }

    /// Bytes to read.
    fn bytes(&self) -> u64 {
        match self.kind {
            LoadKind::Matrices(count) => u64::from(count) * self.rows.len() as u64 * self.info.row_bytes(),
            LoadKind::Values { .. } => self.info.bytes(),
        }
    }
}

/// The file that holds a tensor, and the file's entry of it.
fn find<'a>(sources: &'a [Arc<Checkpoint>], tensor: &TensorRef) -> Result<(&'a Checkpoint, &'a TensorInfo)> {
    let missing = || Error::Usage(format!("the file of tensor {} is not open", tensor.name));
    let checkpoint = sources.get(tensor.source as usize).ok_or_else(missing)?;
    Ok((checkpoint, checkpoint.tensor(&tensor.name)?))
}

/// Reads one matrix of a stack. `sources` as in [`load`].
///
/// # Errors
/// If the file is not open, or reading fails.
pub async fn read_expert(sources: &[Arc<Checkpoint>], stack: &WeightSpec, expert: u32) -> Result<Vec<u8>> {
    let (checkpoint, tensor) = find(sources, &stack.tensor)?;
    checkpoint.read(tensor, stack.expert_bytes(expert)).await
}

/// All weights and vectors that a plan uses, in the files' order.
fn items<'a>(memory: &PlanMemory, sources: &'a [Arc<Checkpoint>]) -> Result<Vec<LoadItem<'a>>> {
    let graph = &memory.dispatch_list().graph;
    let mut items = Vec::new();
    for id in memory.dispatch_list().used() {
        if let TensorKind::Weight { tensor: Some(tensor), experts, .. } = &graph.tensor(id).kind {
            items.push(LoadItem::new(id, tensor, LoadKind::Matrices(*experts), sources)?);
        }
        for (part, start) in graph.vectors(id) {
            if let TensorKind::Vector { tensor, plus } = &graph.tensor(part).kind {
                items.push(LoadItem::new(id, tensor, LoadKind::Values { start, plus: *plus }, sources)?);
            }
        }
    }
    items.sort_by_key(|item| (item.source, item.info.parts.first().map(|part| (part.source, part.offset))));
    Ok(items)
}

/// Loads every weight and vector that the plan's graph uses. `sources` are the opened files: the model itself first
/// (see [`TensorRef::source`]).
///
/// # Errors
/// If reading fails or the device is lost.
pub async fn load(memory: &PlanMemory, sources: &[Arc<Checkpoint>], mut progress: impl FnMut(Progress)) -> Result<()> {
    let items = items(memory, sources)?;
    let total = items.iter().map(LoadItem::bytes).sum();
    let mut done = 0;
    progress(Progress { done, total });
    let at_once = gpu::processors().min(MOST_CHUNKS);
    let (mut repacking, mut taken, mut unwaited) = (VecDeque::new(), None, 0);
    for item in items {
        let (id, info, checkpoint) = (item.id, item.info, item.checkpoint);
        let experts = match item.kind {
            LoadKind::Matrices(count) => u64::from(count),
            LoadKind::Values { start, plus } => {
                let values = read_vector(checkpoint, info).await?;
                let values: Vec<f32> = values[to_usize(&item.rows)].iter().map(|value| value + plus).collect();
                memory.write(id, u64::from(start) * 4, bytemuck::cast_slice(&values));
                done += info.bytes();
                continue;
            }
        };
        let row_bytes = info.row_bytes();
        // Even numbers of rows keep every plane on word boundaries.
        let step = (CHUNK.max(info.bytes_at_once()) / row_bytes).max(2) / 2 * 2;
        // The graph may use only some rows of each of the file's matrices.
        let (matrix, of) = (item.rows.len() as u64, info.dims.get(1).copied().unwrap_or(1));
        let rows = experts * matrix;
        let mut row = 0;
        while row < rows {
            let part_ends = if matrix == of { rows } else { (row / matrix + 1) * matrix };
            let end = (row + step).min(part_ends);
            let at = row / matrix * of + u64::from(item.rows.start) + row % matrix;
            let bytes = checkpoint.read(info, at * row_bytes..(at + end - row) * row_bytes).await?;
            done += bytes.len() as u64;
            unwaited += bytes.len() as u64;
            repacking.push_back(memory.write_rows_async(id, row as u32, bytes));
            if repacking.len() == at_once {
                let handed = repacking.pop_front().expect("one at least").await;
                if unwaited >= CHUNK {
                    unwaited = 0;
                    if let Some(before) = taken.replace(memory.gpu().wait(handed)) {
                        before.await?;
                    }
                }
            }
            progress(Progress { done, total });
            row = end;
        }
    }
    for chunk in repacking {
        chunk.await;
    }
    memory.gpu().flush().await
}

fn to_usize(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{GgufWriter, Metadata, Source};
    use crate::dtype::DType;
    use pollster::block_on;

    /// A file with a stack of two matrices of 3 rows and 2 columns; the value of row `n` is `first + n`.
    fn file(first: f32) -> Arc<Checkpoint> {
        let mut writer = GgufWriter::new(Metadata::new()).unwrap();
        writer.tensor("experts", &[2, 3, 2], DType::F32).unwrap();
        let rows: Vec<f32> = (0..6).flat_map(|row| [first + row as f32; 2]).collect();
        let mut bytes = Vec::new();
        writer.write(&mut bytes, |_, out| out.write_all(bytemuck::cast_slice(&rows))).unwrap();
        Arc::new(block_on(Checkpoint::from_sources(vec![Source::bytes("test", bytes)])).unwrap())
    }

    #[test]
    fn experts_come_from_the_file_that_the_spec_names() {
        let sources = [file(0.0), file(100.0)];
        let read = |source, expert| {
            let tensor = TensorRef { source, ..TensorRef::new("experts", 1..3) };
            let stack = WeightSpec { tensor, experts: 2, file_rows: 3, cols: 2, dtype: DType::F32 };
            block_on(read_expert(&sources, &stack, expert)).map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes))
        };
        assert_eq!(read(0, 0).unwrap(), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(read(0, 1).unwrap(), [4.0, 4.0, 5.0, 5.0]);
        assert_eq!(read(1, 1).unwrap(), [104.0, 104.0, 105.0, 105.0]);
        assert!(read(2, 1).unwrap_err().to_string().contains("not open"));
    }
}
