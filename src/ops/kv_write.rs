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
        assert!(op.head_dim % 4 == 0, "a head of {} values", op.head_dim);
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
