//! Fills a plan's weights from a checkpoint: byte ranges -> repack -> GPU, a few MiB at a time (of a matrix that lies
//! turned around in the file, all), so that host memory stays at a few chunks whatever the model's size. While one
//! chunk is read, those before it are repacked on other threads, which hand them to the device, and it takes what was
//! repacked before.

use std::collections::VecDeque;

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::gpu;
use crate::graph::{TensorId, TensorKind};
use crate::plan::PlanMemory;
use crate::{Error, Result};

/// How far loading is, in bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to read.
    pub total: u64,
}

/// Bytes read at once.
pub const CHUNK: u64 = 4 << 20;
/// Chunks that are repacked at once, at most.
const MOST_CHUNKS: usize = 8;

/// Loads every weight and vector that the plan's graph mentions, in the file's order.
///
/// # Errors
/// If reading fails or the device is lost.
pub async fn load(memory: &PlanMemory, checkpoint: &Checkpoint, mut progress: impl FnMut(Progress)) -> Result<()> {
    let graph = &memory.dispatch_list().graph;
    let mut wanted = Vec::new();
    for id in memory.dispatch_list().used() {
        if let TensorKind::Weight { first: Some(_), .. } = graph.tensor(id).kind {
            wanted.push((id, id, 0, checkpoint.tensor(&graph.tensor(id).name)?));
        }
        for (part, start) in graph.vectors(id) {
            wanted.push((id, part, start, checkpoint.tensor(&graph.tensor(part).name)?));
        }
    }
    wanted.sort_by_key(|(.., info)| info.parts.first().map(|p| (p.source, p.offset)));
    let bytes = |id: TensorId, info: &TensorInfo| match graph.tensor(id).kind {
        TensorKind::Weight { .. } => u64::from(graph.fixed_rows(id)) * info.row_bytes(),
        _ => info.bytes(),
    };
    let total = wanted.iter().map(|(_, part, _, info)| bytes(*part, info)).sum();
    let mut done = 0;
    progress(Progress { done, total });
    let at_once = gpu::processors().min(MOST_CHUNKS);
    let (mut repacking, mut taken, mut unwaited) = (VecDeque::new(), None, 0);
    for (id, part, start, info) in wanted {
        if let TensorKind::Vector { plus } = graph.tensor(part).kind {
            let mut values = read_vector(checkpoint, info, graph.cols(part)).await?;
            values.iter_mut().for_each(|value| *value += plus);
            memory.write(id, u64::from(start) * 4, bytemuck::cast_slice(&values));
            done += info.bytes();
            continue;
        }
        let row_bytes = info.row_bytes();
        // Even numbers of rows keep every plane on word boundaries.
        let step = (CHUNK.max(info.bytes_at_once()) / row_bytes).max(2) / 2 * 2;
        let TensorKind::Weight { first: Some(first), experts, .. } = graph.tensor(id).kind else { continue };
        let rows = u64::from(graph.fixed_rows(id));
        // A weight may be a part of what the file holds as one, or of each of its matrices.
        let (matrix, of) = (rows / u64::from(experts), info.dims.get(1).copied().unwrap_or(1));
        let mut row = 0;
        while row < rows {
            let part_ends = if matrix == of { rows } else { (row / matrix + 1) * matrix };
            let end = (row + step).min(part_ends);
            let at = row / matrix * of + u64::from(first) + row % matrix;
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

/// A small tensor as f32 values.
///
/// # Errors
/// If it has another number of values than `len`.
pub(super) async fn read_vector(checkpoint: &Checkpoint, info: &TensorInfo, len: u32) -> Result<Vec<f32>> {
    let values = info.dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).unwrap_or(u64::MAX);
    if values != u64::from(len) {
        return Err(Error::Format(format!("tensor {} has {values} values, not {len}", info.name)));
    }
    let bytes = checkpoint.read(info, 0..info.bytes()).await?;
    let mut out = vec![0.0; len as usize];
    info.dtype.dequantize(&bytes, &mut out);
    Ok(out)
}
