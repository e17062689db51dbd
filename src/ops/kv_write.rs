//! The step's keys and values into the pages of the cache.

use super::{GridDim, Kernel, KernelContext, KvType, PAGE, StepSize};
use crate::graph::{KvWrite, KvWriteOperands};
use half::f16;

pub(super) fn kernels(op: &KvWrite, io: &KvWriteOperands, cx: &KernelContext) -> Vec<Kernel> {
    let kv = cx.capacity.kv;
    assert!(kv.takes(op.head_dim), "heads of {} in {}", op.head_dim, kv.name());
    let (file, head_threads) = match kv {
        KvType::F16 | KvType::F32 => ("kv_write", op.head_dim / 4),
        KvType::Q8_0 => ("kv_write_blocks", (op.head_dim / 4).next_multiple_of(16)),
    };
    let workgroups = GridDim::ceil(op.heads * head_threads, 64);
    let kernel = Kernel::new(file, [workgroups, GridDim::each(StepSize::Rows), GridDim::fixed(1)])
        .import("kv", kv.shader())
        .set("KV_HEADS", op.heads)
        .set("HEAD_DIM4", op.head_dim / 4)
        .set("HEAD_THREADS", head_threads)
        .set("PAGE", PAGE)
        .set("PAGES_PER_SEQUENCE", cx.capacity.pages_per_sequence)
        .read(io.rows)
        .read(io.pages)
        .read(io.k)
        .write(io.keys);
    vec![match &io.values {
        Some(values) => kernel.import("values", "kv/separate_values").read(values.v).write(values.cache),
        None => kernel,
    }]
}

/// Where the values of a head at a position of a sequence begin in the cache. `pages` are the page tables.
pub(super) fn offset(
    pages: &[u32],
    pages_per_sequence: u32,
    sequence: u32,
    position: u32,
    (heads, head, head_dim): (u32, u32, u32),
) -> usize {
    let page = pages[(sequence * pages_per_sequence + position / PAGE) as usize];
    (((page * heads + head) * PAGE + position % PAGE) * head_dim) as usize
}

/// The op's reference, for keys or for values: x (rows, heads * head_dim) goes into `cache`. `rows` is the row table.
pub fn reference(
    rows: &[[u32; 4]],
    pages: &[u32],
    pages_per_sequence: u32,
    x: &[f32],
    op: &KvWrite,
    cache: &mut [f32],
) {
    let head_dim = op.head_dim as usize;
    let mut heads = x.chunks_exact(head_dim);
    for &[_, position, sequence, _] in rows {
        for (head, x) in (0..op.heads).zip(&mut heads) {
            let at = offset(pages, pages_per_sequence, sequence, position, (op.heads, head, op.head_dim));
            cache[at..at + head_dim].copy_from_slice(x);
        }
    }
}

/// A head's values after a round trip through a cache of this type. q8_0: a block's scale is its largest value over
/// 127, as an f16; quants are computed with the rounded scale.
pub fn stored(x: &[f32], kv: KvType) -> Vec<f32> {
    let half = |v: f32| f16::from_f32(v.clamp(-65504.0, 65504.0)).to_f32();
    let block = |x: &[f32]| {
        let scale = half(x.iter().fold(0.0f32, |top, v| top.max(v.abs())) / 127.0);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        x.iter().map(|v| (v * inverse).round_ties_even().clamp(-127.0, 127.0) * scale).collect::<Vec<f32>>()
    };
    match kv {
        KvType::F16 => x.iter().map(|v| half(*v)).collect(),
        KvType::Q8_0 => x.chunks(32).flat_map(block).collect(),
        KvType::F32 => x.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_largest_value_and_rounds_the_rest_to_a_127th_of_it() {
        let mut x = vec![0.0; 96];
        x[..3].copy_from_slice(&[-254.0, 2.9, 3.1]);
        x[32] = 1e-9;
        let mut want = vec![0.0; 96];
        want[..3].copy_from_slice(&[-254.0, 2.0, 4.0]);
        assert_eq!(stored(&x, KvType::Q8_0), want);
    }

    #[test]
    fn a_head_lies_in_the_page_of_its_position() {
        // Two sequences of up to two pages; the second one's positions from 32 on are in page 1.
        let (pages, op) = ([3, 0, 2, 1], KvWrite { heads: 2, head_dim: 4 });
        let mut cache = vec![0.0; 4 * 2 * 32 * 4];
        let x: Vec<f32> = (1..=16).map(|i| i as f32).collect();
        reference(&[[0, 33, 1, 0], [0, 5, 0, 0]], &pages, 2, &x, &op, &mut cache);
        for (page, head, slot, first) in [(1, 0, 1, 1.0), (1, 1, 1, 5.0), (3, 0, 5, 9.0), (3, 1, 5, 13.0)] {
            let at = ((page * 2 + head) * 32 + slot) * 4;
            assert_eq!(cache[at..at + 4], [first, first + 1.0, first + 2.0, first + 3.0]);
        }
        assert_eq!(cache.iter().filter(|v| **v != 0.0).count(), 16);
    }
}
