//! A model's sizes, read from GGUF keys and from which tensors exist, and checked: nothing behind this may panic on
//! what a file says.

mod latent;

pub use latent::Latent;

use super::arch::Arch;
use super::unknown;
use crate::checkpoint::{Checkpoint, Metadata, Value};
use crate::ops::attention::{LONGEST_HEAD, Reach, Temperature};
use crate::ops::delta_net::DeltaNet;
use crate::ops::experts::Scoring;
use crate::ops::rope::Pairing;
use crate::{Error, Result};

/// A model's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The architecture's row.
    pub arch: Arch,
    /// Layers.
    pub layers: Vec<Layer>,
    /// Width of the residual stream.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Positions that the model was trained for.
    pub context: u32,
    /// Added under the root of each norm.
    pub eps: f32,
    /// Added to the weights of norms: our own reader of HF folders says so of Gemma's.
    pub norm_plus: f32,
    /// Rotary embeddings; a layer says which is its own.
    pub ropes: Vec<RopeConfig>,
    /// Heads of q and k are normed without a weight once they are rotated.
    pub norm_rotated: bool,
    /// Multipliers and bounds that few models have.
    pub scales: Scales,
    /// Mixture of experts, if the model is one.
    pub experts: Option<Experts>,
    /// The sizes of layers with a gated delta net, if there are such.
    pub delta: Option<DeltaConfig>,
    /// The sizes of attention over latent keys, if it is such.
    pub latent: Option<Latent>,
}

/// What may differ between layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Which positions a query sees.
    pub reach: Reach,
    /// Which of the model's rotary embeddings; none for some.
    pub rope: Option<usize>,
    /// How scores grow with the position.
    pub temperature: Option<Temperature>,
    /// Key and value heads; 0 in some layers without attention.
    pub kv_heads: u32,
    /// Values of a head.
    pub head_dim: u32,
    /// The earlier layer whose keys and values it reads, if it has none of its own.
    pub shares: Option<u32>,
}

/// Multipliers and bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Of embeddings.
    pub embedding: f32,
    /// Of what a block adds to the residual stream.
    pub residual: f32,
    /// Of attention scores.
    pub attention: f32,
    /// Of logits.
    pub logits: f32,
    /// Bound of attention scores.
    pub attention_cap: Option<f32>,
    /// Bound of logits.
    pub logits_cap: Option<f32>,
}

/// Rotary embedding: which values rotate, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Which values of a head form pairs.
    pub pairing: Pairing,
    /// Radians a position, for each pair.
    pub frequencies: Vec<f64>,
    /// Those of contexts of more positions than this (LongRoPE).
    pub long: Option<(u32, Vec<f64>)>,
    /// Multiplier of rotated values (YaRN, LongRoPE).
    pub scale: f32,
}

/// Mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: u32,
    /// How many a token goes to.
    pub used: u32,
    /// How their logits become scores, as far as a key says it.
    pub scoring: Option<Scoring>,
    /// Their weights are made to sum to 1.
    pub norm: bool,
    /// Multiplier of their weights.
    pub scale: f32,
    /// How many groups they are in, if in several, and how many of those a token's experts come from.
    pub groups: Option<(u32, u32)>,
}

/// Sizes of a gated delta net.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeltaConfig {
    /// Rows that its short convolution sees.
    pub taps: u32,
    /// What it keeps; how its rates are given is told by the tensors.
    pub net: DeltaNet,
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

    /// An array of truth values; nothing if the key holds no array.
    fn bools(&self, name: &str) -> Result<Option<Vec<bool>>> {
        let path = self.path(name);
        match self.metadata.get(&path) {
            Some(Value::Array(_)) => self.metadata.get_bools(&path),
            _ => Ok(None),
        }
    }

    fn finite(&self, name: &str) -> Result<Option<f32>> {
        let value = self.f32(name)?;
        match value {
            Some(value) if !value.is_finite() => Err(Error::Format(format!("{} is {value}", self.path(name)))),
            _ => Ok(value),
        }
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

    /// The same of each layer, of what may be an array, in which layers that have no such thing say 0.
    fn sizes_or(&self, name: &str, default: u32, max: u32, blocks: u32) -> Result<Vec<u32>> {
        let path = self.path(name);
        let mut sizes = self.metadata.get_u32s(&path)?.unwrap_or(vec![default]);
        if sizes.len() == 1 {
            sizes = vec![in_range(&path, sizes[0], max)?; blocks as usize];
        }
        if sizes.len() < blocks as usize {
            return Err(Error::Format(format!("{path} has {} entries for {blocks} layers", sizes.len())));
        }
        for size in sizes.iter().filter(|size| **size > 0) {
            in_range(&path, *size, max)?;
        }
        Ok(sizes)
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
        let arch = *Arch::find(name).map_err(|error| match unknown::describe(&unknown::unknown(checkpoint)) {
            said if said.is_empty() => error,
            said => Error::Unsupported(format!("{error}; {said}")),
        })?;
        let keys = Keys { metadata, arch: arch.name };
        let heads = keys.size("attention.head_count", 1 << 12)?;
        let width = keys.size("embedding_length", 1 << 20)?;
        let embedding = checkpoint.tensor("token_embd.weight")?;
        let vocab = u32::try_from(embedding.rows()).unwrap_or(0);
        let latent = Latent::read(&keys)?;
        let [head_dim, local_head_dim] = match &latent {
            Some(latent) => [latent.rank + latent.rotated; 2],
            None => head_dims(&keys, width / heads)?,
        };
        // What predicts several tokens at once stands behind the layers, counts as some, and is not run.
        let ahead = keys.u32("nextn_predict_layers")?.unwrap_or(0);
        let blocks = keys.size("block_count", 1 << 12)?;
        let blocks = in_range(&keys.path("block_count"), blocks.saturating_sub(ahead), blocks)?;
        let context = keys.size_or("context_length", 2048, 1 << 30)?;
        let experts = Experts::read(&keys, &arch)?;
        let locality = Locality::read(&keys, &arch, blocks)?;
        let base = keys.f32("rope.freq_base")?.unwrap_or(10000.0);
        let local_base = keys.f32("rope.freq_base_swa")?.or(arch.local.base).unwrap_or(base);
        let rotated = keys.u32("rope.dimension_count")?;
        let mut ropes = vec![RopeConfig::read(&keys, checkpoint, rotated.unwrap_or(head_dim), base, true).await?];
        if locality.any() && (local_base != base || local_head_dim != head_dim || !arch.local.stretched) {
            let rotated = keys.u32("rope.dimension_count_swa")?.or(rotated).unwrap_or(local_head_dim);
            ropes.push(RopeConfig::read(&keys, checkpoint, rotated, local_base, arch.local.stretched).await?);
        }
        let kv_heads = match latent {
            Some(_) => vec![1; blocks as usize],
            None => keys.sizes_or("attention.head_count_kv", heads, 1 << 12, blocks)?,
        };
        let kinds = [(head_dim, 0), (local_head_dim, ropes.len() - 1)];
        let mut layers = layers(&keys, &arch, &locality, &kv_heads, kinds)?;
        share(&mut layers, keys.u32("attention.shared_kv_layers")?.unwrap_or(0))?;
        let config = Config {
            arch,
            layers,
            width,
            heads,
            vocab: in_range("the vocabulary", vocab, 1 << 24)?,
            context,
            eps: keys
                .f32("attention.layer_norm_rms_epsilon")?
                .or(keys.f32("attention.layer_norm_epsilon")?)
                .unwrap_or(1e-5),
            norm_plus: keys.finite("norm_plus")?.unwrap_or(0.0),
            ropes,
            // Llama 4 Maverick, known by its experts, has no such norm, and no key says so.
            norm_rotated: arch.norm_rotated && experts.is_none_or(|e| e.count != 128),
            scales: Scales::read(
                &keys,
                &arch,
                (blocks, width, heads, latent.map_or(head_dim, |l| l.plain + l.rotated)),
            )?,
            experts,
            delta: DeltaConfig::read(&keys, &arch)?,
            latent,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Unsupported(format!("this model cannot run: {what}")));
        for (layer, rope) in self.layers.iter().map(|layer| (layer, layer.rope.map(|which| &self.ropes[which]))) {
            let Layer { kv_heads, head_dim, .. } = *layer;
            if kv_heads > 0 && !self.heads.is_multiple_of(kv_heads) {
                return fail(format!("{} query heads do not divide by {kv_heads} kv heads", self.heads));
            }
            if !self.width.is_multiple_of(4) || !head_dim.is_multiple_of(4) {
                return fail(format!("width {} or head size {head_dim} is no multiple of 4", self.width));
            }
            if head_dim > LONGEST_HEAD {
                return fail(format!("heads of {head_dim} values"));
            }
            if let Some(rotated) = rope.map(|rope| 2 * rope.frequencies.len()).filter(|n| *n > head_dim as usize) {
                return fail(format!("{rotated} values rotate of heads of {head_dim}"));
            }
        }
        if let Some(latent) = self.latent {
            let alike = self.ropes.iter().all(|rope| 2 * rope.frequencies.len() == latent.rotated as usize);
            if self.heads == 1 || !alike {
                return fail("latent keys of one head, or with several rotations".into());
            }
        }
        if !self.eps.is_finite() || self.eps < 0.0 {
            return fail(format!("a norm epsilon of {}", self.eps));
        }
        Ok(())
    }
}

/// Values of a head in layers that see everything, and in those that see a part.
fn head_dims(keys: &Keys, usual: u32) -> Result<[u32; 2]> {
    let key = keys.size_or("attention.key_length", usual, 1 << 12)?;
    let local_key = keys.size_or("attention.key_length_swa", key, 1 << 12)?;
    let value = keys.size_or("attention.value_length", key, 1 << 12)?;
    let local_value = keys.size_or("attention.value_length_swa", local_key, 1 << 12)?;
    if [key, local_key] != [value, local_value] {
        let sizes = format!("{key} or {local_key} keys and {value} or {local_value} values");
        return Err(Error::Unsupported(format!("this model cannot run: heads of {sizes}")));
    }
    Ok([key, local_key])
}

/// Lets the last `count` layers read the keys and values of the last one before them that sees as much.
fn share(layers: &mut [Layer], count: u32) -> Result<()> {
    let own = layers.len().saturating_sub(count as usize);
    for n in own..layers.len() {
        let alike = layers[..own].iter().rposition(|layer| layer.reach == layers[n].reach);
        let alike = alike.ok_or_else(|| Error::Format(format!("layer {n} shares keys and values with no other")))?;
        let Layer { kv_heads, head_dim, .. } = layers[alike];
        layers[n] = Layer { shares: Some(alike as u32), kv_heads, head_dim, ..layers[n] };
    }
    Ok(())
}

impl Experts {
    fn read(keys: &Keys, arch: &Arch) -> Result<Option<Self>> {
        let Some(count) = keys.u32("expert_count")?.filter(|n| *n > 0) else { return Ok(None) };
        let count = in_range(&keys.path("expert_count"), count, 512)?;
        let used = in_range(&keys.path("expert_used_count"), keys.u32("expert_used_count")?.unwrap_or(0), count)?;
        let scoring = match keys.u32("expert_gating_func")?.unwrap_or(0) {
            0 => None,
            1 => Some(Scoring::Softmax),
            2 => Some(Scoring::Sigmoid),
            other => return Err(Error::Unsupported(format!("this model cannot run: a router's function {other}"))),
        };
        let norm = keys.metadata.get_bool(&keys.path("expert_weights_norm"))?.unwrap_or(arch.shares_sum_to_1);
        let scale = keys.finite("expert_weights_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0);
        let groups = match keys.u32("expert_group_count")?.unwrap_or(1) {
            0 | 1 => None,
            groups => {
                let of = keys.size("expert_group_used_count", groups)?;
                let (even, each) = (count.is_multiple_of(groups), count / groups);
                if !even || each < 2 || used > of * each {
                    let sizes = format!("{used} of {count} experts from {of} of {groups} groups");
                    return Err(Error::Unsupported(format!("this model cannot run: {sizes}")));
                }
                Some((groups, of))
            }
        };
        Ok(Some(Experts { count, used, scoring, norm, scale, groups }))
    }
}

impl DeltaConfig {
    fn read(keys: &Keys, arch: &Arch) -> Result<Option<Self>> {
        if keys.u32("ssm.state_size")?.is_none() {
            return Ok(None);
        }
        let head_dim = keys.size("ssm.state_size", 256)?;
        let (key_heads, heads) = (keys.size("ssm.group_count", 1 << 8)?, keys.size("ssm.time_step_rank", 1 << 8)?);
        let (inner, taps) = (keys.size("ssm.inner_size", 1 << 16)?, keys.size("ssm.conv_kernel", 8)?);
        let possible = head_dim.is_multiple_of(4) && heads.is_multiple_of(key_heads) && taps > 1;
        if !possible || inner != heads * head_dim {
            let sizes = format!("{heads} heads over {key_heads} of {head_dim} values, {inner} in all, {taps} taps");
            return Err(Error::Unsupported(format!("this model cannot run: a delta net of {sizes}")));
        }
        let grouped = keys.metadata.get_bool(&keys.path("ssm.grouped_heads"))?.unwrap_or(arch.grouped_heads);
        let net = DeltaNet { key_heads, heads, head_dim, grouped, fused: false, log_rates: false };
        Ok(Some(DeltaConfig { taps, net }))
    }
}

/// Which layers see a part of the context only, and what they see.
struct Locality {
    reach: Reach,
    is_local: Vec<bool>,
}

impl Locality {
    fn read(keys: &Keys, arch: &Arch, blocks: u32) -> Result<Self> {
        let span = keys.u32("attention.sliding_window")?.unwrap_or(arch.local.span);
        let pattern = "attention.sliding_window_pattern";
        let is_local = match keys.bools(pattern)? {
            Some(layers) if layers.len() == blocks as usize => layers,
            Some(layers) => {
                let (path, have) = (keys.path(pattern), layers.len());
                return Err(Error::Format(format!("{path} has {have} entries for {blocks} layers")));
            }
            None => {
                let every = keys.u32(pattern)?.unwrap_or(arch.local.every);
                (1..=blocks).map(|n| !n.is_multiple_of(every)).collect()
            }
        };
        let reach = match (span, arch.local.chunked) {
            (0, _) => Reach::All,
            (span, true) => Reach::Chunk(span),
            (span, false) => Reach::Window(span),
        };
        Ok(Locality { reach, is_local })
    }

    fn any(&self) -> bool {
        self.reach != Reach::All && self.is_local.contains(&true)
    }
}

/// What each layer does, by its heads of keys and values; `kinds` are head size and rotary embedding of those that see
/// everything, and of those that see a part.
fn layers(
    keys: &Keys,
    arch: &Arch,
    locality: &Locality,
    kv_heads: &[u32],
    kinds: [(u32, usize); 2],
) -> Result<Vec<Layer>> {
    let rate = keys.finite("attention.temperature_scale")?;
    let after = keys.u32("attention.temperature_length")?;
    let original = || keys.u32("rope.scaling.original_context_length");
    let temperature = match (arch.tempered_after, rate.filter(|rate| *rate != 0.0)) {
        (Some(every), rate) => Some(Temperature { every: after.unwrap_or(every), rate: rate.unwrap_or(0.1), ahead: 1 }),
        (None, Some(rate)) => {
            let every = after.map_or_else(original, |n| Ok(Some(n)))?;
            let path = keys.path("rope.scaling.original_context_length");
            let every = every.ok_or_else(|| Error::Format(format!("the file lacks the key {path}")))?;
            Some(Temperature { every, rate, ahead: 0 })
        }
        (None, None) => None,
    };
    if temperature.is_some_and(|t| t.every == 0) {
        return Err(Error::Format("attention scores that grow every 0 positions".into()));
    }
    let layer = |(n, kv_heads): (u32, &u32)| {
        let local = locality.any() && locality.is_local[n as usize];
        let (head_dim, rope) = kinds[usize::from(local)];
        // Llama 4's small relatives see everything and rotate everywhere.
        let sees_all = arch.local.chunked && !locality.any();
        let rotated = sees_all || !(n + 1).is_multiple_of(arch.unrotated_every);
        Layer {
            reach: if local { locality.reach } else { Reach::All },
            rope: rotated.then_some(rope),
            temperature: temperature.filter(|_| arch.tempered_after.is_none() || !rotated),
            kv_heads: *kv_heads,
            head_dim,
            shares: None,
        }
    };
    Ok((0..).zip(kv_heads).map(layer).collect())
}

impl Scales {
    fn read(keys: &Keys, arch: &Arch, (blocks, width, heads, head_dim): (u32, u32, u32, u32)) -> Result<Self> {
        // Some files write 0 for what they do not have.
        let read = |name: &str| Ok::<_, Error>(keys.finite(name)?.filter(|value| *value != 0.0));
        let per = if arch.wide_scale.contains(&blocks) { width / heads } else { head_dim };
        let usual = if arch.unscaled { 1.0 } else { 1.0 / (per as f32).sqrt() };
        let root = if arch.embed_by_root { (width as f32).sqrt() } else { 1.0 };
        Ok(Scales {
            embedding: read("embedding_scale")?.unwrap_or(root),
            residual: read("residual_scale")?.unwrap_or(1.0),
            attention: read("attention.scale")?.unwrap_or(usual) * latent::yarn_of_scores(keys)?,
            logits: 1.0 / read("logit_scale")?.unwrap_or(1.0),
            attention_cap: read("attn_logit_softcapping")?.map(f32::abs),
            logits_cap: read("final_logit_softcapping")?.map(f32::abs),
        })
    }
}

impl RopeConfig {
    /// For `rotated` values of a head, with this base; `stretched` as the file says, or as without any scaling.
    async fn read(keys: &Keys<'_>, checkpoint: &Checkpoint, rotated: u32, base: f32, stretched: bool) -> Result<Self> {
        let base = f64::from(base);
        if rotated == 0 || !rotated.is_multiple_of(2) || rotated > LONGEST_HEAD || !(base.is_finite() && base > 1.0) {
            return Err(Error::Format(format!("rotary embedding of {rotated} values with base {base}")));
        }
        let pairing = match keys.str("rope.pairing")? {
            Some("halves") => Pairing::Halves,
            _ => Arch::find(keys.arch)?.pairing,
        };
        let pairs = rotated / 2;
        // The head's definition (arXiv 2104.09864).
        let frequencies = (0..pairs).map(|i| base.powf(-2.0 * f64::from(i) / f64::from(rotated))).collect();
        let plain = RopeConfig { pairing, frequencies, long: None, scale: 1.0 };
        if stretched { plain.stretch(keys, base, factors(keys, checkpoint, pairs).await?) } else { Ok(plain) }
    }

    /// Stretched as the file says, by factors for short and long contexts and by a rule.
    fn stretch(self, keys: &Keys, base: f64, [short, long]: [Vec<f32>; 2]) -> Result<Self> {
        let mut frequencies = divided(&self.frequencies, &short);
        let long = match (long.is_empty(), keys.u32("rope.scaling.original_context_length")?) {
            (false, Some(beyond)) => Some((beyond, divided(&self.frequencies, &long))),
            _ => None,
        };
        let attention = keys.finite("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let factor = keys.f32("rope.scaling.factor")?.or(keys.f32("rope.scale_linear")?).unwrap_or(1.0);
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::Format(format!("{} is {factor}", keys.path("rope.scaling.factor"))));
        }
        let scale = match keys.str("rope.scaling.type")?.unwrap_or("none") {
            "yarn" => attention * yarn(keys, &mut frequencies, base, f64::from(factor))?,
            "longrope" => attention,
            "none" | "linear" => {
                frequencies.iter_mut().for_each(|f| *f /= f64::from(factor));
                1.0
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "the rotary scaling {other:?} is not supported; supported are linear, yarn, longrope and factors in a tensor"
                )));
            }
        };
        Ok(RopeConfig { frequencies, long, scale, ..self })
    }

    /// The frequencies for a context of so many positions.
    pub fn frequencies_for(&self, context: u32) -> &[f64] {
        match &self.long {
            Some((beyond, long)) if context > *beyond => long,
            _ => &self.frequencies,
        }
    }
}

fn divided(frequencies: &[f64], factors: &[f32]) -> Vec<f64> {
    let factors = factors.iter().copied().chain(std::iter::repeat(1.0));
    frequencies.iter().zip(factors).map(|(frequency, factor)| frequency / f64::from(factor)).collect()
}

/// Divisors of the frequencies (Llama 3.1; LongRoPE has others for long contexts): tensors in GGUF, a key that our own
/// reader makes of HF folders.
async fn factors(keys: &Keys<'_>, checkpoint: &Checkpoint, pairs: u32) -> Result<[Vec<f32>; 2]> {
    let names = [["rope_freqs.weight", "rope_factors_short.weight"], ["rope_factors_long.weight", ""]];
    let keyed = ["rope.freq_factors", "rope.freq_factors_long"];
    let mut out = [Vec::new(), Vec::new()];
    for ((names, key), out) in names.into_iter().zip(keyed).zip(&mut out) {
        *out = match names.iter().find_map(|name| checkpoint.tensors.get(*name)) {
            Some(tensor) => super::load::read_vector(checkpoint, tensor, pairs).await?,
            None => keys.metadata.get_f32s(&keys.path(key))?.unwrap_or_default(),
        };
        if out.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
            return Err(Error::Format("a factor of the rotary frequencies is not positive".into()));
        }
    }
    Ok(out)
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
    let rounds = Arch::find(keys.arch)?.yarn_rounds;
    let (low, high) = (pair(fast), pair(slow));
    let (low, high) = if rounds { (low.floor(), high.ceil()) } else { (low, high) };
    let low = low.max(0.0);
    let high = high.min(dims - 1.0).max(low + 0.001);
    for (i, frequency) in frequencies.iter_mut().enumerate() {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
    }
    // Files of models whose own formula differs (DeepSeek, Mistral 3) say by how much.
    let usual = |multiplier: f64| 0.1 * multiplier * factor.max(1.0).ln() + 1.0;
    let latent = latent::are_latent(keys)?;
    let whole = keys.finite("rope.scaling.yarn_attn_factor")?.map_or(1.0, f64::from)
        * match keys.finite("rope.scaling.yarn_log_multiplier")?.filter(|m| *m != 0.0) {
            Some(_) if latent => 1.0,
            Some(all) => usual(1.0) / usual(f64::from(all)),
            None => usual(1.0),
        };
    Ok(whole as f32)
}
