//! Writes the step's keys and values into the pages of the cache. Layout: (page, head, position % PAGE, head_dim).

use super::{Binding, Choice, Extent, Kernel, Op, PAGE, Size};
use crate::graph::{Graph, Input, Node, TensorId};
use crate::shader::{Const, Source};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct KvWrite {
    /// Heads of keys and values.
    pub heads: u32,
    /// Values of a head.
    pub head_dim: u32,
}

impl Graph {
    /// k and v (rows, heads * head_dim) go into `caches`.
    #[track_caller]
    pub fn kv_write(&mut self, k: TensorId, v: TensorId, caches: (TensorId, TensorId), op: KvWrite) {
        crate::graph::same("columns of k", self.cols(k), op.heads * op.head_dim);
        crate::graph::same("columns of v", self.cols(v), op.heads * op.head_dim);
        assert!(op.head_dim.is_multiple_of(4), "a head of {} values", op.head_dim);
        let inputs = vec![self.input(Input::Rows), self.input(Input::Pages), k, v];
        self.nodes.push(Node { op: Op::KvWrite(op), inputs, outputs: vec![caches.0, caches.1] });
    }
}

impl KvWrite {
    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let consts = vec![
            ("HEADS", Const::U32(self.heads)),
            ("HEAD_DIM4", Const::U32(self.head_dim / 4)),
            ("PAGE", Const::U32(PAGE)),
            ("PAGES_PER_SEQUENCE", Const::U32(cx.capacity.pages_per_sequence)),
        ];
        let source = Source { file: "kv_write", imports: vec![("kv", cx.capacity.kv.shader())], consts };
        let mut bindings: Vec<_> = (0..4).map(|i| Binding::read(cx.input(i))).collect();
        bindings.extend([Binding::write(cx.output(0)), Binding::write(cx.output(1))]);
        let threads = self.heads * self.head_dim / 4;
        vec![Kernel::new(source, bindings, [Extent::ceil(threads, 64), Extent::each(Size::Rows), Extent::fixed(1)])]
    }
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

/// What the op means, for keys or for values: x (rows, heads * head_dim) goes into `cache`. `rows` is the row table.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_lies_in_the_page_of_its_position() {
        // Two sequences of up to two pages; the second one's positions 32.. lie in page 1.
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
