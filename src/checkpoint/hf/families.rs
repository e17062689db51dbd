//! The supported Hugging Face model classes. Each family is one row: names, defaults, and multimodal wrapper.
//!
//! To add a family, add a row to [`FAMILIES`]. If its tensor names differ from [`DECODER`]'s, list the differences in a
//! table of names that comes before `DECODER` in the row. Settings that no other family has are rows in `settings.rs`.

/// A Transformers model class, its GGUF architecture, and how its files differ from Llama's.
pub(super) struct HfFamily {
    /// The class in `architectures` of `config.json`.
    pub class: &'static str,
    /// GGUF's `general.architecture`.
    pub architecture: &'static str,
    /// The multimodal class that contains this text model, and the `model_type` that selects it in `text_config`. A
    /// `text_config` without `model_type` selects the first family with this class.
    pub wrapper: Option<(&'static str, &'static str)>,
    /// Values of `hidden_act` that Firelight computes for this architecture.
    pub activations: &'static [&'static str],
    /// Norm weights are stored minus 1.
    pub norm_plus_one: bool,
    /// Sliding-window and full-attention layers alternate as the architecture defines, unless `layer_types` lists them.
    pub alternating_windows: bool,
    /// The supported `quant_method`.
    pub quantization: Option<&'static str>,
    /// `null` for the window means no window. (GGUF files without the key have the architecture's default window.)
    pub null_disables_window: bool,
    /// Weights are ordered for interleaved RoPE, as in GGUF files, rather than NeoX.
    pub interleaved_rope: bool,
    /// Settings that `config.json` may omit, as JSON.
    pub defaults: &'static str,
    /// Tensor names; the first match counts.
    pub names: &'static [&'static [Rename]],
}

/// A tensor's Transformers name and its GGUF name.
///
/// `{b}` is the block, `{e}` the expert (all experts of a block become one stacked tensor), `{w}` is `weight` or
/// `bias`. GGUF names joined by ` + ` divide the rows into equal runs; joined by ` / ` they take alternating rows
/// (interleaved). A prefix says how the file stores the matrices: `transposed:`, or MXFP4's `blocks:` and `scales:` in
/// separate tensors. An empty GGUF name ignores the tensor.
pub(super) type Rename = (&'static str, &'static str);

pub(super) const FAMILIES: &[HfFamily] = &[
    LLAMA,
    HfFamily {
        class: "Llama4ForCausalLM",
        architecture: "llama4",
        alternating_windows: true,
        null_disables_window: true,
        interleaved_rope: true,
        names: &[LLAMA4, DECODER],
        wrapper: Some(("Llama4ForConditionalGeneration", "llama4_text")),
        ..LLAMA
    },
    HfFamily { class: "MistralForCausalLM", wrapper: Some(("Mistral3ForConditionalGeneration", "mistral")), ..LLAMA },
    HfFamily { class: "MixtralForCausalLM", ..LLAMA },
    HfFamily {
        class: "Ministral3ForCausalLM",
        architecture: "mistral3",
        wrapper: Some(("Mistral3ForConditionalGeneration", "ministral3")),
        ..LLAMA
    },
    HfFamily { class: "SmolLM3ForCausalLM", architecture: "smollm3", ..LLAMA },
    HfFamily { class: "GraniteForCausalLM", architecture: "granite", ..LLAMA },
    HfFamily { class: "Qwen2ForCausalLM", architecture: "qwen2", ..LLAMA },
    HfFamily { class: "Qwen3ForCausalLM", architecture: "qwen3", ..LLAMA },
    HfFamily { class: "Qwen3MoeForCausalLM", architecture: "qwen3moe", ..LLAMA },
    QWEN3_5,
    HfFamily {
        class: "Qwen3_5MoeForCausalLM",
        architecture: "qwen35moe",
        wrapper: Some(("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe_text")),
        ..QWEN3_5
    },
    HfFamily { class: "Qwen3NextForCausalLM", architecture: "qwen3next", wrapper: None, ..QWEN3_5 },
    HfFamily { class: "Phi3ForCausalLM", architecture: "phi3", names: &[FUSED_QKV, DECODER], ..LLAMA },
    HfFamily {
        class: "Starcoder2ForCausalLM",
        architecture: "starcoder2",
        null_disables_window: true,
        activations: &["gelu_pytorch_tanh"],
        names: &[LAYER_NORM_MLP, DECODER],
        ..LLAMA
    },
    HfFamily { class: "Olmo2ForCausalLM", architecture: "olmo2", names: &[POST_NORMS, DECODER], ..LLAMA },
    GEMMA,
    HfFamily {
        class: "Gemma3ForCausalLM",
        architecture: "gemma3",
        defaults: r#"{"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "query_pre_attn_scalar": 256}"#,
        wrapper: Some(("Gemma3ForConditionalGeneration", "gemma3_text")),
        ..GEMMA
    },
    HfFamily {
        class: "Gemma4ForCausalLM",
        architecture: "gemma4",
        norm_plus_one: false,
        names: &[GEMMA4, POST_NORMS, DECODER],
        wrapper: Some(("Gemma4ForConditionalGeneration", "gemma4_text")),
        ..GEMMA
    },
    HfFamily {
        class: "GptOssForCausalLM",
        architecture: "gpt-oss",
        alternating_windows: true,
        quantization: Some("mxfp4"),
        names: &[GPT_OSS, DECODER],
        ..LLAMA
    },
    HfFamily { class: "Lfm2ForCausalLM", architecture: "lfm2", names: &[SHORT_CONV, DECODER], ..LLAMA },
    DEEPSEEK,
    HfFamily { class: "DeepseekV3ForCausalLM", ..DEEPSEEK },
    HfFamily { class: "Glm4MoeLiteForCausalLM", ..DEEPSEEK },
];

const LLAMA: HfFamily = HfFamily {
    class: "LlamaForCausalLM",
    architecture: "llama",
    wrapper: None,
    activations: &["silu", "swish"],
    norm_plus_one: false,
    alternating_windows: false,
    quantization: None,
    null_disables_window: false,
    interleaved_rope: false,
    defaults: "{}",
    names: &[DECODER],
};

const GEMMA: HfFamily = HfFamily {
    class: "Gemma2ForCausalLM",
    architecture: "gemma2",
    wrapper: None,
    activations: &["gelu_pytorch_tanh"],
    norm_plus_one: true,
    alternating_windows: true,
    quantization: None,
    null_disables_window: false,
    interleaved_rope: false,
    defaults: "{}",
    names: &[POST_NORMS, DECODER],
};

const QWEN3_5: HfFamily = HfFamily {
    class: "Qwen3_5ForCausalLM",
    architecture: "qwen35",
    norm_plus_one: true,
    names: &[GATED_DELTA_NET, DECODER],
    wrapper: Some(("Qwen3_5ForConditionalGeneration", "qwen3_5_text")),
    ..LLAMA
};

const DEEPSEEK: HfFamily =
    HfFamily { class: "DeepseekV2ForCausalLM", architecture: "deepseek2", names: &[MLA, DECODER], ..LLAMA };

const LLAMA4: &[Rename] = &[
    ("model.layers.{b}.feed_forward.gate_proj.weight", "blk.{b}.ffn_gate.weight"),
    ("model.layers.{b}.feed_forward.up_proj.weight", "blk.{b}.ffn_up.weight"),
    ("model.layers.{b}.feed_forward.down_proj.weight", "blk.{b}.ffn_down.weight"),
    ("model.layers.{b}.feed_forward.router.weight", "blk.{b}.ffn_gate_inp.weight"),
    (
        "model.layers.{b}.feed_forward.experts.gate_up_proj",
        "transposed: blk.{b}.ffn_gate_exps.weight + blk.{b}.ffn_up_exps.weight",
    ),
    ("model.layers.{b}.feed_forward.experts.down_proj", "transposed: blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.feed_forward.shared_expert.gate_proj.weight", "blk.{b}.ffn_gate_shexp.weight"),
    ("model.layers.{b}.feed_forward.shared_expert.up_proj.weight", "blk.{b}.ffn_up_shexp.weight"),
    ("model.layers.{b}.feed_forward.shared_expert.down_proj.weight", "blk.{b}.ffn_down_shexp.weight"),
];

const SHORT_CONV: &[Rename] = &[
    ("model.embedding_norm.weight", "token_embd_norm.weight"),
    ("model.layers.{b}.operator_norm.weight", "blk.{b}.attn_norm.weight"),
    ("model.layers.{b}.ffn_norm.weight", "blk.{b}.ffn_norm.weight"),
    ("model.layers.{b}.conv.in_proj.weight", "blk.{b}.shortconv.in_proj.weight"),
    ("model.layers.{b}.conv.conv.weight", "blk.{b}.shortconv.conv.weight"),
    ("model.layers.{b}.conv.out_proj.weight", "blk.{b}.shortconv.out_proj.weight"),
    ("model.layers.{b}.self_attn.q_layernorm.weight", "blk.{b}.attn_q_norm.weight"),
    ("model.layers.{b}.self_attn.k_layernorm.weight", "blk.{b}.attn_k_norm.weight"),
    ("model.layers.{b}.self_attn.out_proj.weight", "blk.{b}.attn_output.weight"),
    ("model.layers.{b}.feed_forward.w1.weight", "blk.{b}.ffn_gate.weight"),
    ("model.layers.{b}.feed_forward.w3.weight", "blk.{b}.ffn_up.weight"),
    ("model.layers.{b}.feed_forward.w2.weight", "blk.{b}.ffn_down.weight"),
];

/// Rows of gate and up are interleaved. Published files have blocks and scales; dequantized ones are transposed.
const GPT_OSS: &[Rename] = &[
    ("model.layers.{b}.self_attn.sinks", "blk.{b}.attn_sinks.weight"),
    ("model.layers.{b}.post_attention_layernorm.weight", "blk.{b}.post_attention_norm.weight"),
    ("model.layers.{b}.mlp.router.{w}", "blk.{b}.ffn_gate_inp.{w}"),
    (
        "model.layers.{b}.mlp.experts.gate_up_proj",
        "transposed: blk.{b}.ffn_gate_exps.weight / blk.{b}.ffn_up_exps.weight",
    ),
    (
        "model.layers.{b}.mlp.experts.gate_up_proj_blocks",
        "blocks: blk.{b}.ffn_gate_exps.weight / blk.{b}.ffn_up_exps.weight",
    ),
    (
        "model.layers.{b}.mlp.experts.gate_up_proj_scales",
        "scales: blk.{b}.ffn_gate_exps.weight / blk.{b}.ffn_up_exps.weight",
    ),
    ("model.layers.{b}.mlp.experts.gate_up_proj_bias", "blk.{b}.ffn_gate_exps.bias / blk.{b}.ffn_up_exps.bias"),
    ("model.layers.{b}.mlp.experts.down_proj", "transposed: blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj_blocks", "blocks: blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj_scales", "scales: blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj_bias", "blk.{b}.ffn_down_exps.bias"),
];

const MLA: &[Rename] = &[
    ("model.layers.{b}.self_attn.q_a_proj.{w}", "blk.{b}.attn_q_a.{w}"),
    ("model.layers.{b}.self_attn.q_a_layernorm.weight", "blk.{b}.attn_q_a_norm.weight"),
    ("model.layers.{b}.self_attn.q_b_proj.weight", "blk.{b}.attn_q_b.weight"),
    ("model.layers.{b}.self_attn.kv_a_proj_with_mqa.{w}", "blk.{b}.attn_kv_a_mqa.{w}"),
    ("model.layers.{b}.self_attn.kv_a_layernorm.weight", "blk.{b}.attn_kv_a_norm.weight"),
    ("model.layers.{b}.self_attn.kv_b_proj.weight", "blk.{b}.attn_kv_b.weight"),
    ("model.layers.{b}.mlp.gate.e_score_correction_bias", "blk.{b}.exp_probs_b.bias"),
    ("model.layers.{b}.mlp.shared_experts.gate_proj.weight", "blk.{b}.ffn_gate_shexp.weight"),
    ("model.layers.{b}.mlp.shared_experts.up_proj.weight", "blk.{b}.ffn_up_shexp.weight"),
    ("model.layers.{b}.mlp.shared_experts.down_proj.weight", "blk.{b}.ffn_down_shexp.weight"),
];

const GATED_DELTA_NET: &[Rename] = &[
    ("model.layers.{b}.linear_attn.in_proj_qkvz.weight", "blk.{b}.ssm_in.weight"),
    ("model.layers.{b}.linear_attn.in_proj_qkv.weight", "blk.{b}.attn_qkv.weight"),
    ("model.layers.{b}.linear_attn.in_proj_z.weight", "blk.{b}.attn_gate.weight"),
    ("model.layers.{b}.linear_attn.in_proj_ba.weight", "blk.{b}.ssm_ba.weight"),
    ("model.layers.{b}.linear_attn.in_proj_a.weight", "blk.{b}.ssm_alpha.weight"),
    ("model.layers.{b}.linear_attn.in_proj_b.weight", "blk.{b}.ssm_beta.weight"),
    ("model.layers.{b}.linear_attn.conv1d.weight", "blk.{b}.ssm_conv1d.weight"),
    ("model.layers.{b}.linear_attn.dt_bias", "blk.{b}.ssm_dt.bias"),
    ("model.layers.{b}.linear_attn.A_log", "blk.{b}.ssm_a_log"),
    ("model.layers.{b}.linear_attn.norm.weight", "blk.{b}.ssm_norm.weight"),
    ("model.layers.{b}.linear_attn.out_proj.weight", "blk.{b}.ssm_out.weight"),
    ("model.layers.{b}.mlp.shared_expert_gate.weight", "blk.{b}.ffn_gate_inp_shexp.weight"),
    ("model.layers.{b}.mlp.shared_expert.gate_proj.weight", "blk.{b}.ffn_gate_shexp.weight"),
    ("model.layers.{b}.mlp.shared_expert.up_proj.weight", "blk.{b}.ffn_up_shexp.weight"),
    ("model.layers.{b}.mlp.shared_expert.down_proj.weight", "blk.{b}.ffn_down_shexp.weight"),
];

const POST_NORMS: &[Rename] = &[
    ("model.layers.{b}.post_attention_layernorm.weight", "blk.{b}.post_attention_norm.weight"),
    ("model.layers.{b}.pre_feedforward_layernorm.weight", "blk.{b}.ffn_norm.weight"),
    ("model.layers.{b}.post_feedforward_layernorm.weight", "blk.{b}.post_ffw_norm.weight"),
];

const GEMMA4: &[Rename] = &[
    ("model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    ("model.per_layer_model_projection.weight", "per_layer_model_proj.weight"),
    ("model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    ("model.layers.{b}.per_layer_input_gate.weight", "blk.{b}.inp_gate.weight"),
    ("model.layers.{b}.per_layer_projection.weight", "blk.{b}.proj.weight"),
    ("model.layers.{b}.post_per_layer_input_norm.weight", "blk.{b}.post_norm.weight"),
    ("model.layers.{b}.layer_scalar", "blk.{b}.layer_output_scale.weight"),
    ("model.layers.{b}.router.proj.weight", "blk.{b}.ffn_gate_inp.weight"),
    ("model.layers.{b}.router.scale", "blk.{b}.ffn_gate_inp.scale"),
    ("model.layers.{b}.router.per_expert_scale", "blk.{b}.ffn_down_exps.scale"),
    ("model.layers.{b}.experts.gate_up_proj", "blk.{b}.ffn_gate_up_exps.weight"),
    ("model.layers.{b}.experts.down_proj", "blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.post_feedforward_layernorm_1.weight", "blk.{b}.post_ffw_norm_1.weight"),
    ("model.layers.{b}.pre_feedforward_layernorm_2.weight", "blk.{b}.pre_ffw_norm_2.weight"),
    ("model.layers.{b}.post_feedforward_layernorm_2.weight", "blk.{b}.post_ffw_norm_2.weight"),
];

const FUSED_QKV: &[Rename] = &[
    ("model.layers.{b}.self_attn.qkv_proj.weight", "blk.{b}.attn_qkv.weight"),
    ("model.layers.{b}.mlp.gate_up_proj.weight", "blk.{b}.ffn_up.weight"),
];

const LAYER_NORM_MLP: &[Rename] = &[
    ("model.norm.{w}", "output_norm.{w}"),
    ("model.layers.{b}.input_layernorm.{w}", "blk.{b}.attn_norm.{w}"),
    ("model.layers.{b}.post_attention_layernorm.{w}", "blk.{b}.ffn_norm.{w}"),
    ("model.layers.{b}.mlp.c_fc.{w}", "blk.{b}.ffn_up.{w}"),
    ("model.layers.{b}.mlp.c_proj.{w}", "blk.{b}.ffn_down.{w}"),
];

const DECODER: &[Rename] = &[
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
    ("model.layers.{b}.input_layernorm.weight", "blk.{b}.attn_norm.weight"),
    ("model.layers.{b}.self_attn.q_proj.{w}", "blk.{b}.attn_q.{w}"),
    ("model.layers.{b}.self_attn.k_proj.{w}", "blk.{b}.attn_k.{w}"),
    ("model.layers.{b}.self_attn.v_proj.{w}", "blk.{b}.attn_v.{w}"),
    ("model.layers.{b}.self_attn.o_proj.{w}", "blk.{b}.attn_output.{w}"),
    ("model.layers.{b}.self_attn.q_norm.weight", "blk.{b}.attn_q_norm.weight"),
    ("model.layers.{b}.self_attn.k_norm.weight", "blk.{b}.attn_k_norm.weight"),
    ("model.layers.{b}.post_attention_layernorm.weight", "blk.{b}.ffn_norm.weight"),
    ("model.layers.{b}.mlp.gate_proj.{w}", "blk.{b}.ffn_gate.{w}"),
    ("model.layers.{b}.mlp.up_proj.{w}", "blk.{b}.ffn_up.{w}"),
    ("model.layers.{b}.mlp.down_proj.{w}", "blk.{b}.ffn_down.{w}"),
    // One tensor per expert, or (Transformers 5) one for all experts of a block.
    ("model.layers.{b}.mlp.gate.weight", "blk.{b}.ffn_gate_inp.weight"),
    ("model.layers.{b}.mlp.experts.{e}.gate_proj.weight", "blk.{b}.ffn_gate_exps.weight"),
    ("model.layers.{b}.mlp.experts.{e}.up_proj.weight", "blk.{b}.ffn_up_exps.weight"),
    ("model.layers.{b}.mlp.experts.{e}.down_proj.weight", "blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.gate_up_proj", "blk.{b}.ffn_gate_exps.weight + blk.{b}.ffn_up_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj", "blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.block_sparse_moe.gate.weight", "blk.{b}.ffn_gate_inp.weight"),
    ("model.layers.{b}.block_sparse_moe.experts.{e}.w1.weight", "blk.{b}.ffn_gate_exps.weight"),
    ("model.layers.{b}.block_sparse_moe.experts.{e}.w3.weight", "blk.{b}.ffn_up_exps.weight"),
    ("model.layers.{b}.block_sparse_moe.experts.{e}.w2.weight", "blk.{b}.ffn_down_exps.weight"),
    // A table that old versions saved; nothing reads it.
    ("model.layers.{b}.self_attn.rotary_emb.inv_freq", ""),
];
