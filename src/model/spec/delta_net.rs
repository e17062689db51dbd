//! Gated delta nets (arXiv 2412.06464): linear attention with a recurrent state.

use super::norm::{NormRule, NormSpec};
use super::tensors::{LinearSpec, TensorTable, VectorSpec};
use crate::graph::DeltaNet;
use crate::model::arch::{Arch, ValueHeads};
use crate::model::keys::Keys;
use crate::{Error, Result};

/// Sizes of gated delta nets.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeltaNetConfig {
    /// Kernel size of the short convolution.
    pub conv_kernel: u32,
    /// Heads of queries and keys.
    pub key_heads: u32,
    /// Heads of values.
    pub heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// The order of value heads.
    pub value_heads: ValueHeads,
}

/// A gated delta net.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeltaNetSpec {
    /// Kernel size of the short convolution.
    pub conv_kernel: u32,
    /// The recurrence.
    pub op: DeltaNet,
    /// Queries, keys and values, one after another.
    pub qkv: LinearSpec,
    /// The short convolution over them: (channels, kernel).
    pub conv: VectorSpec,
    /// The projections from which decay and write strength of each head and row are computed.
    pub rates: DeltaRates,
    /// a of each head, then dt of each head: parameters of the decay.
    pub decay: [VectorSpec; 2],
    /// Norm of each head's output.
    pub norm: NormSpec,
    /// The SiLU gate of the output.
    pub gate: LinearSpec,
    /// The output projection.
    pub output: LinearSpec,
}

/// The projections to alpha (decay) and beta (write strength).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DeltaRates {
    /// One matrix for both.
    Fused(LinearSpec),
    /// alpha, then beta.
    Split([LinearSpec; 2]),
}

impl DeltaNetConfig {
    /// Reads keys, if the architecture has delta nets.
    pub(super) fn read(keys: &Keys, arch: &Arch) -> Result<Option<Self>> {
        let Some(usual) = arch.delta_net else { return Ok(None) };
        let head_dim = keys.size("ssm.state_size", 256)?;
        let (key_heads, heads) = (keys.size("ssm.group_count", 1 << 8)?, keys.size("ssm.time_step_rank", 1 << 8)?);
        let (inner, conv_kernel) = (keys.size("ssm.inner_size", 1 << 16)?, keys.size("ssm.conv_kernel", 8)?);
        let possible = head_dim.is_multiple_of(4) && heads.is_multiple_of(key_heads) && conv_kernel > 1;
        if !possible || inner != heads * head_dim {
            let sizes = format!("{heads} heads over {key_heads} of {head_dim} values, {inner} in all");
            let what = format!("a delta net of {sizes}, a convolution over {conv_kernel} rows");
            return Err(Error::Unsupported(format!("this model cannot run: {what}")));
        }
        let value_heads = match keys.bool("ssm.grouped_heads")? {
            Some(true) => ValueHeads::Grouped,
            Some(false) => ValueHeads::Interleaved,
            None => usual,
        };
        Ok(Some(DeltaNetConfig { conv_kernel, key_heads, heads, head_dim, value_heads }))
    }

    /// The delta net of a layer.
    pub(super) fn layer(self, tensors: &TensorTable, norms: &NormRule, hidden: u32) -> Result<DeltaNetSpec> {
        let DeltaNetConfig { conv_kernel, key_heads, heads, head_dim, value_heads } = self;
        let (fused, log_decay) = (tensors.has("ssm_ba.weight"), tensors.has("ssm_a_log"));
        let grouped = value_heads == ValueHeads::Grouped;
        let op = DeltaNet { key_heads, heads, head_dim, grouped, fused, log_decay };
        let inner = heads * head_dim;
        let channels = 2 * key_heads * head_dim + inner;
        let rates = if fused {
            DeltaRates::Fused(tensors.linear("ssm_ba", 2 * heads, hidden)?)
        } else {
            let [alpha, beta] = ["ssm_alpha", "ssm_beta"].map(|stem| tensors.linear(stem, heads, hidden));
            DeltaRates::Split([alpha?, beta?])
        };
        let a = tensors.vector(if log_decay { "ssm_a_log" } else { "ssm_a" }, heads)?;
        let weight = Some(tensors.vector("ssm_norm.weight", head_dim)?);
        Ok(DeltaNetSpec {
            conv_kernel,
            op,
            qkv: tensors.linear("attn_qkv", channels, hidden)?,
            conv: tensors.values("ssm_conv1d.weight", &[conv_kernel, channels])?,
            rates,
            decay: [a, tensors.vector("ssm_dt.bias", heads)?],
            norm: NormSpec { weight, ..norms.bare(head_dim) },
            gate: tensors.linear("attn_gate", inner, hidden)?,
            output: tensors.linear("ssm_out", hidden, inner)?,
        })
    }
}

/// Whether a layer is a delta net. Mamba has an `ssm_a`, too, but no write strength.
pub(super) fn is_delta_net(tensors: &TensorTable) -> bool {
    tensors.has("ssm_ba.weight") || tensors.has("ssm_beta.weight")
}
