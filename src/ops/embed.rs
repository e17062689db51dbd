//! Token ids to vectors.

use super::shard::{Shard, weight_consts};
use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{EMBEDDING_INPUT, Embed, EmbedOperands, SAMPLED_INPUT};

pub(super) fn kernels(op: &Embed, io: &EmbedOperands, cx: &KernelContext) -> Vec<Kernel> {
    let (dtype, cols) = (cx.dtype(io.weight), cx.cols(io.weight));
    let kernel = |(i, shard): (usize, &Shard)| {
        let grid = [GridDim::ceil(cols.div_ceil(32), 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
        let kernel = Kernel::new("embed", grid).import("weight", dtype.shader());
        let kernel = kernel.set_all(weight_consts(dtype, shard.rows, cols)).set("SCALE", op.scale);
        let kernel = kernel.set("COLS4", cols / 4).set("ROW0", shard.row0).set("ROWS", shard.rows);
        let kernel = kernel.set("TAKES_EMBEDDINGS", op.takes_embeddings);
        kernel.read(io.rows).read(io.sampled).read(io.embeddings).shard(io.weight, i).write(io.y)
    };
    cx.shards(io.weight).iter().enumerate().map(kernel).collect()
}

/// The op's reference. `rows` is the row table, `sampled` the last token of each output slot, `embeddings` (slots,
/// `cols`), `weight` (vocabulary, `cols`).
pub fn reference(
    op: &Embed,
    rows: &[[u32; 4]],
    sampled: &[u32],
    embeddings: &[f32],
    (weight, cols): (&[f32], usize),
) -> Vec<f32> {
    let mut y = Vec::new();
    for &[input, ..] in rows {
        let slot = (input & !(SAMPLED_INPUT | EMBEDDING_INPUT)) as usize;
        let token = match input {
            _ if input & SAMPLED_INPUT != 0 => sampled[slot],
            _ if input & EMBEDDING_INPUT != 0 && op.takes_embeddings => {
                y.extend(&embeddings[slot * cols..][..cols]);
                continue;
            }
            _ if input & EMBEDDING_INPUT != 0 => 0,
            token => token,
        };
        y.extend(weight[token as usize * cols..][..cols].iter().map(|w| w * op.scale));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_tokens_vector_times_the_scale_or_the_given_one() {
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = [2, 0, SAMPLED_INPUT | 1, EMBEDDING_INPUT | 1].map(|input| [input, 0, 0, 0]);
        let embed = |takes_embeddings| {
            let op = Embed { scale: 0.5, takes_embeddings };
            reference(&op, &rows, &[0, 1], &[7.0, 8.0, 9.0, 10.0], (&weight, 2))
        };
        assert_eq!(embed(true), [2.5, 3.0, 0.5, 1.0, 1.5, 2.0, 9.0, 10.0]);
        assert_eq!(embed(false)[6..], [0.5, 1.0]);
    }
}
