//! Feed-forward networks.

use super::Recorder;
use crate::graph::{Activation, TensorId};
use crate::model::spec::{DenseSpec, Ffn, MoeAndDenseSpec};

impl Recorder<'_> {
    /// x (rows, hidden), and its norm, which most networks read -> (rows, hidden)
    pub fn ffn(&mut self, x: TensorId, normed: TensorId, spec: &Ffn) -> TensorId {
        match spec {
            Ffn::Dense(dense) => self.dense(normed, dense),
            Ffn::Moe(moe) => self.moe(normed, normed, moe),
            Ffn::MoeAndDense(both) => self.moe_and_dense(x, normed, both),
        }
    }

    /// (rows, hidden) -> (rows, hidden)
    pub(super) fn dense(&mut self, x: TensorId, spec: &DenseSpec) -> TensorId {
        let gate = spec.gate.as_ref().map(|gate| self.linear(x, gate));
        let up = self.linear(x, &spec.up);
        let (gate, up) = match gate {
            Some(gate) => (gate, up),
            // activation(up) * 1
            None => (up, self.scalar("one", 1.0)),
        };
        let h = self.graph.glu(gate, up, spec.activation);
        self.linear(h, &spec.down)
    }

    /// A dense network and a mixture of experts in parallel: x (rows, hidden), and its norm -> (rows, hidden)
    fn moe_and_dense(&mut self, x: TensorId, normed: TensorId, spec: &MoeAndDenseSpec) -> TensorId {
        let dense = self.dense(normed, &spec.dense);
        let dense = self.norm(dense, &spec.dense_after);
        let root = self.scalar("root", (self.graph.cols(x) as f32).sqrt().recip());
        let routed = self.norm(x, &spec.router_norm);
        let routed = self.graph.glu(root, routed, Activation::Product);
        let h = self.norm(x, &spec.moe_before);
        let h = self.moe(h, routed, &spec.moe);
        let h = self.norm(h, &spec.moe_after);
        self.graph.sum(dense, h)
    }
}
