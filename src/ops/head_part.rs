//! A part of each head: where a matrix makes queries and, head by head, the gates of what attention makes of them.

use super::{Binding, Choice, Extent, Kernel, Op, Size};
use crate::graph::{Graph, TensorId};
use crate::shader::{Const, Source};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadPart {
    /// Values of a head.
    pub head: u32,
    /// The first of them that is taken.
    pub first: u32,
    /// How many are taken.
    pub len: u32,
}

impl Graph {
    /// x (rows, heads * head) -> (rows, heads * len).
    #[track_caller]
    pub fn head_part(&mut self, x: TensorId, op: HeadPart) -> TensorId {
        assert!(self.cols(x).is_multiple_of(op.head) && op.first + op.len <= op.head, "{op:?} of {}", self.cols(x));
        let (rows, cols) = (self.tensor(x).rows, self.cols(x) / op.head * op.len);
        self.node(Op::HeadPart(op), vec![x], "head_part", rows, cols)
    }
}

impl HeadPart {
    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let heads = cx.cols(0) / self.head;
        let consts = [("HEADS", heads), ("HEAD", self.head), ("FIRST", self.first), ("LEN", self.len)];
        let consts = consts.map(|(name, n)| (name, Const::U32(n))).into();
        let source = Source { file: "head_part", imports: vec![], consts };
        let bindings = vec![Binding::read(cx.input(0)), Binding::write(cx.output(0))];
        let grid = [Extent::ceil(heads * self.len, 64), Extent::each(Size::Rows), Extent::fixed(1)];
        vec![Kernel::new(source, bindings, grid)]
    }
}

/// What the op means.
pub fn reference(x: &[f32], op: &HeadPart) -> Vec<f32> {
    let part = op.first as usize..(op.first + op.len) as usize;
    x.chunks_exact(op.head as usize).flat_map(|head| &head[part.clone()]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_head_the_same_part() {
        let op = HeadPart { head: 3, first: 1, len: 2 };
        assert_eq!(reference(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &op), [1.0, 2.0, 4.0, 5.0]);
    }
}
