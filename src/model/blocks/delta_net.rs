//! Gated delta nets (arXiv 2412.06464).

use super::Recorder;
use crate::graph::{Activation, ShortConv, TensorId};
use crate::model::spec::{DeltaNetSpec, DeltaRates};

impl Recorder<'_> {
    /// x (rows, hidden) -> (rows, hidden)
    pub fn delta_net(&mut self, x: TensorId, spec: &DeltaNetSpec, n: u32) -> TensorId {
        let qkv = self.linear(x, &spec.qkv);
        let kernel = self.vector(&spec.conv);
        let conv = ShortConv { kernel_size: spec.conv_kernel, silu: true };
        let qkv = self.graph.short_conv(qkv, kernel, &format!("blk.{n}.conv_state"), conv);
        let [alpha, beta] = match &spec.rates {
            DeltaRates::Fused(both) => [self.linear(x, both); 2],
            DeltaRates::Split([alpha, beta]) => [self.linear(x, alpha), self.linear(x, beta)],
        };
        let decay = spec.decay.each_ref().map(|vector| self.vector(vector));
        let decay = self.graph.concat_vectors(&decay);
        let h = self.graph.delta_net(qkv, [alpha, beta, decay], &format!("blk.{n}.delta_state"), spec.op);
        let h = self.norm(h, &spec.norm);
        let gate = self.linear(x, &spec.gate);
        let h = self.graph.glu(gate, h, Activation::Silu);
        self.linear(h, &spec.output)
    }
}
