//! Sizes of attention over latent keys.

use super::Keys;
use crate::{Error, Result};

/// Sizes of attention over latent keys (MLA, arXiv 2405.04434, section 2.1). What is kept of a position, and what
/// queries are compared with, is one head of `rank + rotated` values; values are the first `rank` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latent {
    /// Values of the latent part.
    pub rank: u32,
    /// Values of the rotated part.
    pub rotated: u32,
    /// Values of a query's head that are not rotated.
    pub plain: u32,
    /// Values of a head of what attention makes.
    pub value: u32,
}

impl Latent {
    pub(super) fn read(keys: &Keys) -> Result<Option<Self>> {
        if !are_latent(keys)? {
            return Ok(None);
        }
        let rank = keys.size("attention.kv_lora_rank", 1 << 12)?;
        let rotated = keys.size("rope.dimension_count", 1 << 12)?;
        // Files from before the matrices were split name the heads as the others do.
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
        Ok(Some(Latent { rank, rotated, plain, value }))
    }
}

/// Whether keys are latent.
pub(super) fn are_latent(keys: &Keys) -> Result<bool> {
    Ok(keys.u32("attention.kv_lora_rank")?.is_some())
}

/// What YaRN multiplies scores by where keys are latent: there it multiplies all of queries and keys, and not what is
/// rotated of them. The multiplier in files is a tenth of what it is elsewhere.
pub(super) fn yarn_of_scores(keys: &Keys) -> Result<f32> {
    let latent = are_latent(keys)? && keys.str("rope.scaling.type")? == Some("yarn");
    let tenth = keys.finite("rope.scaling.yarn_log_multiplier")?.filter(|_| latent).unwrap_or(0.0);
    let factor = keys.finite("rope.scaling.factor")?.unwrap_or(1.0);
    Ok((1.0 + tenth * factor.max(1.0).ln()).powi(2))
}
