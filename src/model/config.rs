//! A model's sizes, read from GGUF keys and from which tensors exist, and checked: nothing behind this may panic on
//! what a file says.

use super::arch::Arch;
use crate::checkpoint::{Checkpoint, Metadata};
use crate::ops::rope::Pairing;
use crate::{Error, Result};

/// A model's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The architecture's row.
    pub arch: Arch,
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Values of a head.
    pub head_dim: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Positions that the model was trained for.
    pub context: u32,
    /// Positions that attention was trained to look back over, where it was fewer than all.
    pub window: Option<u32>,
    /// Added under the root of each norm.
    pub eps: f32,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// Mixture of experts, if the model is one.
    pub experts: Option<Experts>,
}

/// Rotary embedding: which values rotate, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Which values of a head form pairs.
    pub pairing: Pairing,
    /// Radians a position, for each pair.
    pub frequencies: Vec<f64>,
    /// Multiplier of rotated values (YaRN).
    pub scale: f32,
}

/// Mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: u32,
    /// How many a token goes to.
    pub used: u32,
}

/// Keys of one architecture: `{arch}.name`.
struct Keys<'a> {
    metadata: &'a Metadata,
    arch: &'static str,
}

impl Keys<'_> {
    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn u32(&self, name: &str) -> Result<Option<u32>> {
        self.metadata.get_u32(&self.path(name))
    }

    fn f32(&self, name: &str) -> Result<Option<f32>> {
        self.metadata.get_f32(&self.path(name))
    }

    fn str(&self, name: &str) -> Result<Option<&str>> {
        self.metadata.get_str(&self.path(name))
    }

    /// A size that must be there and lie in a sane range.
    fn size(&self, name: &str, max: u32) -> Result<u32> {
        let path = self.path(name);
        let value = self.u32(name)?.ok_or_else(|| Error::Format(format!("the file lacks the key {path}")))?;
        in_range(&path, value, max)
    }

    fn size_or(&self, name: &str, default: u32, max: u32) -> Result<u32> {
        in_range(&self.path(name), self.u32(name)?.unwrap_or(default), max)
    }
}

fn in_range(key: &str, value: u32, max: u32) -> Result<u32> {
    if value == 0 || value > max {
        return Err(Error::Format(format!("{key} is {value}, which is not between 1 and {max}")));
    }
    Ok(value)
}

impl Config {
    /// Reads a checkpoint's sizes. The frequencies of the rotary embedding may lie in a tensor, hence async.
    ///
    /// # Errors
    /// If the architecture is unknown, a key is missing, or sizes make no sense together.
    pub async fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let metadata = &checkpoint.metadata;
        let name = metadata.get_str("general.architecture")?;
        let name = name.ok_or_else(|| Error::Format("the file does not say its general.architecture".into()))?;
        let arch = *Arch::find(name)?;
        let keys = Keys { metadata, arch: arch.name };
        let heads = keys.size("attention.head_count", 1 << 12)?;
        let width = keys.size("embedding_length", 1 << 20)?;
        let embedding = checkpoint.tensor("token_embd.weight")?;
        let vocab = u32::try_from(embedding.rows()).unwrap_or(0);
        let head_dim = keys.size_or("attention.key_length", width / heads, 1 << 12)?;
        let config = Config {
            arch,
            layers: keys.size("block_count", 1 << 12)?,
            width,
            heads,
            kv_heads: keys.size_or("attention.head_count_kv", heads, 1 << 12)?,
            head_dim,
            vocab: in_range("the vocabulary", vocab, 1 << 24)?,
            context: keys.size_or("context_length", 2048, 1 << 30)?,
            window: keys.u32("attention.sliding_window")?.filter(|window| *window > 0),
            eps: keys.f32("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope: RopeConfig::read(&keys, checkpoint, head_dim).await?,
            experts: Experts::read(&keys)?,
        };
        config.check(&keys)?;
        Ok(config)
    }

    fn check(&self, keys: &Keys) -> Result<()> {
        let fail = |what: String| Err(Error::Unsupported(format!("this model cannot run: {what}")));
        let value_dim = keys.size_or("attention.value_length", self.head_dim, 1 << 12)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return fail(format!("{} query heads do not divide by {} kv heads", self.heads, self.kv_heads));
        }
        if !self.width.is_multiple_of(4) || !self.head_dim.is_multiple_of(4) {
            return fail(format!("width {} or head size {} is no multiple of 4", self.width, self.head_dim));
        }
        if self.head_dim > 256 || value_dim != self.head_dim {
            return fail(format!("heads of {} keys and {value_dim} values", self.head_dim));
        }
        if !self.eps.is_finite() || self.eps < 0.0 {
            return fail(format!("a norm epsilon of {}", self.eps));
        }
        Ok(())
    }
}

impl Experts {
    fn read(keys: &Keys) -> Result<Option<Self>> {
        let Some(count) = keys.u32("expert_count")?.filter(|n| *n > 0) else { return Ok(None) };
        let count = in_range(&keys.path("expert_count"), count, 512)?;
        let used = in_range(&keys.path("expert_used_count"), keys.u32("expert_used_count")?.unwrap_or(0), count)?;
        Ok(Some(Experts { count, used }))
    }
}

impl RopeConfig {
    async fn read(keys: &Keys<'_>, checkpoint: &Checkpoint, head_dim: u32) -> Result<Self> {
        let rotated = keys.size_or("rope.dimension_count", head_dim, head_dim)?;
        let base = f64::from(keys.f32("rope.freq_base")?.unwrap_or(10000.0));
        if rotated % 2 != 0 || !(base.is_finite() && base > 1.0) {
            return Err(Error::Format(format!("rotary embedding of {rotated} values with base {base}")));
        }
        let pairing = match keys.str("rope.pairing")? {
            Some("halves") => Pairing::Halves,
            _ => Arch::find(keys.arch)?.pairing,
        };
        let pairs = rotated / 2;
        let mut frequencies: Vec<f64> =
            (0..pairs).map(|i| base.powf(-2.0 * f64::from(i) / f64::from(rotated))).collect();
        let factors = factors(keys, checkpoint, pairs).await?;
        for (frequency, factor) in frequencies.iter_mut().zip(factors) {
            *frequency /= f64::from(factor);
        }
        let factor = keys.f32("rope.scaling.factor")?.or(keys.f32("rope.scale_linear")?).unwrap_or(1.0);
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::Format(format!("{} is {factor}", keys.path("rope.scaling.factor"))));
        }
        let scale = match keys.str("rope.scaling.type")?.unwrap_or("none") {
            "yarn" => yarn(keys, &mut frequencies, base, f64::from(factor))?,
            "none" | "linear" => {
                frequencies.iter_mut().for_each(|f| *f /= f64::from(factor));
                1.0
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "the rotary scaling {other:?} is not supported; supported are linear, yarn and factors in a tensor"
                )));
            }
        };
        Ok(RopeConfig { pairing, frequencies, scale })
    }
}

/// Divisors of the frequencies (Llama 3.1): a tensor in GGUF, a key that our own reader makes of HF folders.
async fn factors(keys: &Keys<'_>, checkpoint: &Checkpoint, pairs: u32) -> Result<Vec<f32>> {
    let factors = match checkpoint.tensors.get("rope_freqs.weight") {
        Some(tensor) => super::load::read_vector(checkpoint, tensor, pairs).await?,
        None => keys.metadata.get_f32s(&keys.path("rope.freq_factors"))?.unwrap_or_default(),
    };
    if factors.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
        return Err(Error::Format("a factor of the rotary frequencies is not positive".into()));
    }
    Ok(factors)
}

/// YaRN (arXiv 2309.00071, section 3.2): high frequencies stay, low ones are divided by `factor`, those between are
/// mixed. Returns the multiplier of rotated values.
fn yarn(keys: &Keys, frequencies: &mut [f64], base: f64, factor: f64) -> Result<f32> {
    let original = keys.u32("rope.scaling.original_context_length")?.or(keys.u32("context_length")?).unwrap_or(2048);
    let beta = |name: &str, default: f32| -> Result<f64> { Ok(f64::from(keys.f32(name)?.unwrap_or(default))) };
    let (fast, slow) = (beta("rope.scaling.yarn_beta_fast", 32.0)?, beta("rope.scaling.yarn_beta_slow", 1.0)?);
    let dims = 2.0 * frequencies.len() as f64;
    // The pair that turns `rotations` times within the original context.
    let pair =
        |rotations: f64| dims * (f64::from(original) / (rotations * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
    let low = pair(fast).floor().max(0.0);
    let high = pair(slow).ceil().min(dims - 1.0).max(low + 0.001);
    for (i, frequency) in frequencies.iter_mut().enumerate() {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
    }
    let attention = keys.f32("rope.scaling.attn_factor")?.unwrap_or(1.0);
    Ok(attention * (0.1 * factor.ln() + 1.0) as f32)
}
