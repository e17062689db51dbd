//! Multi-head latent attention (MLA).

use super::attention::{AttentionConfig, ScoreSpec};
use super::norm::NormSpec;
use super::tensors::{LinearSpec, TensorTable, WeightSpec};
use crate::model::arch::NormKind;
use crate::model::keys::Keys;
use crate::{Error, Result};

/// Sizes of multi-head latent attention (MLA, arXiv 2405.04434, section 2.1). The cache keeps one head of
/// `kv_lora_rank + qk_rope_head_dim` values per position; the first `kv_lora_rank` of them are also the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MlaConfig {
    /// Size of the latent part.
    pub kv_lora_rank: u32,
    /// Rotated values of a head.
    pub qk_rope_head_dim: u32,
    /// Values of a query head that are not rotated.
    pub qk_nope_head_dim: u32,
    /// Size of an output head.
    pub v_head_dim: u32,
}

impl MlaConfig {
    /// Size of the cached head.
    pub fn cached_dim(&self) -> u32 {
        self.kv_lora_rank + self.qk_rope_head_dim
    }

    /// Size of a query head.
    pub fn query_dim(&self) -> u32 {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    pub(super) fn read(keys: &Keys) -> Result<Option<Self>> {
        if !uses_mla(keys)? {
            return Ok(None);
        }
        let rank = keys.size("attention.kv_lora_rank", 1 << 12)?;
        let rotated = keys.size("rope.dimension_count", 1 << 12)?;
        // Files from before kv_b was split use the keys of ordinary attention.
        let length = |mla: &str, other: &str| match keys.u32(mla)? {
            Some(_) => keys.size(mla, 1 << 12),
            None => keys.size(other, 1 << 12),
        };
        let key = length("attention.key_length_mla", "attention.key_length")?;
        let value = length("attention.value_length_mla", "attention.value_length")?;
        let plain = key.saturating_sub(rotated);
        if plain == 0 || [rank, rotated, plain, value].iter().any(|n| n % 4 != 0) {
            let sizes = format!("{rank} latent, {rotated} rotated, {plain} other keys and {value} values");
            return Err(Error::Unsupported(format!("this model cannot run: heads of {sizes}")));
        }
        Ok(Some(MlaConfig {
            kv_lora_rank: rank,
            qk_rope_head_dim: rotated,
            qk_nope_head_dim: plain,
            v_head_dim: value,
        }))
    }
}

/// Whether the model uses MLA.
pub(super) fn uses_mla(keys: &Keys) -> Result<bool> {
    Ok(keys.u32("attention.kv_lora_rank")?.is_some())
}

/// YaRN's multiplier of attention scores. With MLA it applies to whole queries and keys, not only to their rotated
/// parts. The multiplier in files is a tenth of the one in `config.json`.
pub(super) fn yarn_of_scores(keys: &Keys) -> Result<f32> {
    let latent = uses_mla(keys)? && keys.str("rope.scaling.type")? == Some("yarn");
    let tenth = keys.finite("rope.scaling.yarn_log_multiplier")?.filter(|_| latent).unwrap_or(0.0);
    let factor = keys.finite("rope.scaling.factor")?.unwrap_or(1.0);
    Ok((1.0 + tenth * factor.max(1.0).ln()).powi(2))
}

/// A layer with multi-head latent attention. The matrices that would compute keys and values from the latent part are
/// applied to queries and to attention's output instead, so that all heads share one cached head.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MlaSpec {
    /// Query heads.
    pub heads: u32,
    /// Sizes.
    pub sizes: MlaConfig,
    /// Queries.
    pub q: MlaQuery,
    /// The latent part of keys.
    pub kv_a: LinearSpec,
    /// The rotated part of keys.
    pub k_rope: LinearSpec,
    /// Norm of the latent part.
    pub kv_norm: NormSpec,
    /// From a head's query to the latent part: heads of (`kv_lora_rank`, `qk_nope_head_dim`).
    pub k_b: WeightSpec,
    /// From the latent part to a head's output: heads of (`v_head_dim`, `kv_lora_rank`).
    pub v_b: WeightSpec,
    /// How scores are computed.
    pub scores: ScoreSpec,
    /// Index into the model's rotary embeddings.
    pub rope: usize,
    /// The output projection.
    pub output: LinearSpec,
}

/// How queries are computed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MlaQuery {
    /// By one matrix.
    Full(LinearSpec),
    /// By two matrices with a norm between them.
    LowRank {
        /// The first.
        a: LinearSpec,
        /// The norm.
        norm: NormSpec,
        /// The second.
        b: LinearSpec,
    },
}

/// The epsilon of norms within MLA: transformers' models have no setting for it.
const MLA_EPS: f32 = 1e-6;

impl MlaConfig {
    /// The MLA of layer `n`.
    pub(super) fn layer(
        self,
        tensors: &TensorTable,
        attention: &AttentionConfig,
        n: u32,
        hidden: u32,
    ) -> Result<MlaSpec> {
        let MlaConfig { kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim } = self;
        let (heads, scores) = (attention.heads(), attention.scores(n));
        let alike = attention.ropes.iter().all(|rope| rope.rotated() == qk_rope_head_dim);
        let (true, Some(rope), true) = (alike, scores.rope, heads > 1) else {
            let what = "latent keys of one head, without RoPE or with several rotary embeddings";
            return Err(Error::Unsupported(format!("this model cannot run: {what}")));
        };
        let norm = |name: &str, size: u32| -> Result<NormSpec> {
            let weight = Some(tensors.vector(name, size)?);
            Ok(NormSpec { kind: NormKind::Rms, size, weight, bias: None, eps: MLA_EPS })
        };
        let q_rows = heads * self.query_dim();
        let q = if tensors.has("attn_q.weight") {
            MlaQuery::Full(tensors.linear("attn_q", q_rows, hidden)?)
        } else {
            let rank = tensors.rows_of("attn_q_a.weight")?;
            MlaQuery::LowRank {
                a: tensors.linear("attn_q_a", rank, hidden)?,
                norm: norm("attn_q_a_norm.weight", rank)?,
                b: tensors.linear("attn_q_b", q_rows, rank)?,
            }
        };
        let [kv_a, k_rope] = tensors.fused("attn_kv_a_mqa", [kv_lora_rank, qk_rope_head_dim], hidden)?;
        Ok(MlaSpec {
            heads,
            sizes: self,
            q,
            kv_a,
            k_rope,
            kv_norm: norm("attn_kv_a_norm.weight", kv_lora_rank)?,
            k_b: tensors.stack("attn_k_b.weight", heads, kv_lora_rank, qk_nope_head_dim)?,
            v_b: tensors.stack("attn_v_b.weight", heads, v_head_dim, kv_lora_rank)?,
            scores,
            rope,
            output: tensors.linear("attn_output", hidden, heads * v_head_dim)?,
        })
    }
}
