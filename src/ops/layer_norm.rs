//! Layer norm (arXiv 1607.06450) over rows: `y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, Rows, TensorId};
use crate::shader::{Const, ShaderSource};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Rows of the input.
    pub rows: StepSize,
}

impl Graph {
    /// x (rows, d), weight (d) and bias (d) -> (rows, d).
    #[track_caller]
    pub fn layer_norm(&mut self, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> TensorId {
        let cols = self.cols(x);
        assert!(
            cols.is_multiple_of(4) && [weight, bias].iter().all(|id| self.cols(*id) == cols),
            "a norm of rows of {cols}"
        );
        let (rows, size) = match self.tensor(x).rows {
            Rows::Logits => (Rows::Logits, StepSize::Logits),
            _ => (Rows::Step, StepSize::Rows),
        };
        let name = self.tensor(weight).name.trim_end_matches(".weight").to_string();
        self.node(Op::LayerNorm(LayerNorm { eps, rows: size }), vec![x, weight, bias], &name, rows, cols)
    }
}

impl LayerNorm {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let width4 = cx.cols(0) / 4;
        let wg = cx.lanes(width4);
        let mut consts = cx.reduce_consts(wg, wg);
        consts.extend([("WIDTH4", Const::U32(width4)), ("EPS", Const::F32(self.eps))]);
        let source = ShaderSource { file: "layer_norm", imports: vec![cx.reduce()], consts };
        let mut bindings: Vec<_> = (0..3).map(|i| Binding::read(cx.input(i))).collect();
        bindings.push(Binding::write(cx.output(0)));
        vec![Kernel::new(source, bindings, [GridDim::each(self.rows), GridDim::fixed(1), GridDim::fixed(1)])]
    }
}

/// What the op means, row by row.
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
