//! Token ids to vectors: `y[row] = weight[token] * scale`.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize, weight_consts};
use crate::graph::{Graph, LAST_SAMPLED, Rows, StepInput, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Embed {
    /// Multiplier of the vectors.
    pub scale: f32,
}

impl Graph {
    /// The vectors of the step's tokens: (vocabulary, d) -> (rows, d).
    pub fn embed(&mut self, weight: TensorId, scale: f32) -> TensorId {
        let (rows, sampled, cols) = (self.input(StepInput::Rows), self.input(StepInput::Sampled), self.cols(weight));
        self.node(Op::Embed(Embed { scale }), vec![rows, sampled, weight], "embed", Rows::Step, cols)
    }
}

impl Embed {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (rows, sampled, weight) = (cx.input(0), cx.input(1), cx.input(2));
        let (dtype, _) = cx.weight(weight);
        let cols = cx.graph.cols(weight);
        let kernel = |(i, shard): (usize, &super::Shard)| {
            let mut consts = weight_consts(dtype, shard.rows, cols);
            consts.extend([
                ("COLS4", Const::U32(cols / 4)),
                ("ROW0", Const::U32(shard.row0)),
                ("ROWS", Const::U32(shard.rows)),
                ("SCALE", Const::F32(self.scale)),
            ]);
            let source = ShaderSource { file: "embed", imports: vec![("weight", dtype.shader())], consts };
            let bindings = vec![
                Binding::read(rows),
                Binding::read(sampled),
                Binding::shard(weight, i),
                Binding::write(cx.output(0)),
            ];
            let grid = [GridDim::ceil(cols.div_ceil(32), 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
            Kernel::new(source, bindings, grid)
        };
        cx.shards(weight).iter().enumerate().map(kernel).collect()
    }
}

/// What the op means. `rows` is the row table, `sampled` the last token of each sequence, `weight` (vocabulary, `cols`).
pub fn reference(rows: &[[u32; 4]], sampled: &[u32], weight: &[f32], cols: usize, scale: f32) -> Vec<f32> {
    let mut y = Vec::new();
    for &[token, _, sequence, _] in rows {
        let token = if token == LAST_SAMPLED { sampled[sequence as usize] } else { token };
        y.extend(weight[token as usize * cols..][..cols].iter().map(|w| w * scale));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_tokens_vector_times_the_scale() {
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = [[2, 0, 0, 0], [0, 1, 0, 0], [LAST_SAMPLED, 7, 1, 0]];
        assert_eq!(reference(&rows, &[0, 1], &weight, 2, 0.5), [2.5, 3.0, 0.5, 1.0, 1.5, 2.0]);
    }
}
