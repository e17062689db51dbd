//! Attention with a KV cache: heads, masks, rotary embeddings and norms, layer by layer.

use super::moe::MoeConfig;
use super::norm::{NormRule, NormSpec};
use super::rope::RopeConfig;
use super::tensors::{LinearSpec, TensorTable, VectorSpec};
use crate::checkpoint::Checkpoint;
use crate::graph::{AttentionTemperature, MAX_HEAD_DIM, MaskKind};
use crate::model::arch::{Arch, ScoreScale};
use crate::model::keys::Keys;
use crate::{Error, Result};

/// An attention layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// Queries; with a gate, each head's query and then its gate.
    pub q: LinearSpec,
    /// Whether a sigmoid gate multiplies each head's output (Qwen 3.5).
    pub gated: bool,
    /// Keys and values.
    pub kv: KvSource,
    /// Norm of queries.
    pub q_norm: Option<NormSpec>,
    /// Norm of queries and keys after RoPE (Llama 4).
    pub norm_after_rope: Option<NormSpec>,
    /// How scores are computed.
    pub scores: ScoreSpec,
    /// Attention sinks, one for each head (gpt-oss).
    pub sinks: Option<VectorSpec>,
    /// The output projection.
    pub output: LinearSpec,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KvSource {
    /// Keys and values are computed and cached by this layer.
    Own {
        /// Keys.
        k: LinearSpec,
        /// Values; without a matrix, keys are the values, too (Gemma 4).
        v: Option<LinearSpec>,
        /// Norm of keys.
        k_norm: Option<NormSpec>,
        /// Norm of values.
        v_norm: Option<NormSpec>,
    },
    /// It reads the cache of an earlier layer (Gemma 4).
    Layer(u32),
}

/// The parameters of a layer's attention scores.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScoreSpec {
    /// Index into the model's rotary embeddings; `None` without RoPE (NoPE).
    pub rope: Option<usize>,
    /// Which positions a query attends to.
    pub mask: MaskKind,
    /// Multiplier.
    pub scale: f32,
    /// Softcap.
    pub softcap: Option<f32>,
    /// How scores grow with the position (Llama 4).
    pub temperature: Option<AttentionTemperature>,
}

/// The metadata keys of attention, for all layers.
pub(super) struct AttentionConfig {
    heads: u32,
    /// Of each layer; 0 in layers without attention.
    kv_heads: Vec<u32>,
    /// Head sizes of global and of local layers.
    head_dims: [u32; 2],
    scores: Vec<ScoreSpec>,
    /// The rotary embedding of global layers, then that of local ones if it is another.
    pub ropes: Vec<RopeConfig>,
    norm_after_rope: bool,
    v_norm: bool,
    /// The first layer that uses keys and values of another layer.
    first_sharing: u32,
}

/// Sizes that attention depends on.
pub(super) struct Sizes {
    pub layers: u32,
    pub hidden: u32,
    pub heads: u32,
    /// Head sizes of global and of local layers.
    pub head_dims: [u32; 2],
    /// Size of a query head, which with MLA is not that of cached heads.
    pub query_dim: u32,
    /// Key-value heads of all layers, if no key says it.
    pub kv_heads: Option<u32>,
}

impl AttentionConfig {
    /// Reads keys, and factors of rotary embeddings, which may be in a tensor.
    pub async fn read(keys: &Keys<'_>, arch: &Arch, checkpoint: &Checkpoint, sizes: Sizes) -> Result<Self> {
        let Sizes { layers, heads, head_dims, .. } = sizes;
        let locality = Locality::read(keys, arch, layers)?;
        let ropes = locality.ropes(keys, arch, checkpoint, head_dims).await?;
        let config = AttentionConfig {
            heads,
            kv_heads: match sizes.kv_heads {
                Some(kv_heads) => vec![kv_heads; layers as usize],
                None => keys.sizes_or("attention.head_count_kv", heads, 1 << 12, layers)?,
            },
            head_dims,
            scores: locality.scores(keys, arch, &sizes, ropes.len() - 1)?,
            ropes,
            norm_after_rope: norm_after_rope(keys, arch)?,
            v_norm: arch.v_norm,
            first_sharing: layers.saturating_sub(keys.u32("attention.shared_kv_layers")?.unwrap_or(0)),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Unsupported(format!("this model cannot run: {what}")));
        for (n, scores) in (0..).zip(&self.scores) {
            let (kv_heads, head_dim) = (self.kv_heads[n as usize], self.head_dim(n));
            if kv_heads > 0 && !self.heads.is_multiple_of(kv_heads) {
                return fail(format!("{} query heads do not divide by {kv_heads} kv heads", self.heads));
            }
            if !head_dim.is_multiple_of(4) {
                return fail(format!("a head size of {head_dim} is not a multiple of 4"));
            }
            if head_dim > MAX_HEAD_DIM {
                return fail(format!("heads of {head_dim} values"));
            }
            let rotated = scores.rope.map_or(0, |rope| self.ropes[rope].rotated());
            if rotated > head_dim {
                return fail(format!("{rotated} values rotate of heads of {head_dim}"));
            }
        }
        Ok(())
    }

    /// Query heads.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether keys say that a layer has attention.
    pub fn attends(&self, n: u32) -> bool {
        self.kv_heads[n as usize] > 0 || n >= self.first_sharing
    }

    /// The scores of a layer.
    pub fn scores(&self, n: u32) -> ScoreSpec {
        self.scores[n as usize]
    }

    fn head_dim(&self, n: u32) -> u32 {
        self.head_dims[usize::from(self.scores[n as usize].mask != MaskKind::Causal)]
    }

    /// The last layer with a cache and the same mask, if layer `n` shares a cache.
    fn kv_layer(&self, n: u32) -> Result<Option<u32>> {
        if n < self.first_sharing {
            return Ok(None);
        }
        let alike = |other: &u32| self.scores(*other).mask == self.scores(n).mask;
        let other = (0..self.first_sharing).rev().find(alike);
        let error = || Error::format(format!("layer {n} has no earlier layer to share keys and values with"));
        other.map(Some).ok_or_else(error)
    }

    /// The attention of layer `n`.
    pub fn layer(&self, tensors: &TensorTable, norms: &NormRule, n: u32, hidden: u32) -> Result<AttentionSpec> {
        let kv_layer = self.kv_layer(n)?;
        let (kv_heads, head_dim) = kv_layer.map_or((self.kv_heads[n as usize], self.head_dim(n)), |other| {
            (self.kv_heads[other as usize], self.head_dim(other))
        });
        if kv_heads == 0 {
            return Err(Error::format(format!("layer {n} should have no attention, but it has its tensors")));
        }
        let heads = self.heads;
        let (q_rows, kv_rows) = (heads * head_dim, kv_heads * head_dim);
        let k_norm = |tensors: &TensorTable| norms.heads_if(tensors, "attn_k_norm", kv_heads, head_dim);
        let v_norm = self.v_norm.then(|| norms.bare(head_dim));
        // Where queries have gates, their matrix is twice as large.
        let gated =
            |name: &str, others: u32| tensors.find(name).map(|t| t.rows()) == Some((2 * q_rows + others).into());
        let fused = tensors.has("attn_qkv.weight");
        let gated = if fused { gated("attn_qkv.weight", 2 * kv_rows) } else { gated("attn_q.weight", 0) };
        let q_rows = if gated { 2 * q_rows } else { q_rows };
        let (q, kv) = match kv_layer {
            Some(other) => {
                // Files may have them all the same.
                ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight"].iter().for_each(|name| tensors.note(name));
                (tensors.linear("attn_q", q_rows, hidden)?, KvSource::Layer(other))
            }
            None if fused => {
                let [q, k, v] = tensors.fused("attn_qkv", [q_rows, kv_rows, kv_rows], hidden)?;
                (q, KvSource::Own { k, v: Some(v), k_norm: k_norm(tensors)?, v_norm })
            }
            None => {
                let q = tensors.linear("attn_q", q_rows, hidden)?;
                let k = tensors.linear("attn_k", kv_rows, hidden)?;
                let keys_are_values = self.v_norm && !tensors.has("attn_v.weight");
                let v = if keys_are_values { None } else { Some(tensors.linear("attn_v", kv_rows, hidden)?) };
                (q, KvSource::Own { k, v, k_norm: k_norm(tensors)?, v_norm })
            }
        };
        Ok(AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            q,
            gated,
            kv,
            q_norm: norms.heads_if(tensors, "attn_q_norm", heads, head_dim)?,
            norm_after_rope: self.norm_after_rope.then(|| norms.bare(head_dim)),
            scores: self.scores(n),
            sinks: tensors.vector_if("attn_sinks.weight", heads)?,
            output: tensors.linear("attn_output", hidden, heads * head_dim)?,
        })
    }
}

/// Head sizes of global and of local layers.
pub(super) fn head_dims(keys: &Keys, usual: u32) -> Result<[u32; 2]> {
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

/// Whether query and key heads are normed after RoPE. Hugging Face folders say so. GGUF files of Llama 4 do not, and
/// Maverick has no such norm: as in llama.cpp, it is recognized by its 128 experts.
fn norm_after_rope(keys: &Keys, arch: &Arch) -> Result<bool> {
    const MAVERICK_EXPERTS: u32 = 128;
    let usual = MoeConfig::read(keys, arch)?.is_none_or(|moe| moe.experts != MAVERICK_EXPERTS);
    Ok(arch.norm_after_rope && keys.bool("attention.qk_norm")?.unwrap_or(usual))
}

/// Which layers attend locally (sliding window or chunks), and over how many positions.
struct Locality {
    mask: MaskKind,
    is_local: Vec<bool>,
}

impl Locality {
    fn read(keys: &Keys, arch: &Arch, layers: u32) -> Result<Self> {
        let span = keys.u32("attention.sliding_window")?.unwrap_or(arch.local.span);
        let pattern = "attention.sliding_window_pattern";
        let is_local = match keys.flags(pattern)? {
            // Multi-token-prediction layers may be counted.
            Some(flags) if flags.len() >= layers as usize => flags,
            Some(flags) => {
                let (path, have) = (keys.path(pattern), flags.len());
                return Err(Error::format(format!("{path} has {have} entries for {layers} layers")));
            }
            None => {
                let every = keys.u32(pattern)?.unwrap_or(arch.local.global_interval);
                (1..=layers).map(|n| !n.is_multiple_of(every)).collect()
            }
        };
        let mask = match (span, arch.local.chunked) {
            (0, _) => MaskKind::Causal,
            (span, true) => MaskKind::Chunked(span),
            (span, false) => MaskKind::SlidingWindow(span),
        };
        Ok(Locality { mask, is_local })
    }

    fn any(&self) -> bool {
        self.mask != MaskKind::Causal && self.is_local.contains(&true)
    }

    /// See [`AttentionConfig::ropes`].
    async fn ropes(
        &self,
        keys: &Keys<'_>,
        arch: &Arch,
        checkpoint: &Checkpoint,
        [head_dim, local_head_dim]: [u32; 2],
    ) -> Result<Vec<RopeConfig>> {
        let base = keys.f32("rope.freq_base")?.unwrap_or(10000.0);
        let local_base = keys.f32("rope.freq_base_swa")?.or(arch.local.rope_base).unwrap_or(base);
        let rotated = keys.u32("rope.dimension_count")?;
        let global = RopeConfig::read(keys, arch, checkpoint, rotated.unwrap_or(head_dim), base, true).await?;
        if !self.any() || (local_base == base && local_head_dim == head_dim && arch.local.rope_scaling) {
            return Ok(vec![global]);
        }
        let rotated = keys.u32("rope.dimension_count_swa")?.or(rotated).unwrap_or(local_head_dim);
        Ok(vec![global, RopeConfig::read(keys, arch, checkpoint, rotated, local_base, arch.local.rope_scaling).await?])
    }

    /// The scores of each layer; `local_rope` is the rotary embedding of local layers.
    fn scores(&self, keys: &Keys, arch: &Arch, sizes: &Sizes, local_rope: usize) -> Result<Vec<ScoreSpec>> {
        let temperature = temperature(keys, arch)?;
        let usual = match arch.score_scale {
            ScoreScale::One => 1.0,
            ScoreScale::HiddenOverHeads(of) if of.contains(&sizes.layers) => {
                1.0 / ((sizes.hidden / sizes.heads) as f32).sqrt()
            }
            _ => 1.0 / (sizes.query_dim as f32).sqrt(),
        };
        let scale = keys.nonzero("attention.scale")?.unwrap_or(usual) * super::mla::yarn_of_scores(keys)?;
        let softcap = softcap(keys, "attn_logit_softcapping", arch.attention_softcap)?;
        let has_rope = !arch.rope_if_finetuned || keys.bool("rope.scaling.finetuned")?.unwrap_or(true);
        // Llama 4's small relatives have neither chunks nor NoPE layers.
        let all_global = arch.local.chunked && !self.any();
        let layer = |n: u32| {
            let local = self.any() && self.is_local[n as usize];
            let rotates = has_rope && (all_global || !(n + 1).is_multiple_of(arch.nope_interval));
            ScoreSpec {
                rope: rotates.then_some(if local { local_rope } else { 0 }),
                mask: if local { self.mask } else { MaskKind::Causal },
                scale,
                softcap,
                // Llama 4 has it in NoPE layers only.
                temperature: temperature.filter(|_| arch.attn_temperature_after.is_none() || !rotates),
            }
        };
        Ok((0..sizes.layers).map(layer).collect())
    }
}

/// The softcap of a key, or the usual one; 0 means none.
pub(super) fn softcap(keys: &Keys, name: &str, usual: Option<f32>) -> Result<Option<f32>> {
    Ok(keys.finite(name)?.or(usual).map(f32::abs).filter(|value| *value != 0.0))
}

/// Attention temperature tuning.
fn temperature(keys: &Keys, arch: &Arch) -> Result<Option<AttentionTemperature>> {
    let rate = keys.nonzero("attention.temperature_scale")?;
    let after = keys.u32("attention.temperature_length")?;
    let original = "rope.scaling.original_context_length";
    let temperature = match (arch.attn_temperature_after, rate) {
        (Some(usual), rate) => {
            AttentionTemperature { floor_scale: after.unwrap_or(usual), attn_scale: rate.unwrap_or(0.1), offset: 1 }
        }
        (None, Some(attn_scale)) => {
            let floor_scale = after.map_or_else(|| keys.u32(original), |n| Ok(Some(n)))?;
            let lacking = || Error::format(format!("the file lacks the key {}", keys.path(original)));
            AttentionTemperature { floor_scale: floor_scale.ok_or_else(lacking)?, attn_scale, offset: 0 }
        }
        (None, None) => return Ok(None),
    };
    if temperature.floor_scale == 0 {
        return Err(Error::format("an attention temperature over 0 positions"));
    }
    Ok(Some(temperature))
}
