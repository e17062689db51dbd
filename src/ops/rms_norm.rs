//! Root-mean-square norm (arXiv 1910.07467) over segments of a row: `y = x / sqrt(mean(x^2) + eps) * weight`.
//!
//! A segment is the whole row, or one head when the weight is as long as a head (Qwen3's q and k norms).

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, Rows, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// Added to the mean of squares.
    pub eps: f32,
    /// Rows of the input.
    pub rows: StepSize,
}

impl Graph {
    /// (rows, d) -> (rows, d); `weight` has d values, or as many as a segment.
    #[track_caller]
    pub fn rms_norm(&mut self, x: TensorId, weight: TensorId, eps: f32) -> TensorId {
        let (cols, width) = (self.cols(x), self.cols(weight));
        assert!(cols % width == 0 && width % 4 == 0, "a norm of {width} values over rows of {cols}");
        let (rows, size) = match self.tensor(x).rows {
            Rows::Logits => (Rows::Logits, StepSize::Logits),
            _ => (Rows::Step, StepSize::Rows),
        };
        let name = self.tensor(weight).name.trim_end_matches(".weight").to_string();
        self.node(Op::RmsNorm(RmsNorm { eps, rows: size }), vec![x, weight], &name, rows, cols)
    }
}

impl RmsNorm {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        vec![kernel(cx, self, (cx.input(0), cx.input(1), cx.output(0)))]
    }
}

/// The kernel that norms x by a weight into y.
pub(super) fn kernel(cx: &KernelContext, op: &RmsNorm, (x, weight, y): (TensorId, TensorId, TensorId)) -> Kernel {
    let (cols, width) = (cx.graph.cols(x), cx.graph.cols(weight));
    let wg = cx.lanes(width / 4);
    let mut consts = cx.reduce_consts(wg, wg);
    consts.extend([
        ("SEGMENTS", Const::U32(cols / width)),
        ("WIDTH4", Const::U32(width / 4)),
        ("EPS", Const::F32(op.eps)),
    ]);
    let source = ShaderSource { file: "rms_norm", imports: vec![cx.reduce()], consts };
    let bindings = vec![Binding::read(x), Binding::read(weight), Binding::write(y)];
    Kernel::new(source, bindings, [GridDim::fixed(cols / width), GridDim::each(op.rows), GridDim::fixed(1)])
}

/// What the op means: each segment of `weight.len()` values of x by itself.
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
