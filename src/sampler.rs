//! stub
use serde::{Deserialize, Serialize};
pub const IN_PROMPT: u32 = 1 << 31;
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    pub logprobs: Option<u32>,
}
pub struct Choice {
    pub token: u32,
    pub logprob: f32,
    pub top: Vec<(u32, f32)>,
}
impl Sampling {
    pub fn check(&self) -> crate::Result<()> {
        Ok(())
    }
    pub fn needs_cpu(&self) -> bool {
        true
    }
    pub fn has_filter(&self) -> bool {
        false
    }
    pub fn has_penalties(&self) -> bool {
        false
    }
}
pub fn sample(_: &Sampling, logits: &[f32], _: &[u32], _: u32) -> Choice {
    let mut best = 0;
    for i in 0..logits.len() {
        if logits[i] > logits[best] {
            best = i
        }
    }
    Choice { token: best as u32, logprob: 0.0, top: vec![] }
}
