//! Rotary position embedding (arXiv 2104.09864): pairs of each head are turned by position * frequency.
//!
//! Sines and cosines are computed once on the CPU in f64 for position % 256 and position / 256 and joined on the GPU
//! by the addition theorem: two small tables serve any context, and no adapter's `sin` of a large angle is trusted.

use super::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::graph::{Graph, Rows, StepInput, TensorId, TensorKind};
use crate::shader::{Const, ShaderSource};

/// Which values of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours (2i, 2i + 1): GGUF's llama family, whose q and k rows were permuted for it.
    Interleaved,
    /// (i, i + n/2): everything else ("NEOX").
    Neox,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Values of a head.
    pub head_dim: u32,
    /// How many of them rotate.
    pub rotated: u32,
    /// Which form pairs.
    pub style: RopeStyle,
}

/// The two tables for angles `position * frequencies[i]`, positions below `context`: (256 + ceil(context / 256),
/// frequencies) of (cos, sin); all values times `scale`.
pub fn angles(frequencies: &[f64], context: u32, scale: f32) -> Vec<f32> {
    let fine = (0..256u32).map(|p| (p, 1.0));
    let coarse = (0..=context.div_ceil(256)).map(|p| (p * 256, f64::from(scale)));
    fine.chain(coarse)
        .flat_map(|(p, scale)| frequencies.iter().map(move |f| (f64::from(p) * f, scale)))
        .flat_map(|(angle, scale)| [(angle.cos() * scale) as f32, (angle.sin() * scale) as f32])
        .collect()
}

impl Graph {
    /// The angles as a tensor; see [`angles`].
    pub fn rope_angles(&mut self, frequencies: &[f64], context: u32, scale: f32) -> TensorId {
        let table = angles(frequencies, context, scale);
        let cols = 2 * frequencies.len() as u32;
        let rows = Rows::Fixed(table.len() as u32 / cols);
        self.add("rope.angles", rows, cols, TensorKind::Constant(table))
    }

    /// (rows, heads * head_dim) -> the same, rotated.
    #[track_caller]
    pub fn rope(&mut self, x: TensorId, angles: TensorId, rope: Rope) -> TensorId {
        let cols = self.cols(x);
        assert!(
            cols.is_multiple_of(rope.head_dim) && rope.rotated <= rope.head_dim && rope.rotated.is_multiple_of(2),
            "{rope:?}"
        );
        crate::graph::same("frequencies and rotated pairs", self.cols(angles), rope.rotated);
        let rows = self.input(StepInput::Rows);
        let name = format!("{}.rope", self.tensor(x).name);
        self.node(Op::Rope(rope), vec![rows, angles, x], &name, Rows::Step, cols)
    }
}

impl Rope {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let cols = cx.cols(2);
        let consts = vec![
            ("HEADS", Const::U32(cols / self.head_dim)),
            ("HEAD_DIM", Const::U32(self.head_dim)),
            ("ROT", Const::U32(self.rotated)),
            ("NEOX", Const::Bool(self.style == RopeStyle::Neox)),
        ];
        let source = ShaderSource { file: "rope", imports: vec![], consts };
        let mut bindings: Vec<_> = (0..3).map(|i| Binding::read(cx.input(i))).collect();
        bindings.push(Binding::write(cx.output(0)));
        vec![Kernel::new(
            source,
            bindings,
            [GridDim::ceil(cols / 2, 64), GridDim::each(StepSize::Rows), GridDim::fixed(1)],
        )]
    }
}

/// What the op means, through the same two tables as the GPU. `rows` is the row table, x (rows, heads * head_dim).
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
