//! Layer norm.

use super::{GridDim, Kernel, KernelContext};
use crate::graph::{LayerNorm, LayerNormOperands};

pub(super) fn kernels(op: &LayerNorm, io: &LayerNormOperands, cx: &KernelContext) -> Vec<Kernel> {
    let width4 = cx.cols(io.x) / 4;
    let wg = cx.lanes(width4);
    let kernel = Kernel::new("layer_norm", [GridDim::each(cx.rows(io.x)), GridDim::fixed(1), GridDim::fixed(1)]);
    let kernel = cx.reduce(kernel, wg, wg).set("WIDTH4", width4).set("EPS", op.eps);
    vec![kernel.read(io.x).read(io.weight).read(io.bias).write(io.y)]
}

/// The op's reference, row by row.
pub fn reference(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / weight.len() as f64;
    let norm = |row: &[f32]| {
        let middle = mean(&mut row.iter().map(|v| f64::from(*v)));
        let variance = mean(&mut row.iter().map(|v| (f64::from(*v) - middle).powi(2)));
        let scale = 1.0 / (variance + f64::from(eps)).sqrt();
        let value = |((v, w), b): ((&f32, &f32), &f32)| ((f64::from(*v) - middle) * scale) as f32 * w + b;
        row.iter().zip(weight).zip(bias).map(value).collect::<Vec<f32>>()
    };
    x.chunks_exact(weight.len()).flat_map(norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_mean_zero_and_variance_one_before_weight_and_bias() {
        // Means 5 and 1; variances 4 + 5 = 9 and 0 + 5.
        let y = reference(&[3.0, 7.0, 1.0, 1.0], &[3.0, 6.0], &[0.5, -1.0], 5.0);
        assert_eq!(y, [-1.5, 3.0, 0.5, -1.0]);
    }
}
