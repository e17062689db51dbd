//! Gated short convolutions (LFM2).

use super::Recorder;
use crate::graph::{Activation, ShortConv, TensorId};
use crate::model::spec::ShortConvSpec;

impl Recorder<'_> {
    /// x (rows, hidden) -> (rows, hidden)
    pub fn short_conv(&mut self, x: TensorId, spec: &ShortConvSpec, n: u32) -> TensorId {
        let kernel = self.vector(&spec.conv);
        let [b, c, h] = spec.input.each_ref().map(|linear| self.linear(x, linear));
        let h = self.graph.glu(b, h, Activation::Product);
        let conv = ShortConv { kernel_size: spec.kernel, silu: false };
        let h = self.graph.short_conv(h, kernel, &format!("blk.{n}.shortconv.state"), conv);
        let h = self.graph.glu(c, h, Activation::Product);
        self.linear(h, &spec.output)
    }
}
