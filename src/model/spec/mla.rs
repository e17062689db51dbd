//! Sizes of multi-head latent attention (MLA).

use super::Keys;
use crate::{Error, Result};

/// Sizes of multi-head latent attention (MLA, arXiv 2405.04434, section 2.1). The cache keeps one head of
/// `kv_lora_rank + qk_rope_head_dim` values per position; the first `kv_lora_rank` of them are also the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
