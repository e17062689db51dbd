//! The description of a model's shape; see [`shapes`](super::shapes).

use super::delta_net::DeltaNetShape;
use super::mla::MlaShape;

/// All that is needed to write a model's metadata and tensor list. Counts are in elements.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Its name on the command line.
    pub name: &'static str,
    /// `general.architecture` of the GGUF file.
    pub arch: &'static str,
    /// `architectures[0]` of the Hugging Face `config.json`; empty if the shape is written as GGUF only.
    pub hf_class: &'static str,
    /// Decoder blocks.
    pub layers: usize,
    /// Length of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Length of one head; not always `hidden / heads`.
    pub head_dim: usize,
    /// Inner length of the dense feed-forward block.
    pub ff: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Longest context the metadata promises, in positions.
    pub context: usize,
    /// RoPE's theta.
    pub rope_base: f32,
    /// RMSNorm's epsilon.
    pub eps: f32,
    /// Whether the output head is the embedding table.
    pub tied: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub out_bias: bool,
    /// Layer norms with biases, and feed-forward networks with biases and without a gate (GPT-2 style).
    pub layer_norm: bool,
    /// Whether queries and keys are normalized.
    pub qk_norm: QkNorm,
    /// Norm placement.
    pub norms: Norms,
    /// Whether q, k and v are fused into one matrix, and gate and up into another.
    pub fused: bool,
    /// Whether each head has an attention sink.
    pub sinks: bool,
    /// LongRoPE's two sets of factors.
    pub long_factors: bool,
    /// Additional keys, without the architecture's prefix.
    pub keys: &'static [(&'static str, Key)],
    /// Llama 3's RoPE scaling.
    pub rope_scaling: Option<RopeScaling>,
    /// A mixture of experts instead of the dense feed-forward network.
    pub experts: Option<Experts>,
    /// Gated delta nets instead of most attention layers; the others have gated attention.
    pub delta_net: Option<DeltaNetShape>,
    /// Gated short convolutions instead of some attention layers.
    pub convs: Option<Convs>,
    /// Multi-head latent attention (MLA).
    pub mla: Option<MlaShape>,
    /// Global attention layers with other heads than the sliding-window layers.
    pub global: Option<Global>,
    /// Size of per-layer embeddings (PLE); 0: none.
    pub per_layer_embeddings: usize,
    /// How many of the last layers read the KV cache of earlier layers.
    pub kv_shared_layers: usize,
}

/// Parameters of Llama 3's RoPE scaling; its low and high frequency factors are always 1 and 4.
#[derive(Clone, Copy, Debug)]
pub struct RopeScaling {
    /// Divisor of the lowest frequencies.
    pub factor: f64,
    /// The context length of the first training stage.
    pub original_context: usize,
}

/// The norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkNorm {
    /// None.
    No,
    /// Each head.
    Heads,
    /// All heads of a token at once.
    Whole,
}

/// Norm placement, and the norms' names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norms {
    /// One before attention, one before the feed-forward network.
    Before,
    /// The same; the second is called `post_attention_norm`.
    BeforeRenamed,
    /// Before and after both.
    Around,
    /// After both.
    After,
}

/// A key's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Key {
    /// A count.
    U32(u32),
    /// A number.
    F32(f32),
    /// A word.
    Str(&'static str),
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// Experts in a block.
    pub count: usize,
    /// Experts a token uses.
    pub used: usize,
    /// Inner length of one expert.
    pub ff: usize,
    /// Whether router and experts have biases.
    pub bias: bool,
    /// Whether there is a shared expert, which every token uses.
    pub shared: bool,
    /// Whether the shared expert has a gate.
    pub gated: bool,
    /// Every n-th block has experts; the others have a dense network.
    pub every: usize,
    /// Whether a dense network with separate norms runs in parallel (Gemma 4). The experts' gate and up are fused.
    pub with_dense: bool,
    /// The first n blocks have a dense network, too.
    pub leading_dense: usize,
    /// How experts are chosen, if not by the largest logits.
    pub routing: Option<Routing>,
}

/// How experts are selected and weighted, for the keys.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    /// The scoring function's number, if a key gives it.
    pub scoring: Option<u32>,
    /// Whether a selection bias is added to scores.
    pub bias: bool,
    /// Number of expert groups, and of those a token's experts come from.
    pub groups: (u32, u32),
    /// Whether the weights of a token's experts sum to 1.
    pub norm: bool,
}

impl Experts {
    pub(super) const fn plain(count: usize, used: usize, ff: usize) -> Self {
        Experts {
            count,
            used,
            ff,
            bias: false,
            shared: false,
            gated: false,
            every: 1,
            with_dense: false,
            leading_dense: 0,
            routing: None,
        }
    }
}

/// Global attention layers whose heads differ from those of local layers (Gemma 4). A quarter of each head rotates.
#[derive(Clone, Copy, Debug)]
pub struct Global {
    /// Every n-th block is one.
    pub every: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Length of one head.
    pub head_dim: usize,
    /// Whether their keys are their values.
    pub keys_are_values: bool,
}

/// Gated short convolutions.
#[derive(Clone, Copy, Debug)]
pub struct Convs {
    /// Every n-th block has attention; the others have a convolution.
    pub every: usize,
    /// Kernel size.
    pub conv_kernel: usize,
}

impl Shape {
    /// Key and value heads of a block, and the length of one.
    pub fn heads_of(&self, layer: usize) -> (usize, usize) {
        self.global_of(layer).map_or((self.kv_heads, self.head_dim), |g| (g.kv_heads, g.head_dim))
    }

    /// The global layer at this place, if it is one.
    pub fn global_of(&self, layer: usize) -> Option<Global> {
        self.global.filter(|g| (layer + 1).is_multiple_of(g.every))
    }

    /// Whether a block reads the KV cache of an earlier one.
    pub fn shares(&self, layer: usize) -> bool {
        layer >= self.layers - self.kv_shared_layers
    }
}
