//! A short convolution along the rows of each sequence.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{Segment, ShortConv, ShortConvOperands};

pub(super) fn kernels(op: &ShortConv, io: &ShortConvOperands, cx: &KernelContext) -> Vec<Kernel> {
    let channels = cx.cols(io.x);
    let grid = [GridDim::ceil(channels, 64), GridDim::each(StepSize::Segments), GridDim::fixed(1)];
    let kernel = Kernel::new("short_conv", grid).set("KERNEL_SIZE", op.kernel_size).set("CHANNELS", channels);
    vec![kernel.set("SILU", op.silu).read(io.segments).read(io.x).read(io.weight).write(io.y).write(io.state)]
}

/// The op's reference: x (rows, channels) -> y of the same shape. `state` is (slot, taps - 1, channels).
pub fn reference(runs: &[Segment], x: &[f32], weight: &[f32], op: &ShortConv, state: &mut [f32]) -> Vec<f32> {
    let taps = op.kernel_size as usize;
    let channels = weight.len() / taps;
    let mut y = vec![0.0; x.len()];
    for run in runs {
        let slot = |slot: u32| slot as usize * (taps - 1) * channels..(slot as usize + 1) * (taps - 1) * channels;
        let mut seen = match run.begins() {
            Some(reads) => state[slot(reads)].to_vec(),
            None => vec![0.0; (taps - 1) * channels],
        };
        for row in run.rows() {
            seen.extend(&x[row * channels..][..channels]);
            let before = &seen[seen.len() - taps * channels..];
            for c in 0..channels {
                let sum: f64 = (0..taps).map(|t| f64::from(weight[c * taps + t] * before[t * channels + c])).sum();
                y[row * channels + c] = if op.silu { sum / (1.0 + (-sum).exp()) } else { sum } as f32;
            }
        }
        let last = seen.split_off(seen.len() - (taps - 1) * channels);
        state[slot(run.writes)].copy_from_slice(&last);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::NO_STATE;

    #[test]
    fn a_row_sees_those_before_it_and_the_state_what_lies_before_the_run() {
        let silu = |x: f32| x / (1.0 + (-x).exp());
        let (op, mut state) = (ShortConv { kernel_size: 3, silu: true }, vec![f32::NAN; 4]);
        let begin = Segment { first: 0, count: 2, reads: NO_STATE, writes: 1 };
        let y = reference(&[begin], &[1.0, 2.0], &[100.0, 10.0, 1.0], &op, &mut state);
        let close = |got: f32, want: f32| (got - want).abs() < 1e-5;
        assert!(close(y[0], silu(1.0)) && close(y[1], silu(12.0)), "{y:?}");
        assert_eq!(state[2..], [1.0, 2.0]);
        let on = Segment { first: 0, count: 1, reads: 1, writes: 0 };
        let y = reference(&[on], &[3.0], &[100.0, 10.0, 1.0], &op, &mut state);
        assert!(close(y[0], silu(123.0)), "{y:?}");
        assert_eq!(state, [2.0, 3.0, 1.0, 2.0]);
        assert_eq!(
            reference(&[on], &[3.0], &[1.0, 1.0], &ShortConv { kernel_size: 2, silu: false }, &mut [0.0, 4.0]),
            [7.0]
        );
    }
}
