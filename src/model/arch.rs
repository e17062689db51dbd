//! The architectures that run, as data: one row each. What a file says itself (sizes, biases, norms, tied output,
//! experts, what is fused) is read from its keys and tensors, never from the architecture's name.

use crate::ops::experts::{Scoring, Shares};
use crate::ops::glu::Activation;
use crate::ops::rope::Pairing;
use crate::{Error, Result};

/// What the name `general.architecture` implies and no key says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arch {
    /// The name in the file.
    pub name: &'static str,
    /// Which values of a head rotate together.
    pub pairing: Pairing,
    /// How gate and up of a feed-forward network become one.
    pub activation: Activation,
    /// Embeddings are multiplied by the square root of the width.
    pub embed_by_root: bool,
    /// One layer in so many has no rotary embedding: the last of each. 0: all have one.
    pub unrotated_every: u32,
    /// Heads of q and k are normed without a weight once they are rotated.
    pub norm_rotated: bool,
    /// Heads of values are normed without a weight.
    pub norm_values: bool,
    /// Models of so many layers scale scores by the width over the heads, not by a head's size.
    pub wide_scale: &'static [u32],
    /// Scores are bounded so, where no key says it.
    pub attention_cap: Option<f32>,
    /// Logits are bounded so, where no key says it.
    pub logits_cap: Option<f32>,
    /// `rope.scaling.finetuned` says whether there is a rotary embedding at all.
    pub finetuned_rotates: bool,
    /// Scores are not scaled at all.
    pub unscaled: bool,
    /// The bounds of YaRN's passage are rounded to whole pairs.
    pub yarn_rounds: bool,
    /// Layers that see a part of the context only.
    pub local: Local,
    /// Scores grow with the position, in layers without rotary embedding, after so many positions.
    pub tempered_after: Option<u32>,
    /// How a router's logits become scores, where no key says it.
    pub scoring: Scoring,
    /// The scores of a row's experts are made to sum to 1, where no key says it.
    pub shares_sum_to_1: bool,
    /// What the router's weights multiply.
    pub shares: Shares,
    /// Value heads of a delta net that share a key head stand side by side, where no key says it.
    pub grouped_heads: bool,
}

/// Layers that see a part of the context only, as far as no key says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Local {
    /// One layer in so many sees all: the last of each. 0: none does.
    pub every: u32,
    /// How many positions they see.
    pub span: u32,
    /// The positions lie in chunks; otherwise they are the last ones.
    pub chunked: bool,
    /// Their rotary base, if it is not the other layers'.
    pub base: Option<f32>,
    /// Their rotary embedding is stretched as the other layers' is.
    pub stretched: bool,
}

const LLAMA: Arch = Arch {
    name: "llama",
    pairing: Pairing::Neighbours,
    activation: Activation::Silu,
    embed_by_root: false,
    unrotated_every: 0,
    norm_rotated: false,
    norm_values: false,
    wide_scale: &[],
    attention_cap: None,
    logits_cap: None,
    finetuned_rotates: false,
    unscaled: false,
    yarn_rounds: true,
    local: Local { every: 0, span: 0, chunked: false, base: None, stretched: true },
    tempered_after: None,
    scoring: Scoring::Softmax,
    shares_sum_to_1: true,
    shares: Shares::OfOutputs,
    grouped_heads: false,
};

const QWEN: Arch = Arch { pairing: Pairing::Halves, ..LLAMA };

const GEMMA: Arch = Arch { activation: Activation::Gelu, embed_by_root: true, ..QWEN };

/// Every architecture.
pub const ALL: &[Arch] = &[
    LLAMA,
    Arch {
        name: "llama4",
        unrotated_every: 4,
        norm_rotated: true,
        local: Local { every: 4, span: 8192, chunked: true, ..LLAMA.local },
        tempered_after: Some(8192),
        scoring: Scoring::Sigmoid,
        shares_sum_to_1: false,
        shares: Shares::OfInputs,
        ..LLAMA
    },
    Arch { name: "mistral3", ..LLAMA },
    Arch { name: "smollm3", unrotated_every: 4, ..LLAMA },
    Arch { name: "granite", finetuned_rotates: true, ..LLAMA },
    Arch { name: "deepseek2", shares_sum_to_1: false, ..LLAMA },
    Arch { name: "qwen2", ..QWEN },
    Arch { name: "qwen3", ..QWEN },
    Arch { name: "qwen3moe", ..QWEN },
    Arch { name: "qwen35", ..QWEN },
    Arch { name: "qwen35moe", ..QWEN },
    Arch { name: "qwen3next", grouped_heads: true, ..QWEN },
    Arch { name: "lfm2", ..QWEN },
    Arch { name: "phi3", ..QWEN },
    // Its window is that of the published models (their cards: 4,096 of 16,384 positions); no GGUF file says it.
    Arch { name: "starcoder2", activation: Activation::Gelu, local: Local { span: 4096, ..LLAMA.local }, ..QWEN },
    Arch { name: "olmo2", local: Local { every: 4, stretched: false, ..LLAMA.local }, ..QWEN },
    // The first converted files had no keys for what bounds scores and logits.
    Arch {
        name: "gemma2",
        wide_scale: &[46],
        attention_cap: Some(50.0),
        logits_cap: Some(30.0),
        local: Local { every: 2, span: 4096, ..LLAMA.local },
        ..GEMMA
    },
    Arch {
        name: "gemma3",
        wide_scale: &[62],
        local: Local { every: 6, base: Some(10000.0), stretched: false, ..LLAMA.local },
        ..GEMMA
    },
    Arch {
        name: "gemma4",
        norm_values: true,
        unscaled: true,
        local: Local { every: 6, base: Some(10000.0), stretched: false, ..LLAMA.local },
        ..GEMMA
    },
    Arch {
        name: "gpt-oss",
        activation: Activation::Clamped,
        yarn_rounds: false,
        local: Local { every: 2, ..LLAMA.local },
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
