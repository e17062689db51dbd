//! Logits scaled and softcapped.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{LogitScale, LogitScaleOperands};

pub(super) fn kernels(op: &LogitScale, io: &LogitScaleOperands, cx: &KernelContext) -> Vec<Kernel> {
    let cols = cx.cols(io.x);
    let grid = [GridDim::ceil(cols, 64), GridDim::each(StepSize::Logits), GridDim::fixed(1)];
    let kernel = Kernel::new("logit_scale", grid).set("COLS", cols).set("SCALE", op.scale).read(io.x).write(io.y);
    vec![match op.softcap {
        Some(softcap) => kernel.import("softcap", "attention/softcap/tanh").set("SOFTCAP", softcap),
        None => kernel,
    }]
}

/// The op's reference, value by value.
pub fn reference(x: &[f32], op: &LogitScale) -> Vec<f32> {
    let one = |x: &f32| {
        let x = x * op.scale;
        op.softcap.map_or(x, |cap| cap * (x / cap).tanh())
    };
    x.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_scaled_and_bounded() {
        assert_eq!(reference(&[1.0, -6.0], &LogitScale { scale: 0.5, softcap: None }), [0.5, -3.0]);
        // tanh(ln 3) = 4/5.
        let y = reference(&[2.0 * 3f32.ln(), 1e9], &LogitScale { scale: 1.5, softcap: Some(3.0) });
        assert!((y[0] - 2.4).abs() < 1e-6 && y[1] == 3.0, "{y:?}");
    }
}
