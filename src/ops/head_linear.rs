//! Each head times a matrix of its own: `y[row, head, n] = sum_k weight[head, n, k] * x[row, head, k]`. The kernels are
//! those of `linear`; a tile is some rows of one head.

use super::linear::{MATMUL_TILE, MatvecShape, matmul_source};
use super::{Binding, GridDim, Kernel, KernelContext, Op, Shard, StepSize, weight_consts};
use crate::graph::{Graph, TensorId, TensorKind};
use crate::shader::{Const, ShaderSource};

/// Inputs: x (rows, heads * k), a stack of a matrix (n, k) for each head. Output: y (rows, heads * n).
#[derive(Clone, Debug, PartialEq)]
pub struct HeadLinear {
    /// Heads, more than one.
    pub heads: u32,
}

impl Graph {
    /// x (rows, heads * k), a stack of `heads` matrices (n, k) -> (rows, heads * n).
    #[track_caller]
    pub fn head_linear(&mut self, x: TensorId, weight: TensorId) -> TensorId {
        let TensorKind::Weight { experts: heads, .. } = self.tensor(weight).kind else { panic!("no weight") };
        crate::graph::same("columns of x and weight", self.cols(x), heads * self.cols(weight));
        assert!(heads > 1 && self.cols(weight).is_multiple_of(4), "{heads} heads of {}", self.cols(weight));
        let (rows, cols) = (self.tensor(x).rows, self.fixed_rows(weight));
        let name = self.tensor(weight).name.trim_end_matches(".weight").to_string();
        self.node(Op::HeadLinear(HeadLinear { heads }), vec![x, weight], &name, rows, cols)
    }
}

/// What tiles of heads are, and what is done to a sum: nothing.
const ROUTE: [(&str, &str); 2] = [("route", "matmul/route/heads"), ("epilogue", "matmul/epilogue/none")];

impl HeadLinear {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let shards = cx.shards(cx.input(1));
        let each = |kernel: &dyn Fn(usize, &Shard) -> Kernel| -> Vec<Kernel> {
            shards.iter().enumerate().map(|(i, shard)| kernel(i, shard)).collect()
        };
        let few = cx.matvec_rows();
        let mut out = each(&|i, shard| self.matvec(cx, i, shard, 1));
        if few > 1 {
            out.extend(each(&|i, shard| self.matvec(cx, i, shard, few)));
        }
        if cx.capacity.rows > few {
            out.extend(each(&|i, shard| self.matmul(cx, i, shard)));
        }
        out
    }

    fn matvec(&self, cx: &KernelContext, i: usize, shard: &Shard, tile: u32) -> Kernel {
        let dtype = cx.weight(cx.input(1)).0;
        let shape = MatvecShape::choose(cx, self.k(cx), tile, &[dtype]);
        let mut consts = self.consts(cx, shard);
        consts.extend(shape.layout(cx, tile));
        let mut imports = vec![cx.reduce(), ("sum_squares", "matmul/sum_squares/none")];
        imports.extend(ROUTE.into_iter().chain(shape.weight("weight", dtype)).chain(shape.sums("dot")));
        let source = ShaderSource { file: "matvec", imports, consts };
        let least = if tile == 1 { 1 } else { 2 };
        self.kernel(cx, i, shard, source, (shape.rows(), tile)).when(StepSize::Rows, least, tile)
    }

    fn matmul(&self, cx: &KernelContext, i: usize, shard: &Shard) -> Kernel {
        let dtype = cx.weight(cx.input(1)).0;
        let (mut source, tile) = matmul_source(cx, dtype);
        source.consts.extend(self.consts(cx, shard));
        source.imports.extend(ROUTE.into_iter().chain([("weight", dtype.shader())]));
        let few = cx.matvec_rows();
        self.kernel(cx, i, shard, source, (tile, MATMUL_TILE)).when(StepSize::Rows, few + 1, u32::MAX)
    }

    /// For tiles of so many weight rows and so many rows of x.
    fn kernel(
        &self,
        cx: &KernelContext,
        i: usize,
        shard: &Shard,
        source: ShaderSource,
        (rows, tile): (u32, u32),
    ) -> Kernel {
        let bindings = vec![Binding::shard(cx.input(1), i), Binding::read(cx.input(0)), Binding::write(cx.output(0))];
        let heads = shard.rows / self.n(cx);
        // At least as many tiles as each head needs; those behind the last row have no work.
        let tiles = GridDim { size: StepSize::Rows, times: heads, per: tile, plus: if tile > 1 { heads } else { 0 } };
        Kernel::new(source, bindings, [GridDim::ceil(self.n(cx), rows), tiles, GridDim::fixed(1)])
    }

    fn k(&self, cx: &KernelContext) -> u32 {
        cx.cols(0) / self.heads
    }

    fn n(&self, cx: &KernelContext) -> u32 {
        cx.graph.cols(cx.output(0)) / self.heads
    }

    /// The kernels of `linear` see a single matrix of (n, k); the route finds where it begins in the shard.
    fn consts(&self, cx: &KernelContext, shard: &Shard) -> Vec<(&'static str, Const)> {
        let (n, k) = (self.n(cx), self.k(cx));
        let mut consts = weight_consts(cx.weight(cx.input(1)).0, shard.rows, k);
        let sizes = [("COLS4", k / 4), ("ROW0", 0), ("ROWS", n), ("OUT", n), ("HEADS", self.heads)];
        let heads = [("HEAD0", shard.row0 / n), ("SHARD_HEADS", shard.rows / n)];
        consts.extend(sizes.into_iter().chain(heads).map(|(name, n)| (name, Const::U32(n))));
        consts
    }

    /// y of x and of a stack of dequantized (n, `k`) matrices.
    pub fn reference(&self, x: &[f32], weight: &[f32], k: usize) -> Vec<f32> {
        let heads = self.heads as usize;
        let matrix = |head: usize| &weight[head % heads * weight.len() / heads..][..weight.len() / heads];
        let product = |(head, x): (usize, &[f32])| super::linear::reference(x, matrix(head), k, None, None);
        x.chunks_exact(k).enumerate().flat_map(product).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_meets_its_own_matrix() {
        // Two heads of (1, 2); two rows.
        let (op, weight) = (HeadLinear { heads: 2 }, [1.0, 10.0, 100.0, 1000.0]);
        let x = [1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 1.0, 0.0];
        assert_eq!(op.reference(&x, &weight, 2), [21.0, 4300.0, 10.0, 100.0]);
    }
}
