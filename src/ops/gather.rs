//! The rows of the step that have logits.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{Gather, GatherOperands};

pub(super) fn kernels(_: &Gather, io: &GatherOperands, cx: &KernelContext) -> Vec<Kernel> {
    let cols4 = cx.cols(io.x) / 4;
    let grid = [GridDim::ceil(cols4, 64), GridDim::each(StepSize::Logits), GridDim::fixed(1)];
    vec![Kernel::new("gather", grid).set("COLS4", cols4).read(io.logit_rows).read(io.x).write(io.y)]
}

/// The op's reference: x (rows, `cols`) -> the rows numbered by `logit_rows`.
pub fn reference(logit_rows: &[u32], x: &[f32], cols: usize) -> Vec<f32> {
    logit_rows.iter().flat_map(|row| &x[*row as usize * cols..][..cols]).copied().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows_come_in_the_order_asked_for() {
        assert_eq!(super::reference(&[2, 0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [5.0, 6.0, 1.0, 2.0]);
    }
}
