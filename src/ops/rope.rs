//! Rotary position embedding.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{Rope, RopeOperands, RopeStyle};

pub(super) fn kernels(op: &Rope, io: &RopeOperands, cx: &KernelContext) -> Vec<Kernel> {
    let cols = cx.cols(io.x);
    let kernel = Kernel::new("rope", [GridDim::ceil(cols / 2, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)])
        .set("HEADS", cols / op.head_dim)
        .set("HEAD_DIM", op.head_dim)
        .set("ROT", op.rotated)
        .set("NEOX", op.style == RopeStyle::Neox);
    vec![kernel.read(io.rows).read(io.angles).read(io.x).write(io.y)]
}

/// The op's reference, through the same two tables as the GPU. `rows` is the row table, x (rows, heads * head_dim).
pub fn reference(rows: &[[u32; 4]], angles: &[f32], x: &[f32], rope: &Rope) -> Vec<f32> {
    let (head_dim, pairs) = (rope.head_dim as usize, rope.rotated as usize / 2);
    let turn = |p: u32, i: usize| {
        let at = 2 * (p as usize * pairs + i);
        (f64::from(angles[at]), f64::from(angles[at + 1]))
    };
    let mut y = x.to_vec();
    for (y, &[_, position, ..]) in y.chunks_exact_mut(x.len() / rows.len()).zip(rows) {
        for head in y.chunks_exact_mut(head_dim) {
            for i in 0..pairs {
                let (fine, coarse) = (turn(position % 256, i), turn(256 + position / 256, i));
                let cos = fine.0 * coarse.0 - fine.1 * coarse.1;
                let sin = fine.1 * coarse.0 + fine.0 * coarse.1;
                let (a, b) = match rope.style {
                    RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                    RopeStyle::Neox => (i, i + pairs),
                };
                let (u, v) = (f64::from(head[a]), f64::from(head[b]));
                head[a] = (u * cos - v * sin) as f32;
                head[b] = (u * sin + v * cos) as f32;
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::rope_angles as angles;
    use std::f64::consts::FRAC_PI_2;

    const ROPE: Rope = Rope { head_dim: 6, rotated: 4, style: RopeStyle::Interleaved };

    fn close(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?} is not {want:?}");
    }

    #[test]
    fn pairs_turn_and_the_rest_passes_through() {
        // A quarter turn a position for the first pair, half a turn for the second; two heads.
        let angles = angles(&[FRAC_PI_2, 2.0 * FRAC_PI_2], 1, 1.0);
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 1.0, 1.0, 0.0, 7.0, 8.0];
        let y = reference(&[[0, 1, 0, 0]], &angles, &x, &ROPE);
        close(&y, &[-2.0, 1.0, -3.0, -4.0, 5.0, 6.0, -1.0, 0.0, -1.0, 0.0, 7.0, 8.0]);
        let halves = Rope { style: RopeStyle::Neox, ..ROPE };
        let y = reference(&[[0, 1, 0, 0]], &angles, &x, &halves);
        close(&y, &[-3.0, -2.0, 1.0, -4.0, 5.0, 6.0, -1.0, -1.0, 0.0, 0.0, 7.0, 8.0]);
    }

    #[test]
    fn the_two_tables_give_the_sine_and_cosine_of_any_position() {
        let frequencies: Vec<f64> = (0..32).map(|i| 500_000f64.powf(-f64::from(i) / 32.0)).collect();
        let (context, scale) = (131_072, 1.25);
        let angles = angles(&frequencies, context, scale);
        let rope = Rope { head_dim: 64, rotated: 64, style: RopeStyle::Neox };
        let x: Vec<f32> = (0..64).map(|i| if i < 32 { 1.0 } else { 0.0 }).collect();
        for position in [0, 1, 255, 256, 257, 511, 512, 4095, 65_537, 131_071] {
            let want: Vec<f32> = (0..64)
                .map(|i| f64::from(position) * frequencies[i % 32] + if i < 32 { 0.0 } else { -FRAC_PI_2 })
                .map(|angle| (angle.cos() * f64::from(scale)) as f32)
                .collect();
            close(&reference(&[[0, position, 0, 0]], &angles, &x, &rope), &want);
        }
    }
}
