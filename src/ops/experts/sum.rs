//! Weighted sum of a row's slots: `y[row] = sum_s weights[row, s] * x[row, s] (+ residual[row])`.

use crate::graph::{Graph, Rows, TensorId};
use crate::ops::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::shader::{Const, ShaderSource};

/// Inputs: x (slots, n), weights of the slots, residual if any. Output: y (rows, n).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertSum {
    /// Experts of a row.
    pub used: u32,
    /// There is a residual.
    pub residual: bool,
}

impl Graph {
    /// x (slots, n), weights (slots, 1) -> (rows, n).
    #[track_caller]
    pub fn expert_sum(&mut self, x: TensorId, weights: TensorId) -> TensorId {
        let Rows::Routed(used) = self.tensor(weights).rows else { panic!("weights are not of slots") };
        let op = ExpertSum { used, residual: false };
        self.node(Op::ExpertSum(op), vec![x, weights], "expert_sum", Rows::Step, self.cols(x))
    }
}

impl ExpertSum {
    pub(in crate::ops) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let consts = vec![("USED", Const::U32(self.used)), ("OUT", Const::U32(cx.cols(0)))];
        let epilogue = if self.residual { "matmul/epilogue/residual" } else { "matmul/epilogue/none" };
        let source = ShaderSource { file: "expert_sum", imports: vec![("epilogue", epilogue)], consts };
        let mut bindings = vec![Binding::read(cx.input(1)), Binding::read(cx.input(0)), Binding::write(cx.output(0))];
        bindings.extend(cx.node.inputs[2..].iter().map(|id| Binding::read(*id)));
        vec![Kernel::new(
            source,
            bindings,
            [GridDim::ceil(cx.cols(0), 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)],
        )]
    }

    /// y of x, the weights of the slots, and a residual of rows of `n` values (all zeros for none).
    pub fn reference(&self, x: &[f32], weights: &[f32], residual: &[f32], n: usize) -> Vec<f32> {
        let mut y = residual.to_vec();
        for (slot, (x, weight)) in x.chunks_exact(n).zip(weights).enumerate() {
            let row = &mut y[slot / self.used as usize * n..][..n];
            row.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_a_row_are_added_up() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let op = ExpertSum { used: 2, residual: true };
        let y = op.reference(&x, &[1.0, 10.0, 0.5, 0.0], &[100.0, 200.0, 0.0, 0.0], 2);
        assert_eq!(y, [131.0, 242.0, 2.5, 3.0]);
    }
}
