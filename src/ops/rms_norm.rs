//! Root-mean-square norm.

use super::{GridDim, Kernel, KernelContext};
use crate::graph::{RmsNorm, RmsNormOperands};

pub(super) fn kernels(op: &RmsNorm, io: &RmsNormOperands, cx: &KernelContext) -> Vec<Kernel> {
    vec![kernel(op, io, cx)]
}

/// The only kernel.
pub(super) fn kernel(op: &RmsNorm, io: &RmsNormOperands, cx: &KernelContext) -> Kernel {
    let (cols, width) = (cx.cols(io.x), cx.cols(io.weight));
    let (wg, segments) = (cx.lanes(width / 4), cols / width);
    let grid = [GridDim::fixed(segments), GridDim::each(cx.rows(io.x)), GridDim::fixed(1)];
    let kernel = cx.reduce(Kernel::new("rms_norm", grid), wg, wg);
    let kernel = kernel.set("SEGMENTS", segments).set("WIDTH4", width / 4).set("EPS", op.eps);
    kernel.read(io.x).read(io.weight).write(io.y)
}

/// The op's reference: each segment of `weight.len()` values of x by itself.
pub fn reference(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut y = Vec::new();
    for segment in x.chunks_exact(weight.len()) {
        let squares: f64 = segment.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = 1.0 / (squares / segment.len() as f64 + f64::from(eps)).sqrt();
        y.extend(segment.iter().zip(weight).map(|(v, w)| (f64::from(*v) * scale) as f32 * w));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_mean_square_one_before_the_weight() {
        // Mean squares 25 / 2 + 3.5 = 16 and 0.5 + 3.5 = 4.
        assert_eq!(reference(&[3.0, 4.0, 1.0, 0.0], &[4.0, 2.0], 3.5), [3.0, 2.0, 2.0, 0.0]);
    }
}
