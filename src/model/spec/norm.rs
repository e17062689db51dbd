//! Norms: their kind, weights and placement.

use super::tensors::{TensorTable, VectorSpec};
use crate::model::arch::{Arch, NormKind};
use crate::model::keys::Keys;
use crate::{Error, Result};

/// A norm of every `size` values of a row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NormSpec {
    /// RMSNorm or LayerNorm.
    pub kind: NormKind,
    /// Values that are normed together.
    pub size: u32,
    /// Multipliers, if it has any.
    pub weight: Option<VectorSpec>,
    /// Offsets, if it has any.
    pub bias: Option<VectorSpec>,
    /// Epsilon.
    pub eps: f32,
}

/// Norms around a branch of the residual stream.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BranchNorms {
    /// The norm of the branch's input (pre-norm).
    pub before: Option<NormSpec>,
    /// The norm of the branch's output (post-norm).
    pub after: Option<NormSpec>,
}

/// Where a layer's norms are, and how its branches share the residual stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum NormPlacement {
    /// First the mixer's branch is added to the residual stream, then the feed-forward network's.
    Sequential {
        /// Norms of the mixer's branch.
        mixer: BranchNorms,
        /// Norms of the feed-forward network's branch.
        ffn: BranchNorms,
    },
    /// Mixer and feed-forward network read one norm, and are added together (Cohere).
    Parallel(NormSpec),
}

/// The properties that all of a model's norms share.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormRule {
    kind: NormKind,
    eps: f32,
    plus: f32,
}

impl NormRule {
    pub fn read(keys: &Keys, arch: &Arch) -> Result<Self> {
        // A file may have both keys.
        let (rms, layer) = (keys.f32("attention.layer_norm_rms_epsilon")?, keys.f32("attention.layer_norm_epsilon")?);
        let eps = if arch.norm == NormKind::Rms { rms.or(layer) } else { layer.or(rms) }.unwrap_or(1e-5);
        if !eps.is_finite() || eps < 0.0 {
            return Err(Error::Unsupported(format!("this model cannot run: a norm epsilon of {eps}")));
        }
        // Hugging Face folders store Gemma's weights minus one.
        Ok(NormRule { kind: arch.norm, eps, plus: keys.finite("norm_plus")?.unwrap_or(0.0) })
    }

    /// The norm `{stem}.weight` of every `size` values, of the model's kind.
    pub fn norm(&self, tensors: &TensorTable, stem: &str, size: u32) -> Result<NormSpec> {
        let rms = self.rms(tensors, &format!("{stem}.weight"), size)?;
        Ok(match self.kind {
            NormKind::Rms => rms,
            NormKind::Layer => {
                let bias = tensors.vector_if(&format!("{stem}.bias"), size)?;
                NormSpec { kind: NormKind::Layer, bias, ..rms }
            }
        })
    }

    /// The same, if the file has its weight.
    pub fn norm_if(&self, tensors: &TensorTable, stem: &str, size: u32) -> Result<Option<NormSpec>> {
        if tensors.has(&format!("{stem}.weight")) { self.norm(tensors, stem, size).map(Some) } else { Ok(None) }
    }

    /// An RMSNorm, whatever the model's other norms are; `name` is that of its weight.
    pub fn rms(&self, tensors: &TensorTable, name: &str, size: u32) -> Result<NormSpec> {
        let weight = VectorSpec { plus: self.plus, ..tensors.vector(name, size)? };
        Ok(NormSpec { weight: Some(weight), ..self.bare(size) })
    }

    /// An RMSNorm without a weight.
    pub fn bare(&self, size: u32) -> NormSpec {
        NormSpec { kind: NormKind::Rms, size, weight: None, bias: None, eps: self.eps }
    }

    /// Norms of queries or keys, if the file has their weight: of each head, or of all heads at once if the weight is
    /// as long (OLMo 2).
    pub fn heads_if(&self, tensors: &TensorTable, stem: &str, heads: u32, head_dim: u32) -> Result<Option<NormSpec>> {
        let name = format!("{stem}.weight");
        if !tensors.has(&name) {
            return Ok(None);
        }
        if tensors.cols_of(&name) == heads * head_dim {
            return self.norm(tensors, stem, heads * head_dim).map(Some);
        }
        if self.kind == NormKind::Layer {
            return Err(Error::Unsupported(format!("{} is a layer norm of single heads", tensors.name(&name))));
        }
        self.rms(tensors, &name, head_dim).map(Some)
    }

    /// The norms of a layer, of which mixer and feed-forward network may be missing.
    pub fn placement(
        &self,
        tensors: &TensorTable,
        arch: &Arch,
        hidden: u32,
        [has_mixer, has_ffn]: [bool; 2],
    ) -> Result<NormPlacement> {
        let optional = |stem: &str| self.norm_if(tensors, stem, hidden);
        let of = |branch: bool, stem: &str| if branch { self.norm(tensors, stem, hidden).map(Some) } else { Ok(None) };
        if arch.parallel {
            return Ok(NormPlacement::Parallel(self.norm(tensors, "attn_norm", hidden)?));
        }
        // Norms after the branches come in pairs; a single one is the one before the feed-forward network, under
        // another name (gpt-oss). Only with norms after the branches may those before them be missing (OLMo 2).
        let (mixer, ffn) = if tensors.has("post_ffw_norm.weight") {
            let mixer = BranchNorms { before: optional("attn_norm")?, after: of(has_mixer, "post_attention_norm")? };
            (mixer, BranchNorms { before: optional("ffn_norm")?, after: of(has_ffn, "post_ffw_norm")? })
        } else {
            let name = if tensors.has("ffn_norm.weight") { "ffn_norm" } else { "post_attention_norm" };
            let mixer = BranchNorms { before: of(has_mixer, "attn_norm")?, after: None };
            (mixer, BranchNorms { before: of(has_ffn, name)?, after: None })
        };
        Ok(NormPlacement::Sequential { mixer, ffn })
    }
}
