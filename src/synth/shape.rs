//! What is said of a model's shape; see [`shapes`](super::shapes).

use super::delta::Delta;
use super::latent::Latent;

/// What is needed to write a model's metadata and to list its tensors. Counts are in elements.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What the command line calls it.
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
    /// Whether the attention's output has one.
    pub out_bias: bool,
    /// Whether norms are layer norms with biases, and the feed-forward network has no gate, but biases.
    pub classic: bool,
    /// Whether queries and keys are normalized.
    pub qk_norm: QkNorm,
    /// Which norms a block has.
    pub norms: Norms,
    /// Whether q, k and v are one matrix, and gate and up another.
    pub fused: bool,
    /// Whether each head has an attention sink.
    pub sinks: bool,
    /// LongRoPE's two sets of factors.
    pub long_factors: bool,
    /// Keys beyond those that every decoder has, without the architecture's name.
    pub keys: &'static [(&'static str, Key)],
    /// Llama 3's stretching of the slow RoPE frequencies.
    pub rope_stretch: Option<Stretch>,
    /// A mixture of experts in place of the dense feed-forward block.
    pub experts: Option<Experts>,
    /// Gated delta nets in place of most attention, which is gated then.
    pub delta: Option<Delta>,
    /// Gated short convolutions in place of some attention.
    pub convs: Option<Convs>,
    /// Attention over latent keys.
    pub latent: Option<Latent>,
    /// Layers that see everything and have other heads than those with a window.
    pub global: Option<Global>,
    /// Of how many values each layer's own vectors of tokens are; 0: there are none.
    pub layer_inputs: usize,
    /// How many layers, the last ones, read the keys and values of earlier ones.
    pub shared_kv: usize,
}

/// Parameters of Llama 3's RoPE scaling; its low and high frequency factors are always 1 and 4.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// By how much the slowest frequencies are divided.
    pub factor: f64,
    /// The context length of the first training stage.
    pub original_context: usize,
}

/// What is normalized of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkNorm {
    /// Nothing.
    No,
    /// Each head.
    Heads,
    /// All heads of a token at once.
    Whole,
}

/// Which norms a block has, and what they are called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norms {
    /// One before attention, one before the feed-forward network.
    Before,
    /// The same; the second is called `post_attention_norm`.
    BeforeRenamed,
    /// Before and behind both.
    Around,
    /// Behind both.
    Behind,
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
    /// Whether an expert that every token uses stands beside them.
    pub shared: bool,
    /// Whether that one has a gate of its own.
    pub gated: bool,
    /// One block in so many has experts, the last of each; the others have a dense network.
    pub every: usize,
    /// Whether a dense network stands beside them, with norms of its own (Gemma 4). Their gate and up are one stack.
    pub beside: bool,
    /// So many blocks at the beginning have a dense network too.
    pub lead: usize,
    /// How experts are chosen, if not by the largest logits.
    pub routing: Option<Routing>,
}

/// How experts are chosen and weighed, as keys say it.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    /// The function that makes scores of logits, by its number; nothing says it if there is none.
    pub scoring: Option<u32>,
    /// Whether a bias is added to scores when experts are chosen.
    pub bias: bool,
    /// How many groups there are, and how many a token's experts come from.
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
            beside: false,
            lead: 0,
            routing: None,
        }
    }
}

/// Layers that see everything, where they are of another kind (Gemma 4). A quarter of their heads rotates.
#[derive(Clone, Copy, Debug)]
pub struct Global {
    /// One block in so many is one, the last of each.
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
    /// One block in so many has attention, the last of each; the others have a convolution.
    pub every: usize,
    /// Rows that a convolution sees.
    pub taps: usize,
}

impl Shape {
    /// Key and value heads of a block, and the length of one.
    pub fn heads_of(&self, layer: usize) -> (usize, usize) {
        self.global_of(layer).map_or((self.kv_heads, self.head_dim), |g| (g.kv_heads, g.head_dim))
    }

    /// What a block that sees everything is like, if it is one of another kind.
    pub fn global_of(&self, layer: usize) -> Option<Global> {
        self.global.filter(|g| (layer + 1).is_multiple_of(g.every))
    }

    /// Whether a block reads the keys and values of an earlier one.
    pub fn shares(&self, layer: usize) -> bool {
        layer >= self.layers - self.shared_kv
    }
}
