//! stub
use super::{Choice, Kernel, Op};
use crate::graph::*;
/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample;
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Params([u32; 16]);
impl From<&crate::sampler::Sampling> for Params {
    fn from(_: &crate::sampler::Sampling) -> Self {
        Params([0; 16])
    }
}
impl Sample {
    pub(super) fn kernels(&self, _cx: &Choice) -> Vec<Kernel> {
        Vec::new()
    }
}
impl Graph {
    pub fn sample(&mut self, logits: TensorId) {
        let s = self.input(Input::Sampled);
        let p = self.input(Input::Sampling);
        self.nodes.push(Node { op: Op::Sample(Sample), inputs: vec![logits, p], outputs: vec![s] });
    }
}
