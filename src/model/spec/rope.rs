//! Rotary embeddings (RoPE): rotated values and frequencies, from keys and tensors.

use super::mla;
use super::tensors::read_vector;
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::graph::{MAX_HEAD_DIM, RopeStyle};
use crate::model::arch::Arch;
use crate::model::keys::Keys;
use crate::{Error, Result};

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RopeConfig {
    /// Which values of a head form pairs.
    pub style: RopeStyle,
    /// Radians per position, for each pair.
    pub frequencies: Vec<f64>,
    /// Frequencies for contexts longer than this (LongRoPE). As in llama.cpp, the size of a session's context decides,
    /// so that cached keys stay valid as a conversation grows; transformers uses the current length.
    pub long: Option<(u32, Vec<f64>)>,
    /// Multiplier of rotated values (YaRN, LongRoPE).
    pub scale: f32,
}

impl RopeConfig {
    /// For `rotated` values of a head, with this base; with the file's scaling or without any.
    pub(super) async fn read(
        keys: &Keys<'_>,
        arch: &Arch,
        checkpoint: &Checkpoint,
        rotated: u32,
        base: f32,
        rope_scaling: bool,
    ) -> Result<Self> {
        let base = f64::from(base);
        if rotated == 0 || !rotated.is_multiple_of(2) || rotated > MAX_HEAD_DIM || !(base.is_finite() && base > 1.0) {
            return Err(Error::format(format!("rotary embedding of {rotated} values with base {base}")));
        }
        let style = match keys.str("rope.pairing")? {
            Some("halves") => RopeStyle::Neox,
            _ => arch.rope_style,
        };
        let pairs = rotated / 2;
        // The head's definition (arXiv 2104.09864).
        let frequencies = (0..pairs).map(|i| base.powf(-2.0 * f64::from(i) / f64::from(rotated))).collect();
        let plain = RopeConfig { style, frequencies, long: None, scale: 1.0 };
        if rope_scaling { plain.scaled(keys, arch, base, factors(keys, checkpoint, pairs).await?) } else { Ok(plain) }
    }

    /// With the file's scaling: factors for short and long contexts, and a rule.
    fn scaled(self, keys: &Keys, arch: &Arch, base: f64, [short, long]: [Vec<f32>; 2]) -> Result<Self> {
        let mut frequencies = divided(&self.frequencies, &short);
        let long = match (long.is_empty(), keys.u32("rope.scaling.original_context_length")?) {
            (false, Some(beyond)) => Some((beyond, divided(&self.frequencies, &long))),
            _ => None,
        };
        let attention = match keys.nonzero("rope.scaling.attn_factor")? {
            Some(factor) => factor,
            None => long.as_ref().map_or(Ok(1.0), |(original, _)| longrope_scale(keys, *original))?,
        };
        let factor = keys.f32("rope.scaling.factor")?.or(keys.f32("rope.scale_linear")?);
        let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::format(format!("{} is {factor}", keys.path("rope.scaling.factor"))));
        }
        // Files with factors in tensors have no type, but a multiplier (Phi 3).
        let scale = attention
            * match keys.str("rope.scaling.type")? {
                Some("yarn") => yarn(keys, arch, &mut frequencies, base, f64::from(factor))?,
                Some("longrope" | "none") => 1.0,
                None | Some("linear") => {
                    frequencies.iter_mut().for_each(|f| *f /= f64::from(factor));
                    1.0
                }
                Some(other) => {
                    return Err(Error::Unsupported(format!(
                        "the rotary scaling {other:?} is not supported; supported are linear, yarn, longrope and \
                         factors in a tensor"
                    )));
                }
            };
        Ok(RopeConfig { frequencies, long, scale, ..self })
    }

    /// How many values of a head rotate.
    pub fn rotated(&self) -> u32 {
        2 * self.frequencies.len() as u32
    }

    /// The frequencies for a context of this many positions.
    pub fn frequencies_for(&self, context: u32) -> &[f64] {
        match &self.long {
            Some((beyond, long)) if context > *beyond => long,
            _ => &self.frequencies,
        }
    }
}

/// Tensors with divisors of frequencies.
pub(super) const FACTOR_TENSORS: [&str; 3] =
    ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];

fn divided(frequencies: &[f64], factors: &[f32]) -> Vec<f64> {
    let factors = factors.iter().copied().chain(std::iter::repeat(1.0));
    frequencies.iter().zip(factors).map(|(frequency, factor)| frequency / f64::from(factor)).collect()
}

/// Divisors of the frequencies (Llama 3.1; LongRoPE has others for long contexts): tensors in GGUF files, a key for
/// Hugging Face folders.
async fn factors(keys: &Keys<'_>, checkpoint: &Checkpoint, pairs: u32) -> Result<[Vec<f32>; 2]> {
    let [freqs, short, long] = FACTOR_TENSORS;
    let names = [&[freqs, short][..], &[long]];
    let keyed = ["rope.freq_factors", "rope.freq_factors_long"];
    let mut out = [Vec::new(), Vec::new()];
    for ((names, key), out) in names.into_iter().zip(keyed).zip(&mut out) {
        *out = match names.iter().find_map(|name| checkpoint.tensors.get(*name)) {
            Some(tensor) => read_factors(checkpoint, tensor, pairs).await?,
            None => keys.metadata.get_f32s(&keys.path(key))?.unwrap_or_default(),
        };
        if out.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
            return Err(Error::format("a factor of the rotary frequencies is not positive"));
        }
    }
    Ok(out)
}

async fn read_factors(checkpoint: &Checkpoint, tensor: &TensorInfo, pairs: u32) -> Result<Vec<f32>> {
    let factors = read_vector(checkpoint, tensor).await?;
    if factors.len() != pairs as usize {
        return Err(Error::format(format!("tensor {} has {} values, not {pairs}", tensor.name, factors.len())));
    }
    Ok(factors)
}

/// YaRN (arXiv 2309.00071, section 3.2): high frequencies stay, low ones are divided by `factor`, those between are
/// mixed. Returns the multiplier of rotated values.
fn yarn(keys: &Keys, arch: &Arch, frequencies: &mut [f64], base: f64, factor: f64) -> Result<f32> {
    let original = keys.u32("rope.scaling.original_context_length")?.or(keys.u32("context_length")?).unwrap_or(2048);
    let beta = |name: &str, default: f32| -> Result<f64> { Ok(f64::from(keys.f32(name)?.unwrap_or(default))) };
    let (fast, slow) = (beta("rope.scaling.yarn_beta_fast", 32.0)?, beta("rope.scaling.yarn_beta_slow", 1.0)?);
    let dims = 2.0 * frequencies.len() as f64;
    // The pair that turns `rotations` times within the original context.
    let pair =
        |rotations: f64| dims * (f64::from(original) / (rotations * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
    let rounds = arch.yarn_truncate;
    let (low, high) = (pair(fast), pair(slow));
    let (low, high) = if rounds { (low.floor(), high.ceil()) } else { (low, high) };
    let low = low.max(0.0);
    let high = high.min(dims - 1.0).max(low + 0.001);
    for (i, frequency) in frequencies.iter_mut().enumerate() {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
    }
    let usual = |multiplier: f64| 0.1 * multiplier * factor.max(1.0).ln() + 1.0;
    // The key is transformers' `attention_factor`, which replaces the whole formula; files of models whose own formula
    // differs (DeepSeek, Mistral 3) have a multiplier of the logarithm.
    let whole = keys.nonzero("rope.scaling.yarn_attn_factor")?;
    let by = keys.nonzero("rope.scaling.yarn_log_multiplier")?;
    let uses_mla = mla::uses_mla(keys)?;
    let multiplier = match (whole, by) {
        (Some(whole), _) => f64::from(whole),
        (None, Some(_)) if uses_mla => 1.0,
        (None, Some(all)) => usual(1.0) / usual(f64::from(all)),
        (None, None) => usual(1.0),
    };
    Ok(multiplier as f32)
}

/// LongRoPE's multiplier of rotated values (arXiv 2402.13753, section 3.3), for models that were trained for `original`
/// positions first.
fn longrope_scale(keys: &Keys, original: u32) -> Result<f32> {
    let context = keys.u32("context_length")?.unwrap_or(original);
    let longer = f64::from(context) / f64::from(original.max(2));
    Ok((1.0 + longer.max(1.0).ln() / f64::from(original.max(2)).ln()).sqrt() as f32)
}
