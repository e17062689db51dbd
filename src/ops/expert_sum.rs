//! Weighted sum over a row's experts.

use super::epilogue::Epilogue;
use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{ExpertSum, ExpertSumOperands};

pub(super) fn kernels(op: &ExpertSum, io: &ExpertSumOperands, cx: &KernelContext) -> Vec<Kernel> {
    let cols = cx.cols(io.x);
    let grid = [GridDim::ceil(cols, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)];
    let kernel = Kernel::new("expert_sum", grid).set("USED", op.used).set("OUT", cols);
    let kernel = kernel.read(io.weights).read(io.x).write(io.y);
    vec![Epilogue::dense(None, io.residual).add_to(kernel)]
}

impl ExpertSum {
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
        let op = ExpertSum { used: 2 };
        let y = op.reference(&x, &[1.0, 10.0, 0.5, 0.0], &[100.0, 200.0, 0.0, 0.0], 2);
        assert_eq!(y, [131.0, 242.0, 2.5, 3.0]);
    }
}
