//! The supported architectures, as data: one row each. Whatever a file states itself (sizes, biases, norms, tied
//! embeddings, experts, fused matrices) is read from its keys and tensors, not derived from the architecture.

use crate::graph::{Activation, RopeStyle, RoutingWeights, Scoring};
use crate::{Error, Result};

/// The properties that `general.architecture` implies without a key.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Arch {
    /// `general.architecture`.
    pub name: &'static str,
    /// Norms around layers and at the end.
    pub norm: NormKind,
    /// Mixer and feed-forward network read one norm and are added together (Cohere).
    pub parallel: bool,
    /// Which values of a head RoPE rotates together.
    pub rope_style: RopeStyle,
    /// Activation of feed-forward networks.
    pub activation: Activation,
    /// Embeddings are multiplied by sqrt(hidden size).
    pub scale_embeddings: bool,
    /// Every n-th layer uses no RoPE (NoPE). 0: none.
    pub nope_interval: u32,
    /// Query and key heads get an RMSNorm without a weight after RoPE.
    pub norm_after_rope: bool,
    /// Value heads get an RMSNorm without a weight.
    pub v_norm: bool,
    /// Multiplier of attention scores, if no key gives it.
    pub score_scale: ScoreScale,
    /// Softcap of attention scores, if no key gives it.
    pub attention_softcap: Option<f32>,
    /// Softcap of logits, if no key gives it.
    pub logit_softcap: Option<f32>,
    /// `logit_scale` divides logits (Granite); otherwise it multiplies them (Cohere).
    pub divide_logits: bool,
    /// `rope.scaling.finetuned` = false means that there is no RoPE at all.
    pub rope_if_finetuned: bool,
    /// YaRN's correction range is rounded to integer dimensions.
    pub yarn_truncate: bool,
    /// Layers with local attention.
    pub local: LocalAttention,
    /// Attention temperature tuning: scores of NoPE layers grow with the position after this many positions.
    pub attn_temperature_after: Option<u32>,
    /// The router's scoring function, if no key gives it.
    pub scoring: Scoring,
    /// The weights of a token's experts are normalized to sum to 1, if no key says otherwise.
    pub norm_topk_prob: bool,
    /// Whether the routing weights multiply the experts' inputs or outputs.
    pub routing_weights: RoutingWeights,
    /// Some layers are gated delta nets, with value heads in this order if no key says otherwise.
    pub delta_net: Option<ValueHeads>,
}

/// The kind of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormKind {
    /// `x / rms(x) * weight` (RMSNorm).
    Rms,
    /// `(x - mean(x)) / deviation(x) * weight + bias` (LayerNorm); the bias is optional.
    Layer,
}

/// The multiplier of attention scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScoreScale {
    /// `1 / sqrt(head size)`.
    HeadDim,
    /// `1 / sqrt(hidden size / heads)` in models of these numbers of layers, otherwise [`ScoreScale::HeadDim`].
    HiddenOverHeads(&'static [u32]),
    /// 1: scores are not scaled.
    One,
}

/// The order of a delta net's value heads, several of which share a key head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueHeads {
    /// Head `h` shares key head `h % key heads`.
    Interleaved,
    /// Those of a key head are adjacent.
    Grouped,
}

/// Layers with local attention, if no key says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LocalAttention {
    /// Every n-th layer attends globally. 0: none.
    pub global_interval: u32,
    /// Size of the window or chunk.
    pub span: u32,
    /// Chunked attention instead of a sliding window.
    pub chunked: bool,
    /// RoPE base of local layers, if it differs.
    pub rope_base: Option<f32>,
    /// Whether the RoPE scaling of global layers applies to local ones, too.
    pub rope_scaling: bool,
}

const LLAMA: Arch = Arch {
    name: "llama",
    norm: NormKind::Rms,
    parallel: false,
    rope_style: RopeStyle::Interleaved,
    activation: Activation::Silu,
    scale_embeddings: false,
    nope_interval: 0,
    norm_after_rope: false,
    v_norm: false,
    score_scale: ScoreScale::HeadDim,
    attention_softcap: None,
    logit_softcap: None,
    divide_logits: false,
    rope_if_finetuned: false,
    yarn_truncate: true,
    local: LocalAttention { global_interval: 0, span: 0, chunked: false, rope_base: None, rope_scaling: true },
    attn_temperature_after: None,
    scoring: Scoring::Softmax,
    norm_topk_prob: true,
    routing_weights: RoutingWeights::OnOutputs,
    delta_net: None,
};

const QWEN: Arch = Arch { rope_style: RopeStyle::Neox, ..LLAMA };

const GEMMA: Arch = Arch { activation: Activation::Gelu, scale_embeddings: true, ..QWEN };

/// Every architecture.
pub const ALL: &[Arch] = &[
    LLAMA,
    Arch {
        name: "llama4",
        nope_interval: 4,
        norm_after_rope: true,
        local: LocalAttention { global_interval: 4, span: 8192, chunked: true, ..LLAMA.local },
        attn_temperature_after: Some(8192),
        scoring: Scoring::Sigmoid,
        norm_topk_prob: false,
        routing_weights: RoutingWeights::OnInputs,
        ..LLAMA
    },
    Arch { name: "mistral3", ..LLAMA },
    Arch { name: "smollm3", nope_interval: 4, ..LLAMA },
    Arch { name: "granite", divide_logits: true, rope_if_finetuned: true, ..LLAMA },
    Arch { name: "deepseek2", norm_topk_prob: false, ..LLAMA },
    Arch { name: "qwen2", ..QWEN },
    Arch { name: "qwen3", ..QWEN },
    Arch { name: "qwen3moe", ..QWEN },
    Arch { name: "qwen35", delta_net: Some(ValueHeads::Interleaved), ..QWEN },
    Arch { name: "qwen35moe", delta_net: Some(ValueHeads::Interleaved), ..QWEN },
    Arch { name: "qwen3next", delta_net: Some(ValueHeads::Grouped), ..QWEN },
    Arch { name: "lfm2", ..QWEN },
    Arch { name: "phi3", ..QWEN },
    // The window of the published models (4,096 of 16,384 positions, model cards); GGUF files do not have the key.
    Arch {
        name: "starcoder2",
        norm: NormKind::Layer,
        activation: Activation::Gelu,
        local: LocalAttention { span: 4096, ..LLAMA.local },
        ..QWEN
    },
    Arch { name: "olmo2", local: LocalAttention { global_interval: 4, rope_scaling: false, ..LLAMA.local }, ..QWEN },
    // Early GGUF files lack the softcap keys.
    Arch {
        name: "gemma2",
        score_scale: ScoreScale::HiddenOverHeads(&[46]),
        attention_softcap: Some(50.0),
        logit_softcap: Some(30.0),
        local: LocalAttention { global_interval: 2, span: 4096, ..LLAMA.local },
        ..GEMMA
    },
    Arch {
        name: "gemma3",
        score_scale: ScoreScale::HiddenOverHeads(&[62]),
        local: LocalAttention { global_interval: 6, rope_base: Some(10000.0), rope_scaling: false, ..LLAMA.local },
        ..GEMMA
    },
    Arch {
        name: "gemma4",
        v_norm: true,
        score_scale: ScoreScale::One,
        local: LocalAttention { global_interval: 6, rope_base: Some(10000.0), rope_scaling: false, ..LLAMA.local },
        ..GEMMA
    },
    Arch {
        name: "gpt-oss",
        activation: Activation::Clamped,
        yarn_truncate: false,
        local: LocalAttention { global_interval: 2, ..LLAMA.local },
        ..QWEN
    },
];

impl Arch {
    /// The row of this name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the names that are supported.
    pub fn find(name: &str) -> Result<&'static Arch> {
        ALL.iter().find(|a| a.name == name).ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|a| a.name).collect();
            Error::Unsupported(format!(
                "the architecture {name:?} is not supported yet; supported are {}",
                names.join(", ")
            ))
        })
    }
}
