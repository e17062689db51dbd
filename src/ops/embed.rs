//! Token ids to vectors.

use super::shard::{Shard, weight_consts};
use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{Embed, EmbedOperands, LAST_SAMPLED};

pub(super) fn kernels(op: &Embed, io: &EmbedOperands, cx: &KernelContext) -> Vec<Kernel> {
    let (dtype, cols) = (cx.dtype(io.weight), cx.cols(io.weight));
    let kernel = |(i, shard): (usize, &Shard)| {
        let grid = [GridDim::ceil(cols.div_ceil(32), 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
        let kernel = Kernel::new("embed", grid).import("weight", dtype.shader());
        let kernel = kernel.set_all(weight_consts(dtype, shard.rows, cols)).set("SCALE", op.scale);
        let kernel = kernel.set("COLS4", cols / 4).set("ROW0", shard.row0).set("ROWS", shard.rows);
        kernel.read(io.rows).read(io.sampled).shard(io.weight, i).write(io.y)
    };
    cx.shards(io.weight).iter().enumerate().map(kernel).collect()
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
