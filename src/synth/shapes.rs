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
    /// `architectures[0]` of the Hugging Face `config.json`.
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
    /// Whether each query and key head is normalized.
    pub qk_norm: bool,
    /// Llama 3's stretching of the slow RoPE frequencies.
    pub rope_stretch: Option<Stretch>,
    /// A mixture of experts in place of the dense feed-forward block.
    pub experts: Option<Experts>,
}

/// Parameters of Llama 3's RoPE scaling; its low and high frequency factors are always 1 and 4.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// By how much the slowest frequencies are divided.
    pub factor: f64,
    /// The context length of the first training stage.
    pub original_context: usize,
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
        experts: Some(Experts { count: 128, used: 8, ff: 768 }),
        ..QWEN3_MOE
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
    Shape { name: "tiny-qwen3moe", kv_heads: 1, experts: Some(Experts { count: 8, used: 4, ff: 256 }), ..QWEN3_MOE },
    Shape {
        name: "tiny-mixtral",
        hf_class: "MixtralForCausalLM",
        rope_base: 1e6,
        experts: Some(Experts { count: 8, used: 2, ff: 512 }),
        ..LLAMA
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
    qk_norm: false,
    rope_stretch: None,
    experts: None,
};

const QWEN3: Shape = Shape {
    arch: "qwen3",
    hf_class: "Qwen3ForCausalLM",
    heads: 4,
    kv_heads: 2,
    head_dim: 128,
    rope_base: 1e6,
    qk_norm: true,
    ..LLAMA
};

const QWEN3_MOE: Shape = Shape { arch: "qwen3moe", hf_class: "Qwen3MoeForCausalLM", ..QWEN3 };
