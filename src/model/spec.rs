//! What a model is: for each layer its token mixers, its feed-forward network and its norms, with the tensors of each
//! part.
//!
//! [`ModelSpec::read`] is the only place that looks at the architecture's row, the file's keys and its tensors
//! together. It checks every tensor's shape, and refuses files with tensors that no part reads. `blocks` records specs
//! as they are, without asking the file again.

#![allow(clippy::large_enum_variant, reason = "a model has a few specs per layer; boxes would hide what they are")]

mod attention;
mod delta_net;
mod describe;
mod embedding;
mod ffn;
mod mla;
mod moe;
mod norm;
mod rope;
mod short_conv;
mod tensors;

pub use attention::{AttentionSpec, KvSource, ScoreSpec};
pub use delta_net::{DeltaNetConfig, DeltaNetSpec, DeltaRates};
pub use embedding::{EmbeddingSpec, LayerEmbeddingSpec, PerLayerSpec};
pub use ffn::{DenseSpec, Ffn, MoeAndDenseSpec};
pub use mla::{MlaConfig, MlaQuery, MlaSpec};
pub use moe::{MoeConfig, MoeSpec, SharedExpertSpec};
pub use norm::{BranchNorms, NormPlacement, NormSpec};
pub use rope::RopeConfig;
pub use short_conv::ShortConvSpec;
pub(super) use tensors::read_vector;
pub use tensors::{LinearSpec, VectorSpec, WeightSpec};

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::arch::Arch;
use super::keys::{Keys, in_range};
use super::{purpose, unread};
use crate::checkpoint::Checkpoint;
use crate::graph::{LogitScale, MaskKind};
use crate::{Error, Result};
use attention::AttentionConfig;
use norm::NormRule;
use tensors::TensorTable;

/// A model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelSpec {
    /// The architecture's row.
    pub arch: Arch,
    /// Size of the residual stream (n_embd).
    pub hidden_size: u32,
    /// Tokens in the vocabulary.
    pub vocab_size: u32,
    /// Positions that the model was trained for.
    pub context_length: u32,
    /// Rotary embeddings; layers refer to them by index.
    pub ropes: Vec<RopeConfig>,
    /// Token embeddings.
    pub embedding: EmbeddingSpec,
    /// Multiplier of each branch's output, before it is added to the residual stream.
    pub residual_scale: f32,
    /// Layers.
    pub layers: Vec<LayerSpec>,
    /// The last norm; its output are the hidden states.
    pub output_norm: NormSpec,
    /// The output head.
    pub head: OutputHead,
}

/// A layer: token mixers and a feed-forward network, each a branch of the residual stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerSpec {
    /// Token mixers: usually one; several run side by side and are summed; none in layers that are feed-forward only.
    pub mixers: Vec<Mixer>,
    /// The feed-forward network, if there is one.
    pub ffn: Option<Ffn>,
    /// Norms, and how the branches share the residual stream.
    pub norms: NormPlacement,
    /// The layer's own embedding of the token (Gemma 4).
    pub embedding: Option<LayerEmbeddingSpec>,
    /// Multiplier of the layer's output (Gemma 4).
    pub output_scale: Option<VectorSpec>,
}

/// A token mixer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mixer {
    /// Attention with a KV cache.
    Attention(AttentionSpec),
    /// Multi-head latent attention.
    Mla(MlaSpec),
    /// A gated delta net.
    DeltaNet(DeltaNetSpec),
    /// A gated short convolution.
    ShortConv(ShortConvSpec),
}

/// A model's output, computed from hidden states. A graph can be recorded without it
/// ([`SessionOptions::output_head`](crate::session::SessionOptions::output_head)): it then ends with the hidden states,
/// from which the session pools embeddings.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OutputHead {
    /// Logits of tokens.
    Logits {
        /// The output matrix, if it is not the embedding table.
        weight: Option<WeightSpec>,
        /// Multiplier and softcap.
        scale: LogitScale,
    },
}

/// A layer's own KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KvCacheSpec {
    /// Heads.
    pub heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// Which positions are read.
    pub mask: MaskKind,
}

impl ModelSpec {
    /// Reads a checkpoint's keys and tensor table. Async, because factors of rotary frequencies can be in a tensor.
    ///
    /// # Errors
    /// If the file holds no language model ([`purpose`]), its architecture is unknown, a key or a tensor is missing,
    /// sizes contradict each other, or a tensor belongs to no part.
    pub async fn read(checkpoint: &Checkpoint) -> Result<Self> {
        purpose::check(checkpoint)?;
        let name = checkpoint.metadata.get_str("general.architecture")?;
        let name = name.ok_or_else(|| Error::format("the file does not say its general.architecture"))?;
        let names = || checkpoint.tensors.keys().map(String::as_str);
        let with_blocks = |error: Error| match unread::unknown_blocks(names()) {
            Some(blocks) => Error::Unsupported(format!("{error}; {blocks}")),
            None => error,
        };
        let arch = Arch::find(name).map_err(with_blocks)?;
        let read = Mutex::new(BTreeSet::new());
        let spec = Self::read_as(checkpoint, arch, &read).await.map_err(with_blocks)?;
        spec.check_shared_caches()?;
        unread::refuse(names(), &read.into_inner().unwrap_or_else(PoisonError::into_inner), spec.layers.len() as u32)?;
        Ok(spec)
    }

    /// Reads a checkpoint of this architecture; notes the tensors that are read.
    async fn read_as(checkpoint: &Checkpoint, arch: &Arch, read: &Mutex<BTreeSet<String>>) -> Result<Self> {
        let keys = Keys { metadata: &checkpoint.metadata, arch: arch.name };
        let tensors = TensorTable::new(checkpoint, read);
        rope::FACTOR_TENSORS.iter().for_each(|name| tensors.note(name));

        let hidden_size = keys.size("embedding_length", 1 << 20)?;
        if !hidden_size.is_multiple_of(4) {
            let what = format!("a hidden size of {hidden_size} is not a multiple of 4");
            return Err(Error::Unsupported(format!("this model cannot run: {what}")));
        }
        let vocab_size = u32::try_from(checkpoint.tensor("token_embd.weight")?.rows()).unwrap_or(0);
        let vocab_size = in_range("the vocabulary", vocab_size, 1 << 24)?;
        // Multi-token-prediction (MTP) layers come last, are included in block_count, and are skipped.
        let blocks = keys.size("block_count", 1 << 12)?;
        let mtp = keys.u32("nextn_predict_layers")?.unwrap_or(0);
        let layers = in_range(&keys.path("block_count"), blocks.saturating_sub(mtp), blocks)?;

        let reader = LayerReader::new(&keys, arch, checkpoint, hidden_size, layers).await?;
        let per_layer = PerLayerSpec::read(&tensors, &reader.norms, (vocab_size, hidden_size, layers))?;
        let root = if arch.scale_embeddings { (hidden_size as f32).sqrt() } else { 1.0 };
        Ok(ModelSpec {
            arch: *arch,
            hidden_size,
            vocab_size,
            context_length: keys.size_or("context_length", 2048, 1 << 30)?,
            embedding: EmbeddingSpec {
                table: tensors.weight("token_embd.weight", vocab_size, hidden_size)?,
                scale: keys.nonzero("embedding_scale")?.unwrap_or(root),
                per_layer: per_layer.clone(),
            },
            residual_scale: keys.nonzero("residual_scale")?.unwrap_or(1.0),
            layers: (0..layers).map(|n| reader.layer(&tensors.layer(n), n, &per_layer)).collect::<Result<_>>()?,
            // LFM2 has another name for it.
            output_norm: match reader.norms.norm_if(&tensors, "output_norm", hidden_size)? {
                Some(norm) => norm,
                None if tensors.has("token_embd_norm.weight") => {
                    reader.norms.norm(&tensors, "token_embd_norm", hidden_size)?
                }
                None => reader.norms.norm(&tensors, "output_norm", hidden_size)?,
            },
            head: OutputHead::read(&keys, arch, &tensors, (vocab_size, hidden_size))?,
            ropes: reader.attention.ropes,
        })
    }

    /// Checks that layers share the caches of layers that have one.
    fn check_shared_caches(&self) -> Result<()> {
        for (n, attention) in self.attentions().enumerate() {
            let KvSource::Layer(other) = attention.kv else { continue };
            if !self.layers[other as usize].mixers.iter().any(|mixer| mixer.kv_cache().is_some()) {
                let what = format!("attention layer {n} shares keys and values of layer {other}, which has none");
                return Err(Error::format(what));
            }
        }
        Ok(())
    }

    /// The layers' own KV caches.
    pub fn kv_caches(&self) -> impl Iterator<Item = KvCacheSpec> {
        self.layers.iter().flat_map(|layer| &layer.mixers).filter_map(Mixer::kv_cache)
    }

    /// The mixtures of experts of all layers.
    pub fn moes(&self) -> impl Iterator<Item = &MoeSpec> {
        self.layers.iter().filter_map(|layer| match &layer.ffn {
            Some(Ffn::Moe(moe)) => Some(moe),
            Some(Ffn::MoeAndDense(both)) => Some(&both.moe),
            _ => None,
        })
    }

    /// The attention layers' mixers, without MLA.
    pub fn attentions(&self) -> impl Iterator<Item = &AttentionSpec> {
        self.layers.iter().flat_map(|layer| &layer.mixers).filter_map(|mixer| match mixer {
            Mixer::Attention(attention) => Some(attention),
            _ => None,
        })
    }
}

impl Mixer {
    /// Its KV cache, if it does not share that of another layer.
    pub fn kv_cache(&self) -> Option<KvCacheSpec> {
        match self {
            Mixer::Attention(a) if matches!(a.kv, KvSource::Own { .. }) => {
                Some(KvCacheSpec { heads: a.kv_heads, head_dim: a.head_dim, mask: a.scores.mask })
            }
            Mixer::Mla(mla) => Some(KvCacheSpec { heads: 1, head_dim: mla.sizes.cached_dim(), mask: mla.scores.mask }),
            _ => None,
        }
    }
}

/// The keys that all layers share.
struct LayerReader<'a> {
    arch: &'a Arch,
    hidden_size: u32,
    norms: NormRule,
    attention: AttentionConfig,
    mla: Option<MlaConfig>,
    delta_net: Option<DeltaNetConfig>,
    moe: Option<MoeConfig>,
    /// Sizes of feed-forward networks; an array has 0 for layers without one.
    ffn_sizes: Vec<u32>,
}

impl<'a> LayerReader<'a> {
    async fn new(
        keys: &Keys<'_>,
        arch: &'a Arch,
        checkpoint: &Checkpoint,
        hidden_size: u32,
        layers: u32,
    ) -> Result<Self> {
        let heads = keys.size("attention.head_count", 1 << 12)?;
        let mla = MlaConfig::read(keys)?;
        let (head_dims, query_dim) = match mla {
            Some(mla) => ([mla.cached_dim(); 2], mla.query_dim()),
            None => attention::head_dims(keys, hidden_size / heads).map(|dims| (dims, dims[0]))?,
        };
        let sizes =
            attention::Sizes { layers, hidden: hidden_size, heads, head_dims, query_dim, kv_heads: mla.map(|_| 1) };
        Ok(LayerReader {
            arch,
            hidden_size,
            norms: NormRule::read(keys, arch)?,
            attention: AttentionConfig::read(keys, arch, checkpoint, sizes).await?,
            mla,
            delta_net: DeltaNetConfig::read(keys, arch)?,
            moe: MoeConfig::read(keys, arch)?,
            ffn_sizes: keys
                .metadata
                .get_u32s(&keys.path("feed_forward_length"))?
                .filter(|all| all.len() > 1)
                .unwrap_or_default(),
        })
    }

    fn layer(&self, tensors: &TensorTable, n: u32, per_layer: &Option<PerLayerSpec>) -> Result<LayerSpec> {
        let LayerReader { arch, norms, hidden_size: hidden, .. } = self;
        let mixers = self.mixers(tensors, n)?;
        let ffn = match self.ffn_sizes.get(n as usize) {
            Some(0) => None,
            _ => Some(Ffn::read(tensors, arch, norms, self.moe, *hidden)?),
        };
        let embedding = per_layer.as_ref().map(|all| all.layer(tensors, norms, arch, n, *hidden));
        Ok(LayerSpec {
            norms: norms.placement(tensors, arch, *hidden, [!mixers.is_empty(), ffn.is_some()])?,
            mixers,
            ffn,
            embedding: embedding.transpose()?,
            output_scale: embedding::output_scale(tensors)?,
        })
    }

    fn mixers(&self, tensors: &TensorTable, n: u32) -> Result<Vec<Mixer>> {
        let hidden = self.hidden_size;
        // Keys of hybrids often give every layer heads, so attention comes last.
        let mixer = if let Some(delta_net) = self.delta_net.filter(|_| delta_net::is_delta_net(tensors)) {
            Mixer::DeltaNet(delta_net.layer(tensors, &self.norms, hidden)?)
        } else if let Some(conv) = ShortConvSpec::read(tensors, hidden)? {
            Mixer::ShortConv(conv)
        } else if !self.attention.attends(n) {
            return Ok(Vec::new());
        } else if let Some(mla) = self.mla {
            Mixer::Mla(mla.layer(tensors, &self.attention, n, hidden)?)
        } else {
            Mixer::Attention(self.attention.layer(tensors, &self.norms, n, hidden)?)
        };
        Ok(vec![mixer])
    }
}

impl OutputHead {
    fn read(keys: &Keys, arch: &Arch, tensors: &TensorTable, (vocab, hidden): (u32, u32)) -> Result<Self> {
        let scale = keys.nonzero("logit_scale")?.unwrap_or(1.0);
        let own = tensors.has("output.weight");
        Ok(OutputHead::Logits {
            weight: if own { Some(tensors.weight("output.weight", vocab, hidden)?) } else { None },
            scale: LogitScale {
                scale: if arch.divide_logits { 1.0 / scale } else { scale },
                softcap: attention::softcap(keys, "final_logit_softcapping", arch.logit_softcap)?,
            },
        })
    }
}

#[cfg(test)]
mod tests;
