//! Rotary position embedding (arXiv 2104.09864): pairs of each head are turned by position * frequency.
//!
//! Sines and cosines are computed once on the CPU in f64 for position % 256 and position / 256 and joined on the GPU
//! by the addition theorem: two small tables serve any context, and no adapter's `sin` of a large angle is trusted.

use super::{Binding, Choice, Extent, Kernel, Op, Size};
use crate::graph::{Graph, Input, Kind, Rows, TensorId};
use crate::shader::{Const, Source};

/// Which values of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Neighbours (2i, 2i + 1): GGUF's llama family, whose q and k rows were permuted for it.
    Neighbours,
    /// (i, i + n/2): everything else ("NEOX").
    Halves,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Values of a head.
    pub head_dim: u32,
    /// How many of them rotate.
    pub rotated: u32,
    /// Which form pairs.
    pub pairing: Pairing,
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
        self.add("rope.angles", rows, cols, Kind::Constant(table))
    }

    /// (rows, heads * head_dim) -> the same, rotated.
    #[track_caller]
    pub fn rope(&mut self, x: TensorId, angles: TensorId, rope: Rope) -> TensorId {
        let cols = self.cols(x);
        assert!(cols % rope.head_dim == 0 && rope.rotated <= rope.head_dim && rope.rotated % 2 == 0, "{rope:?}");
        crate::graph::same("frequencies and rotated pairs", self.cols(angles), rope.rotated);
        let rows = self.input(Input::Rows);
        let name = format!("{}.rope", self.tensor(x).name);
        self.node(Op::Rope(rope), vec![rows, angles, x], &name, Rows::Step, cols)
    }
}

impl Rope {
    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let cols = cx.cols(2);
        let consts = vec![
            ("HEADS", Const::U32(cols / self.head_dim)),
            ("HEAD_DIM", Const::U32(self.head_dim)),
            ("ROT", Const::U32(self.rotated)),
            ("HALVES", Const::Bool(self.pairing == Pairing::Halves)),
        ];
        let source = Source { file: "rope", imports: vec![], consts };
        let mut bindings: Vec<_> = (0..3).map(|i| Binding::read(cx.input(i))).collect();
        bindings.push(Binding::write(cx.output(0)));
        vec![Kernel::new(source, bindings, [Extent::ceil(cols / 2, 64), Extent::each(Size::Rows), Extent::fixed(1)])]
    }
}
