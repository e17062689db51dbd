//! A model's hyperparameters, read from the file's keys and tensors and checked, so that later code cannot panic on a
//! bad file.

mod mla;
mod rope;

pub use mla::MlaConfig;
pub use rope::RopeConfig;

use super::arch::Arch;
use super::{purpose, unknown};
use crate::checkpoint::{Checkpoint, GgufArray, GgufValue, Metadata};
use crate::ops::attention::{AttentionTemperature, MAX_HEAD_DIM, MaskKind};
use crate::ops::delta_net::DeltaNet;
use crate::ops::experts::Scoring;
use crate::{Error, Result};

/// A model's hyperparameters.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The architecture's row.
    pub arch: Arch,
    /// Layers.
    pub layers: Vec<LayerSpec>,
    /// Size of the residual stream (n_embd).
    pub hidden_size: u32,
    /// Query heads.
    pub heads: u32,
    /// Tokens in the vocabulary.
    pub vocab_size: u32,
    /// Positions that the model was trained for.
    pub context_length: u32,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Added to norm weights: Hugging Face folders store Gemma's weights minus one.
    pub norm_weight_offset: f32,
    /// Rotary embeddings; a layer refers to one by index.
    pub ropes: Vec<RopeConfig>,
    /// Query and key heads get an RMSNorm without a weight after RoPE (Llama 4).
    pub qk_norm_after_rope: bool,
    /// Multipliers and softcaps.
    pub scales: Scales,
    /// Mixture of experts, if the model has one.
    pub moe: Option<MoeConfig>,
    /// Sizes of gated delta net layers, if there are any.
    pub delta_net: Option<DeltaNetConfig>,
    /// Sizes of multi-head latent attention (MLA), if the model uses it.
    pub mla: Option<MlaConfig>,
}

/// Settings that may differ between layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSpec {
    /// Which positions a query attends to.
    pub reach: MaskKind,
    /// Index into the model's rotary embeddings; `None` without RoPE (NoPE).
    pub rope: Option<usize>,
    /// How attention scores grow with the position (Llama 4).
    pub temperature: Option<AttentionTemperature>,
    /// Key-value heads; 0 in some layers without attention.
    pub kv_heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// The earlier layer whose KV cache it reads, if it has none of its own.
    pub kv_from: Option<u32>,
}

/// Multipliers and softcaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Of embeddings.
    pub embedding: f32,
    /// Of what each block adds to the residual stream.
    pub residual: f32,
    /// Of attention scores.
    pub attention: f32,
    /// Of logits.
    pub logits: f32,
    /// Softcap of attention scores.
    pub attention_softcap: Option<f32>,
    /// Softcap of logits.
    pub logit_softcap: Option<f32>,
}

/// Mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoeConfig {
    /// Routed experts of a layer.
    pub expert_count: u32,
    /// Experts per token.
    pub experts_per_token: u32,
    /// The router's scoring function, if a key gives it.
    pub scoring: Option<Scoring>,
    /// Normalize the weights of a token's experts to sum to 1.
    pub norm_topk_prob: bool,
    /// Multiplier of the experts' weights.
    pub routed_scaling_factor: f32,
    /// Number of expert groups and of the groups a token's experts come from, if there are several groups.
    pub groups: Option<(u32, u32)>,
}

/// Sizes of a gated delta net.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeltaNetConfig {
    /// Kernel size of its short convolution.
    pub conv_kernel: u32,
    /// Heads of its state; whether its rates are fused or logarithmic depends on the tensors.
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
        let path = self.path(name);
        match self.metadata.get(&path) {
            Some(GgufValue::Array(_)) => {
                self.metadata.get_u32s(&path)?.map(|values| common(&path, &values)).transpose()
            }
            _ => self.metadata.get_u32(&path),
        }
    }

    fn f32(&self, name: &str) -> Result<Option<f32>> {
        let path = self.path(name);
        match self.metadata.get(&path) {
            Some(GgufValue::Array(_)) => {
                self.metadata.get_f32s(&path)?.map(|values| common(&path, &values)).transpose()
            }
            _ => self.metadata.get_f32(&path),
        }
    }

    fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.metadata.get_bool(&self.path(name))
    }

    /// A flag for each layer (some files store 0 and 1); `None` if the key holds a single number.
    fn flags(&self, name: &str) -> Result<Option<Vec<bool>>> {
        let path = self.path(name);
        match self.metadata.get(&path) {
            Some(GgufValue::Array(GgufArray::Bool(flags))) => Ok(Some(flags.clone())),
            Some(GgufValue::Array(_)) => {
                Ok(self.metadata.get_u32s(&path)?.map(|flags| flags.iter().map(|flag| *flag != 0).collect()))
            }
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

    /// A required size between 1 and `max`.
    fn size(&self, name: &str, max: u32) -> Result<u32> {
        let path = self.path(name);
        let value = self.u32(name)?.ok_or_else(|| Error::Format(format!("the file lacks the key {path}")))?;
        in_range(&path, value, max)
    }

    /// A size for each layer: from an array, in which 0 means that the layer has none, or one value for all layers.
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

/// The value that all layers of an array share; 0 means that a layer has none.
fn common<T: Copy + Default + PartialEq + std::fmt::Display>(key: &str, values: &[T]) -> Result<T> {
    let mut said = values.iter().copied().filter(|value| *value != T::default());
    let first = said.next().unwrap_or_default();
    match said.find(|value| *value != first) {
        None => Ok(first),
        Some(other) => Err(Error::Unsupported(format!("{key} is {first} in one layer and {other} in another"))),
    }
}

fn in_range(key: &str, value: u32, max: u32) -> Result<u32> {
    if value == 0 || value > max {
        return Err(Error::Format(format!("{key} is {value}, which is not between 1 and {max}")));
    }
    Ok(value)
}

impl ModelSpec {
    /// Reads a checkpoint's hyperparameters. Async, because rotary frequencies can be in a tensor.
    ///
    /// # Errors
    /// If the file holds no language model ([`purpose`]), the architecture is unknown, a key is missing, or sizes
    /// contradict each other.
    pub async fn read(checkpoint: &Checkpoint) -> Result<Self> {
        purpose::check(checkpoint)?;
        let metadata = &checkpoint.metadata;
        let name = metadata.get_str("general.architecture")?;
        let name = name.ok_or_else(|| Error::Format("the file does not say its general.architecture".into()))?;
        let arch = *Arch::find(name).map_err(|error| match unknown::describe(&unknown::unknown(checkpoint)) {
            said if said.is_empty() => error,
            said => Error::Unsupported(format!("{error}; {said}")),
        })?;
        let keys = Keys { metadata, arch: arch.name };
        let heads = keys.size("attention.head_count", 1 << 12)?;
        let hidden_size = keys.size("embedding_length", 1 << 20)?;
        let embedding = checkpoint.tensor("token_embd.weight")?;
        let vocab_size = u32::try_from(embedding.rows()).unwrap_or(0);
        let mla = MlaConfig::read(&keys)?;
        let [head_dim, local_head_dim] = match &mla {
            Some(mla) => [mla.kv_lora_rank + mla.qk_rope_head_dim; 2],
            None => head_dims(&keys, hidden_size / heads)?,
        };
        // Multi-token-prediction (MTP) layers come last, are included in block_count, and are skipped.
        let ahead = keys.u32("nextn_predict_layers")?.unwrap_or(0);
        let blocks = keys.size("block_count", 1 << 12)?;
        let blocks = in_range(&keys.path("block_count"), blocks.saturating_sub(ahead), blocks)?;
        let context_length = keys.size_or("context_length", 2048, 1 << 30)?;
        let moe = MoeConfig::read(&keys, &arch)?;
        let locality = Locality::read(&keys, &arch, blocks)?;
        let base = keys.f32("rope.freq_base")?.unwrap_or(10000.0);
        let local_base = keys.f32("rope.freq_base_swa")?.or(arch.local.rope_base).unwrap_or(base);
        let rotated = keys.u32("rope.dimension_count")?;
        let mut ropes = vec![RopeConfig::read(&keys, checkpoint, rotated.unwrap_or(head_dim), base, true).await?];
        if locality.any() && (local_base != base || local_head_dim != head_dim || !arch.local.rope_scaling) {
            let rotated = keys.u32("rope.dimension_count_swa")?.or(rotated).unwrap_or(local_head_dim);
            ropes.push(RopeConfig::read(&keys, checkpoint, rotated, local_base, arch.local.rope_scaling).await?);
        }
        let kv_heads = match mla {
            Some(_) => vec![1; blocks as usize],
            None => keys.sizes_or("attention.head_count_kv", heads, 1 << 12, blocks)?,
        };
        let kinds = [(head_dim, 0), (local_head_dim, ropes.len() - 1)];
        let mut layers = layers(&keys, &arch, &locality, &kv_heads, kinds)?;
        share_kv(&mut layers, keys.u32("attention.shared_kv_layers")?.unwrap_or(0))?;
        let spec = ModelSpec {
            arch,
            layers,
            hidden_size,
            heads,
            vocab_size: in_range("the vocabulary", vocab_size, 1 << 24)?,
            context_length,
            norm_eps: epsilon(&keys, checkpoint)?,
            norm_weight_offset: keys.finite("norm_plus")?.unwrap_or(0.0),
            ropes,
            // Llama 4 Maverick has no such norm; no key says so, but it has 128 experts.
            qk_norm_after_rope: arch.qk_norm_after_rope && moe.is_none_or(|moe| moe.expert_count != 128),
            scales: Scales::read(
                &keys,
                &arch,
                (blocks, hidden_size, heads, mla.map_or(head_dim, |mla| mla.qk_nope_head_dim + mla.qk_rope_head_dim)),
            )?,
            moe,
            delta_net: DeltaNetConfig::read(&keys, &arch, checkpoint)?,
            mla,
        };
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Unsupported(format!("this model cannot run: {what}")));
        for (layer, rope) in self.layers.iter().map(|layer| (layer, layer.rope.map(|which| &self.ropes[which]))) {
            let LayerSpec { kv_heads, head_dim, .. } = *layer;
            if kv_heads > 0 && !self.heads.is_multiple_of(kv_heads) {
                return fail(format!("{} query heads do not divide by {kv_heads} kv heads", self.heads));
            }
            if !self.hidden_size.is_multiple_of(4) || !head_dim.is_multiple_of(4) {
                return fail(format!("hidden_size {} or head size {head_dim} is no multiple of 4", self.hidden_size));
            }
            if head_dim > MAX_HEAD_DIM {
                return fail(format!("heads of {head_dim} values"));
            }
            if let Some(rotated) = rope.map(|rope| 2 * rope.frequencies.len()).filter(|n| *n > head_dim as usize) {
                return fail(format!("{rotated} values rotate of heads of {head_dim}"));
            }
        }
        if let Some(mla) = self.mla {
            let alike = self.ropes.iter().all(|rope| 2 * rope.frequencies.len() == mla.qk_rope_head_dim as usize);
            if self.heads == 1 || !alike {
                return fail("latent keys of one head, or with several rotations".into());
            }
        }
        if !self.norm_eps.is_finite() || self.norm_eps < 0.0 {
            return fail(format!("a norm epsilon of {}", self.norm_eps));
        }
        Ok(())
    }
}

/// The epsilon of norms. A file may have a key for either kind of norm; norms with a bias are layer norms.
fn epsilon(keys: &Keys, checkpoint: &Checkpoint) -> Result<f32> {
    let (rms, layer) = (keys.f32("attention.layer_norm_rms_epsilon")?, keys.f32("attention.layer_norm_epsilon")?);
    let are_layer_norms = checkpoint.tensors.contains_key("output_norm.bias");
    Ok(if are_layer_norms { layer.or(rms) } else { rms.or(layer) }.unwrap_or(1e-5))
}

/// Head sizes of global and of local layers.
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

/// Lets the last `count` layers read the KV cache of the last earlier layer with the same attention mask.
fn share_kv(layers: &mut [LayerSpec], count: u32) -> Result<()> {
    let own = layers.len().saturating_sub(count as usize);
    for n in own..layers.len() {
        let alike = layers[..own].iter().rposition(|layer| layer.reach == layers[n].reach);
        let alike = alike
            .ok_or_else(|| Error::Format(format!("layer {n} has no earlier layer to share keys and values with")))?;
        let LayerSpec { kv_heads, head_dim, .. } = layers[alike];
        layers[n] = LayerSpec { kv_from: Some(alike as u32), kv_heads, head_dim, ..layers[n] };
    }
    Ok(())
}

impl MoeConfig {
    fn read(keys: &Keys, arch: &Arch) -> Result<Option<Self>> {
        let Some(count) = keys.u32("expert_count")?.filter(|n| *n > 0) else { return Ok(None) };
        let count = in_range(&keys.path("expert_count"), count, 512)?;
        let used = in_range(&keys.path("expert_used_count"), keys.u32("expert_used_count")?.unwrap_or(0), count)?;
        let scoring = match keys.u32("expert_gating_func")?.unwrap_or(0) {
            0 => None,
            1 => Some(Scoring::Softmax),
            2 => Some(Scoring::Sigmoid),
            other => return Err(Error::Unsupported(format!("this model cannot run: expert gating function {other}"))),
        };
        let norm_topk_prob = keys.bool("expert_weights_norm")?.unwrap_or(arch.norm_topk_prob);
        let routed_scaling_factor = keys.finite("expert_weights_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0);
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
        Ok(Some(MoeConfig {
            expert_count: count,
            experts_per_token: used,
            scoring,
            norm_topk_prob,
            routed_scaling_factor,
            groups,
        }))
    }
}

impl DeltaNetConfig {
    fn read(keys: &Keys, arch: &Arch, checkpoint: &Checkpoint) -> Result<Option<Self>> {
        // Dense relatives of hybrid models have these keys, too (Granite 4).
        let has_such = checkpoint.tensors.keys().any(|name| name.contains(".ssm_"));
        if keys.u32("ssm.state_size")?.is_none() || !has_such {
            return Ok(None);
        }
        let head_dim = keys.size("ssm.state_size", 256)?;
        let (key_heads, heads) = (keys.size("ssm.group_count", 1 << 8)?, keys.size("ssm.time_step_rank", 1 << 8)?);
        let (inner, conv_kernel) = (keys.size("ssm.inner_size", 1 << 16)?, keys.size("ssm.conv_kernel", 8)?);
        let possible = head_dim.is_multiple_of(4) && heads.is_multiple_of(key_heads) && conv_kernel > 1;
        if !possible || inner != heads * head_dim {
            let sizes = format!(
                "{heads} heads over {key_heads} of {head_dim} values, {inner} in all, a convolution over {conv_kernel}"
            );
            return Err(Error::Unsupported(format!("this model cannot run: a delta net of {sizes}")));
        }
        let grouped = keys.bool("ssm.grouped_heads")?.unwrap_or(arch.grouped_v_heads);
        let net = DeltaNet { key_heads, heads, head_dim, grouped, fused: false, log_decay: false };
        Ok(Some(DeltaNetConfig { conv_kernel, net }))
    }
}

/// Which layers attend locally (sliding window or chunks), and over how many positions.
struct Locality {
    reach: MaskKind,
    is_local: Vec<bool>,
}

impl Locality {
    fn read(keys: &Keys, arch: &Arch, blocks: u32) -> Result<Self> {
        let span = keys.u32("attention.sliding_window")?.unwrap_or(arch.local.span);
        let pattern = "attention.sliding_window_pattern";
        let is_local = match keys.flags(pattern)? {
            // Multi-token-prediction layers may be counted.
            Some(layers) if layers.len() >= blocks as usize => layers,
            Some(layers) => {
                let (path, have) = (keys.path(pattern), layers.len());
                return Err(Error::Format(format!("{path} has {have} entries for {blocks} layers")));
            }
            None => {
                let every = keys.u32(pattern)?.unwrap_or(arch.local.global_interval);
                (1..=blocks).map(|n| !n.is_multiple_of(every)).collect()
            }
        };
        let reach = match (span, arch.local.chunked) {
            (0, _) => MaskKind::Causal,
            (span, true) => MaskKind::Chunked(span),
            (span, false) => MaskKind::SlidingWindow(span),
        };
        Ok(Locality { reach, is_local })
    }

    fn any(&self) -> bool {
        self.reach != MaskKind::Causal && self.is_local.contains(&true)
    }
}

/// The layers, given their key-value heads; `kinds` holds the head size and the rotary embedding of global and of local
/// layers.
fn layers(
    keys: &Keys,
    arch: &Arch,
    locality: &Locality,
    kv_heads: &[u32],
    kinds: [(u32, usize); 2],
) -> Result<Vec<LayerSpec>> {
    let rate = keys.finite("attention.temperature_scale")?;
    let after = keys.u32("attention.temperature_length")?;
    let original = || keys.u32("rope.scaling.original_context_length");
    let temperature = match (arch.attn_temperature_after, rate.filter(|rate| *rate != 0.0)) {
        (Some(every), rate) => Some(AttentionTemperature {
            floor_scale: after.unwrap_or(every),
            attn_scale: rate.unwrap_or(0.1),
            offset: 1,
        }),
        (None, Some(rate)) => {
            let every = after.map_or_else(original, |n| Ok(Some(n)))?;
            let path = keys.path("rope.scaling.original_context_length");
            let every = every.ok_or_else(|| Error::Format(format!("the file lacks the key {path}")))?;
            Some(AttentionTemperature { floor_scale: every, attn_scale: rate, offset: 0 })
        }
        (None, None) => None,
    };
    if temperature.is_some_and(|t| t.floor_scale == 0) {
        return Err(Error::Format("an attention temperature over 0 positions".into()));
    }
    let rotates = !arch.rope_if_finetuned || keys.bool("rope.scaling.finetuned")?.unwrap_or(true);
    let layer = |(n, kv_heads): (u32, &u32)| {
        let local = locality.any() && locality.is_local[n as usize];
        let (head_dim, rope) = kinds[usize::from(local)];
        // Llama 4's small relatives have neither chunks nor NoPE layers.
        let sees_all = arch.local.chunked && !locality.any();
        let rotated = rotates && (sees_all || !(n + 1).is_multiple_of(arch.nope_interval));
        LayerSpec {
            reach: if local { locality.reach } else { MaskKind::Causal },
            rope: rotated.then_some(rope),
            temperature: temperature.filter(|_| arch.attn_temperature_after.is_none() || !rotated),
            kv_heads: *kv_heads,
            head_dim,
            kv_from: None,
        }
    };
    Ok((0..).zip(kv_heads).map(layer).collect())
}

impl Scales {
    fn read(keys: &Keys, arch: &Arch, (blocks, hidden_size, heads, head_dim): (u32, u32, u32, u32)) -> Result<Self> {
        // Some files store 0 for "none".
        let read = |name: &str| Ok::<_, Error>(keys.finite(name)?.filter(|value| *value != 0.0));
        let cap = |name: &str, usual: Option<f32>| {
            Ok::<_, Error>(keys.finite(name)?.or(usual).map(f32::abs).filter(|value| *value != 0.0))
        };
        let per = if arch.query_pre_attn_hidden.contains(&blocks) { hidden_size / heads } else { head_dim };
        let usual = if arch.unscaled_attention { 1.0 } else { 1.0 / (per as f32).sqrt() };
        let root = if arch.scale_embeddings { (hidden_size as f32).sqrt() } else { 1.0 };
        Ok(Scales {
            embedding: read("embedding_scale")?.unwrap_or(root),
            residual: read("residual_scale")?.unwrap_or(1.0),
            attention: read("attention.scale")?.unwrap_or(usual) * mla::yarn_of_scores(keys)?,
            logits: 1.0 / read("logit_scale")?.unwrap_or(1.0),
            attention_softcap: cap("attn_logit_softcapping", arch.attention_softcap)?,
            logit_softcap: cap("final_logit_softcapping", arch.logit_softcap)?,
        })
    }
}
