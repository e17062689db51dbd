//! The table of model shapes: published models with their true sizes, and tiny ones for tests.
//!
//! A shape is plain data and says nothing about weights. The tiny ones exist once for each thing the model code must
//! get right, with vocabulary, epsilon and context unlike anyone's default, so that a hard-coded value is seen.

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
}

impl Experts {
    const fn plain(count: usize, used: usize, ff: usize) -> Self {
        Experts { count, used, ff, bias: false, shared: false, gated: false, every: 1 }
    }
}

/// Gated short convolutions.
#[derive(Clone, Copy, Debug)]
pub struct Convs {
    /// One block in so many has attention, the last of each; the others have a convolution.
    pub every: usize,
    /// Rows that a convolution sees.
    pub taps: usize,
}

/// Gated delta nets.
#[derive(Clone, Copy, Debug)]
pub struct Delta {
    /// One block in so many has attention, the last of each; the others have a delta net.
    pub every: usize,
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values.
    pub heads: usize,
    /// Length of one head.
    pub head_dim: usize,
    /// Rows that the short convolution sees.
    pub taps: usize,
}

impl Delta {
    /// Values of all heads.
    pub fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// What goes through the short convolution: queries, keys and values.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.head_dim + self.inner()
    }
}

/// Every shape there is.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "smollm2-135m",
        layers: 30,
        hidden: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ff: 1536,
        vocab: 49152,
        context: 8192,
        rope_base: 1e5,
        tied: true,
        ..LLAMA
    },
    Shape {
        name: "llama-3.2-1b",
        layers: 16,
        hidden: 2048,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        ff: 8192,
        vocab: 128256,
        context: 131072,
        rope_base: 5e5,
        tied: true,
        rope_stretch: Some(Stretch { factor: 32.0, original_context: 8192 }),
        ..LLAMA
    },
    Shape {
        name: "llama-3.1-8b",
        layers: 32,
        hidden: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ff: 14336,
        vocab: 128256,
        context: 131072,
        rope_base: 5e5,
        rope_stretch: Some(Stretch { factor: 8.0, original_context: 8192 }),
        ..LLAMA
    },
    Shape {
        name: "qwen3-0.6b",
        layers: 28,
        hidden: 1024,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        ff: 3072,
        vocab: 151936,
        context: 40960,
        rope_base: 1e6,
        eps: 1e-6,
        tied: true,
        ..QWEN3
    },
    Shape {
        name: "qwen3-30b-a3b",
        layers: 48,
        hidden: 2048,
        heads: 32,
        kv_heads: 4,
        head_dim: 128,
        ff: 6144,
        vocab: 151936,
        context: 40960,
        rope_base: 1e6,
        eps: 1e-6,
        experts: Some(Experts::plain(128, 8, 768)),
        ..QWEN3_MOE
    },
    Shape {
        name: "llama-4-scout",
        arch: "llama4",
        layers: 48,
        hidden: 5120,
        heads: 40,
        kv_heads: 8,
        head_dim: 128,
        ff: 16384,
        vocab: 202048,
        context: 10_485_760,
        rope_base: 5e5,
        eps: 1e-5,
        experts: Some(Experts { shared: true, ..Experts::plain(16, 1, 8192) }),
        keys: &[
            ("interleave_moe_layer_step", Key::U32(1)),
            ("attention.sliding_window", Key::U32(8192)),
            ("attention.temperature_length", Key::U32(8192)),
        ],
        ..GGUF_ONLY
    },
    Shape { name: "tiny-llama", ..LLAMA },
    Shape {
        name: "tiny-llama3",
        kv_heads: 2,
        rope_base: 5e5,
        eps: 1e-3,
        tied: true,
        rope_stretch: Some(Stretch { factor: 8.0, original_context: 64 }),
        ..LLAMA
    },
    Shape { name: "tiny-mistral", hf_class: "MistralForCausalLM", head_dim: 64, kv_heads: 2, rope_base: 1e6, ..LLAMA },
    Shape {
        name: "tiny-qwen2",
        arch: "qwen2",
        hf_class: "Qwen2ForCausalLM",
        heads: 4,
        kv_heads: 1,
        head_dim: 64,
        ff: 768,
        rope_base: 1e6,
        eps: 1e-6,
        qkv_bias: true,
        ..LLAMA
    },
    Shape { name: "tiny-qwen3", eps: 2e-3, tied: true, ..QWEN3 },
    Shape { name: "tiny-qwen3moe", kv_heads: 1, experts: Some(Experts::plain(8, 4, 256)), ..QWEN3_MOE },
    Shape {
        name: "tiny-mixtral",
        hf_class: "MixtralForCausalLM",
        rope_base: 1e6,
        experts: Some(Experts::plain(8, 2, 512)),
        ..LLAMA
    },
    Shape {
        name: "tiny-window",
        hf_class: "MistralForCausalLM",
        rope_base: 3e4,
        keys: &[("attention.sliding_window", Key::U32(24))],
        ..LLAMA
    },
    Shape {
        name: "tiny-gemma2",
        hf_class: "Gemma2ForCausalLM",
        arch: "gemma2",
        layers: 3,
        head_dim: 64,
        heads: 4,
        kv_heads: 2,
        eps: 1e-4,
        tied: true,
        norms: Norms::Around,
        keys: &[
            ("attention.sliding_window", Key::U32(20)),
            ("attn_logit_softcapping", Key::F32(5.0)),
            ("final_logit_softcapping", Key::F32(8.0)),
        ],
        ..LLAMA
    },
    Shape {
        name: "tiny-gemma3",
        hf_class: "Gemma3ForCausalLM",
        arch: "gemma3",
        layers: 7,
        head_dim: 64,
        heads: 4,
        kv_heads: 1,
        rope_base: 1e6,
        eps: 1e-4,
        tied: true,
        qk_norm: QkNorm::Heads,
        norms: Norms::Around,
        keys: &[
            ("attention.sliding_window", Key::U32(20)),
            ("rope.scaling.type", Key::Str("linear")),
            ("rope.scaling.factor", Key::F32(8.0)),
        ],
        ..LLAMA
    },
    Shape {
        name: "tiny-phi3",
        hf_class: "Phi3ForCausalLM",
        arch: "phi3",
        head_dim: 64,
        heads: 4,
        kv_heads: 2,
        fused: true,
        long_factors: true,
        keys: &[
            ("attention.sliding_window", Key::U32(150)),
            ("rope.dimension_count", Key::U32(48)),
            ("rope.scaling.type", Key::Str("longrope")),
            ("rope.scaling.original_context_length", Key::U32(32)),
            ("rope.scaling.attn_factor", Key::F32(1.25)),
        ],
        ..LLAMA
    },
    Shape {
        name: "tiny-olmo2",
        hf_class: "Olmo2ForCausalLM",
        arch: "olmo2",
        rope_base: 5e5,
        eps: 1e-6,
        qk_norm: QkNorm::Whole,
        norms: Norms::Behind,
        ..LLAMA
    },
    Shape {
        name: "tiny-smollm3",
        hf_class: "SmolLM3ForCausalLM",
        arch: "smollm3",
        layers: 5,
        rope_base: 2e6,
        tied: true,
        ..LLAMA
    },
    Shape {
        name: "tiny-granite",
        hf_class: "GraniteForCausalLM",
        arch: "granite",
        tied: true,
        keys: &[
            ("embedding_scale", Key::F32(3.0)),
            ("residual_scale", Key::F32(0.5)),
            ("attention.scale", Key::F32(0.125)),
            ("logit_scale", Key::F32(0.8)),
        ],
        ..LLAMA
    },
    Shape {
        name: "tiny-mistral3",
        hf_class: "Ministral3ForCausalLM",
        arch: "mistral3",
        rope_base: 1e6,
        keys: &[
            ("rope.scaling.type", Key::Str("yarn")),
            ("rope.scaling.factor", Key::F32(16.0)),
            ("rope.scaling.yarn_beta_fast", Key::F32(32.0)),
            ("rope.scaling.yarn_beta_slow", Key::F32(1.0)),
            ("rope.scaling.yarn_log_multiplier", Key::F32(1.0)),
            ("rope.scaling.original_context_length", Key::U32(64)),
            ("attention.temperature_scale", Key::F32(0.1)),
        ],
        ..LLAMA
    },
    Shape {
        name: "tiny-llama4",
        arch: "llama4",
        layers: 5,
        head_dim: 64,
        heads: 4,
        kv_heads: 2,
        rope_base: 5e5,
        experts: Some(Experts { shared: true, every: 2, ..Experts::plain(8, 1, 256) }),
        keys: &[
            ("interleave_moe_layer_step", Key::U32(2)),
            ("attention.sliding_window", Key::U32(48)),
            ("attention.temperature_length", Key::U32(40)),
        ],
        ..GGUF_ONLY
    },
    Shape {
        name: "tiny-gpt-oss",
        arch: "gpt-oss",
        layers: 3,
        head_dim: 64,
        heads: 8,
        kv_heads: 2,
        rope_base: 150000.0,
        qkv_bias: true,
        out_bias: true,
        norms: Norms::BeforeRenamed,
        sinks: true,
        experts: Some(Experts { bias: true, ..Experts::plain(8, 4, 256) }),
        keys: &[
            ("attention.sliding_window", Key::U32(20)),
            ("rope.scaling.type", Key::Str("yarn")),
            ("rope.scaling.factor", Key::F32(32.0)),
            ("rope.scaling.original_context_length", Key::U32(64)),
        ],
        ..GGUF_ONLY
    },
    Shape {
        name: "tiny-qwen35",
        arch: "qwen35",
        layers: 5,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        rope_base: 1e7,
        tied: true,
        qk_norm: QkNorm::Heads,
        norms: Norms::BeforeRenamed,
        delta: Some(Delta { every: 3, key_heads: 4, heads: 8, head_dim: 32, taps: 4 }),
        keys: &[("rope.dimension_count", Key::U32(16))],
        ..GGUF_ONLY
    },
    Shape {
        name: "tiny-qwen35moe",
        arch: "qwen35moe",
        // The last one predicts a second token, and is not run.
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        rope_base: 1e7,
        qk_norm: QkNorm::Heads,
        norms: Norms::BeforeRenamed,
        delta: Some(Delta { every: 2, key_heads: 4, heads: 4, head_dim: 64, taps: 4 }),
        experts: Some(Experts { shared: true, gated: true, ..Experts::plain(8, 3, 256) }),
        keys: &[
            ("rope.dimension_count", Key::U32(16)),
            ("expert_shared_feed_forward_length", Key::U32(256)),
            ("nextn_predict_layers", Key::U32(1)),
        ],
        ..GGUF_ONLY
    },
    Shape {
        name: "tiny-lfm2",
        arch: "lfm2",
        layers: 5,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        rope_base: 1e6,
        tied: true,
        qk_norm: QkNorm::Heads,
        convs: Some(Convs { every: 2, taps: 3 }),
        keys: &[("shortconv.l_cache", Key::U32(3))],
        ..GGUF_ONLY
    },
    // Nothing here is a multiple of 32: it can only be F32, F16 or BF16.
    Shape {
        name: "tiny-odd",
        hidden: 180,
        heads: 6,
        kv_heads: 3,
        head_dim: 8,
        ff: 300,
        vocab: 263,
        context: 500,
        eps: 3e-4,
        ..LLAMA
    },
];

const LLAMA: Shape = Shape {
    name: "",
    arch: "llama",
    hf_class: "LlamaForCausalLM",
    layers: 2,
    hidden: 256,
    heads: 8,
    kv_heads: 4,
    head_dim: 32,
    ff: 512,
    vocab: 272,
    context: 1024,
    rope_base: 1e4,
    eps: 1e-5,
    tied: false,
    qkv_bias: false,
    out_bias: false,
    qk_norm: QkNorm::No,
    norms: Norms::Before,
    fused: false,
    sinks: false,
    long_factors: false,
    keys: &[],
    rope_stretch: None,
    experts: None,
    delta: None,
    convs: None,
};

const GGUF_ONLY: Shape = Shape { hf_class: "", ..LLAMA };

const QWEN3: Shape = Shape {
    arch: "qwen3",
    hf_class: "Qwen3ForCausalLM",
    heads: 4,
    kv_heads: 2,
    head_dim: 128,
    rope_base: 1e6,
    qk_norm: QkNorm::Heads,
    ..LLAMA
};

const QWEN3_MOE: Shape = Shape { arch: "qwen3moe", hf_class: "Qwen3MoeForCausalLM", ..QWEN3 };
