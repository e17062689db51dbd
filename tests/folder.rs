//! Hugging Face folders: each family's settings and tensor names, shards, experts, and errors.

use firelight::Result;
use firelight::checkpoint::{Checkpoint, GgufArray, GgufValue, Source};
use firelight::dtype::DType;
use pollster::block_on;
use serde_json::{Value as Json, json};

/// A safetensors file of F32 tensors. Value number `n` (over all tensors, in order) is `first + n`.
fn safetensors(tensors: &[(String, Vec<u64>)], first: u32) -> Vec<u8> {
    let mut head = serde_json::Map::new();
    head.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (name, shape) in tensors {
        let start = data.len();
        for _ in 0..shape.iter().product::<u64>() {
            data.extend((first as f32 + (data.len() / 4) as f32).to_le_bytes());
        }
        head.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    with_head(&Json::Object(head).to_string(), &data)
}

fn with_head(head: &str, data: &[u8]) -> Vec<u8> {
    [&(head.len() as u64).to_le_bytes(), head.as_bytes(), data].concat()
}

fn named(tensors: &[(&str, &[u64])]) -> Vec<(String, Vec<u64>)> {
    tensors.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
}

const D: u64 = 8;
const FF: u64 = 6;

/// The tensors of a one-layer model without its feed-forward network.
fn attention() -> Vec<(String, Vec<u64>)> {
    named(&[
        ("model.embed_tokens.weight", &[10, D]),
        ("lm_head.weight", &[10, D]),
        ("model.norm.weight", &[D]),
        ("model.layers.0.input_layernorm.weight", &[D]),
        ("model.layers.0.post_attention_layernorm.weight", &[D]),
        ("model.layers.0.self_attn.q_proj.weight", &[D, D]),
        ("model.layers.0.self_attn.k_proj.weight", &[D / 2, D]),
        ("model.layers.0.self_attn.v_proj.weight", &[D / 2, D]),
        ("model.layers.0.self_attn.o_proj.weight", &[D, D]),
    ])
}

fn dense() -> Vec<(String, Vec<u64>)> {
    let feed_forward = named(&[
        ("model.layers.0.mlp.gate_proj.weight", &[FF, D]),
        ("model.layers.0.mlp.up_proj.weight", &[FF, D]),
        ("model.layers.0.mlp.down_proj.weight", &[D, FF]),
    ]);
    [attention(), feed_forward].concat()
}

/// Experts as separate tensors, last expert first.
fn experts(prefix: &str, [gate, up, down]: [&str; 3], count: u64) -> Vec<(String, Vec<u64>)> {
    let router = vec![(format!("{prefix}.gate.weight"), vec![count, D])];
    let each = (0..count).rev().flat_map(|e| {
        [(gate, vec![FF, D]), (up, vec![FF, D]), (down, vec![D, FF])]
            .map(|(name, shape)| (format!("{prefix}.experts.{e}.{name}.weight"), shape))
    });
    [attention(), router, each.collect()].concat()
}

fn config(class: &str, more: Json) -> Json {
    let mut config = json!({
        "architectures": [class], "hidden_act": "silu", "num_hidden_layers": 1, "max_position_embeddings": 4096,
        "hidden_size": D, "intermediate_size": FF, "num_attention_heads": 2, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6, "vocab_size": 10, "tie_word_embeddings": false, "rope_theta": 10000.0,
        "torch_dtype": "float32", "sliding_window": null,
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn folder(config: &Json, weights: Vec<u8>, more: &[(&str, &str)]) -> Result<Checkpoint> {
    let mut sources = vec![Source::bytes("hub/tiny/model.safetensors", weights)];
    for (name, text) in more {
        sources.push(Source::bytes(format!("hub/tiny/{name}"), text.as_bytes().to_vec()));
    }
    sources.push(Source::bytes("hub/tiny/config.json", config.to_string().into_bytes()));
    block_on(Checkpoint::from_sources(sources))
}

fn floats(model: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = model.tensor(name).unwrap();
    let bytes = block_on(model.read(tensor, 0..tensor.bytes())).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The number of a tensor's first value in [`safetensors`].
fn first(tensors: &[(String, Vec<u64>)], name: &str) -> usize {
    let before = tensors.iter().take_while(|(other, _)| other != name);
    before.map(|(_, shape)| shape.iter().product::<u64>() as usize).sum()
}

fn run(from: usize, count: usize) -> Vec<f32> {
    (from..from + count).map(|n| n as f32).collect()
}

const DENSE: [&str; 12] = [
    "token_embd.weight",
    "output.weight",
    "output_norm.weight",
    "blk.0.attn_norm.weight",
    "blk.0.ffn_norm.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_k.weight",
    "blk.0.attn_v.weight",
    "blk.0.attn_output.weight",
    "blk.0.ffn_gate.weight",
    "blk.0.ffn_up.weight",
    "blk.0.ffn_down.weight",
];

#[test]
fn dense_families() {
    let biases: &[(&str, &[u64])] = &[
        ("model.layers.0.self_attn.q_proj.bias", &[D]),
        ("model.layers.0.self_attn.k_proj.bias", &[D / 2]),
        ("model.layers.0.self_attn.v_proj.bias", &[D / 2]),
    ];
    let norms: &[(&str, &[u64])] =
        &[("model.layers.0.self_attn.q_norm.weight", &[4]), ("model.layers.0.self_attn.k_norm.weight", &[4])];
    let none: &[(&str, &[u64])] = &[];
    for (class, architecture, more, names) in [
        ("LlamaForCausalLM", "llama", none, &[][..]),
        ("MistralForCausalLM", "llama", none, &[]),
        ("Qwen2ForCausalLM", "qwen2", biases, &["blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias"]),
        ("Qwen3ForCausalLM", "qwen3", norms, &["blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight"]),
    ] {
        let tensors = [dense(), named(more)].concat();
        let model = folder(&config(class, json!({"head_dim": 4})), safetensors(&tensors, 0), &[]).unwrap();
        let expected: Vec<&str> = DENSE.iter().chain(names).copied().collect();
        assert_eq!(model.tensors.keys().collect::<Vec<_>>(), expected, "{class}");

        let metadata = &model.metadata;
        assert_eq!(metadata.get_str("general.architecture").unwrap(), Some(architecture));
        assert_eq!(metadata.get_str("general.name").unwrap(), Some("tiny"));
        for (key, value) in [
            ("block_count", 1),
            ("context_length", 4096),
            ("embedding_length", 8),
            ("feed_forward_length", 6),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 4),
            ("attention.value_length", 4),
            ("vocab_size", 10),
            ("rope.dimension_count", 4),
        ] {
            assert_eq!(metadata.get(&format!("{architecture}.{key}")), Some(&GgufValue::U32(value)), "{class} {key}");
        }
        let float = |key: &str| metadata.get_f32(&format!("{architecture}.{key}")).unwrap();
        assert_eq!(float("attention.layer_norm_rms_epsilon"), Some(1e-6));
        assert_eq!(float("rope.freq_base"), Some(10_000.0));
        assert_eq!(metadata.get_str(&format!("{architecture}.rope.pairing")).unwrap(), Some("halves"));
        assert_eq!(metadata.len(), 2 + 10 + 3, "{class}: no other keys: {metadata:?}");

        let down = model.tensor("blk.0.ffn_down.weight").unwrap();
        assert_eq!((down.dims.as_slice(), down.dtype), (&[FF, D][..], DType::F32));
        let from = first(&tensors, "model.layers.0.mlp.down_proj.weight");
        assert_eq!(floats(&model, "blk.0.ffn_down.weight"), run(from, 48));
    }
}

#[test]
fn experts_are_stacked_in_order() {
    let mixtral = ("MixtralForCausalLM", "llama", "num_local_experts", "block_sparse_moe", ["w1", "w3", "w2"]);
    let qwen = ("Qwen3MoeForCausalLM", "qwen3moe", "num_experts", "mlp", ["gate_proj", "up_proj", "down_proj"]);
    for (class, architecture, setting, prefix, names) in [mixtral, qwen] {
        let prefix = format!("model.layers.0.{prefix}");
        let more = json!({setting: 12, "num_experts_per_tok": 2, "moe_intermediate_size": FF, "norm_topk_prob": true});
        let config = config(class, more);
        let tensors = experts(&prefix, names, 12);
        let model = folder(&config, safetensors(&tensors, 0), &[]).unwrap();
        let count = |key: &str| model.metadata.get_u32(&format!("{architecture}.{key}")).unwrap();
        assert_eq!((count("expert_count"), count("expert_used_count")), (Some(12), Some(2)));
        assert_eq!(count("expert_feed_forward_length"), Some(6));
        assert_eq!(model.metadata.get_bool(&format!("{architecture}.expert_weights_norm")).unwrap(), Some(true));
        assert_eq!(model.tensors.len(), 9 + 1 + 3);
        assert_eq!(model.tensor("blk.0.ffn_gate_inp.weight").unwrap().dims, [D, 12]);
        for (name, gguf, dims) in [
            (names[0], "blk.0.ffn_gate_exps.weight", [D, FF, 12]),
            (names[1], "blk.0.ffn_up_exps.weight", [D, FF, 12]),
            (names[2], "blk.0.ffn_down_exps.weight", [FF, D, 12]),
        ] {
            assert_eq!(model.tensor(gguf).unwrap().dims, dims);
            let expected: Vec<f32> = (0..12)
                .flat_map(|e| run(first(&tensors, &format!("{prefix}.experts.{e}.{name}.weight")), 48))
                .collect();
            assert_eq!(floats(&model, gguf), expected, "{class} {gguf}");
        }
        // A range across two experts: the last row of the first, the first of the second.
        let gate = model.tensor("blk.0.ffn_gate_exps.weight").unwrap();
        let across = block_on(model.read(gate, 47 * 4..49 * 4)).unwrap();
        let all = floats(&model, "blk.0.ffn_gate_exps.weight");
        assert_eq!(across, [all[47].to_le_bytes(), all[48].to_le_bytes()].concat());

        let mut missing = tensors.clone();
        missing.remove(index_of(&tensors, &format!("{prefix}.experts.7.{}.weight", names[1])));
        let message = folder(&config, safetensors(&missing, 0), &[]).unwrap_err().to_string();
        assert!(message.contains("blk.0.ffn_up_exps.weight should have 12 experts, 11 were found"), "{message}");
    }
}

fn index_of(tensors: &[(String, Vec<u64>)], name: &str) -> usize {
    tensors.iter().position(|(other, _)| other == name).unwrap()
}

#[test]
fn fused_experts_are_split() {
    let fused = named(&[
        ("model.layers.0.mlp.gate.weight", &[3, D]),
        ("model.layers.0.mlp.experts.gate_up_proj", &[3, 2 * FF, D]),
        ("model.layers.0.mlp.experts.down_proj", &[3, D, FF]),
    ]);
    let tensors = [attention(), fused].concat();
    let config = config("Qwen3MoeForCausalLM", json!({"num_experts": 3, "num_experts_per_tok": 2}));
    let model = folder(&config, safetensors(&tensors, 0), &[]).unwrap();
    let from = first(&tensors, "model.layers.0.mlp.experts.gate_up_proj");
    for (half, name) in [(0, "blk.0.ffn_gate_exps.weight"), (48, "blk.0.ffn_up_exps.weight")] {
        assert_eq!(model.tensor(name).unwrap().dims, [D, FF, 3]);
        let expected: Vec<f32> = (0..3).flat_map(|e| run(from + 96 * e + half, 48)).collect();
        assert_eq!(floats(&model, name), expected, "{name}");
    }
    assert_eq!(model.tensor("blk.0.ffn_down_exps.weight").unwrap().dims, [FF, D, 3]);
    let down = first(&tensors, "model.layers.0.mlp.experts.down_proj");
    assert_eq!(floats(&model, "blk.0.ffn_down_exps.weight"), run(down, 3 * 48));
}

/// MLA: kv_b is split into the matrices of keys and values, of which each head has the keys' rows first. MTP layers are
/// skipped.
#[test]
fn latent_attention() {
    let tensors = named(&[
        ("model.embed_tokens.weight", &[10, D]),
        ("lm_head.weight", &[10, D]),
        ("model.norm.weight", &[D]),
        ("model.layers.0.self_attn.kv_b_proj.weight", &[2 * (2 + 1), 3]),
        ("model.layers.0.mlp.gate.e_score_correction_bias", &[4]),
        ("model.layers.1.eh_proj.weight", &[D, D]),
    ]);
    let settings = json!({
        "kv_lora_rank": 3, "qk_nope_head_dim": 2, "qk_rope_head_dim": 4, "v_head_dim": 1, "n_group": 2, "topk_group": 1,
        "num_nextn_predict_layers": 1, "rope_scaling": {
            "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512, "mscale": 0.7, "mscale_all_dim": 0.7},
    });
    let model = folder(&config("DeepseekV3ForCausalLM", settings.clone()), safetensors(&tensors, 0), &[]).unwrap();
    let at = first(&tensors, "model.layers.0.self_attn.kv_b_proj.weight") as f32;
    let keys = [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 9.0, 12.0, 10.0, 13.0, 11.0, 14.0].map(|n| at + n);
    assert_eq!(
        (floats(&model, "blk.0.attn_k_b.weight"), &model.tensors["blk.0.attn_k_b.weight"].dims[..]),
        (keys.into(), &[2, 3, 2][..])
    );
    let values = [6.0, 7.0, 8.0, 15.0, 16.0, 17.0].map(|n| at + n);
    assert_eq!(
        (floats(&model, "blk.0.attn_v_b.weight"), &model.tensors["blk.0.attn_v_b.weight"].dims[..]),
        (values.into(), &[3, 1, 2][..])
    );
    // A range of a transposed matrix equals that range of the whole.
    let tensor = &model.tensors["blk.0.attn_k_b.weight"];
    let bytes = block_on(model.read(tensor, 16..32)).unwrap();
    assert_eq!(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>(), keys[4..8]);
    assert_eq!(model.tensors.len(), 6, "{:?}", model.tensors.keys());
    let u32 = |key: &str| model.metadata.get_u32(&format!("deepseek2.{key}")).unwrap();
    assert_eq!(u32("attention.key_length_mla"), Some(6));
    assert_eq!((u32("rope.dimension_count"), u32("expert_group_count")), (Some(4), Some(2)));
    assert_eq!(model.metadata.get("deepseek2.rope.pairing"), None);
    let scale = model.metadata.get_f32("deepseek2.attention.scale").unwrap().unwrap();
    assert!((scale - (1.0 + 0.07 * 8f32.ln()).powi(2) / 6f32.sqrt()).abs() < 1e-6, "{scale}");
    // Head sizes that contradict the settings are an error.
    let mut other = settings;
    other["v_head_dim"] = 2.into();
    let error = folder(&config("DeepseekV3ForCausalLM", other), safetensors(&tensors, 0), &[]).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("attn_kv_b"), "{error}");
}

#[test]
fn rotary_settings() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let mut llama3_of_5 = llama3.clone();
    llama3_of_5["rope_theta"] = json!(500_000.0);
    for more in [
        json!({"rope_theta": 500_000.0, "rope_scaling": llama3, "head_dim": 128}),
        json!({"rope_theta": null, "rope_parameters": llama3_of_5, "head_dim": 128}),
    ] {
        let model = folder(&config("LlamaForCausalLM", more), safetensors(&dense(), 0), &[]).unwrap();
        let factors = model.metadata.get_f32s("llama.rope.freq_factors").unwrap().unwrap();
        assert_eq!(factors.len(), 64);
        assert_eq!((factors[0], factors[28], factors[35], factors[63]), (1.0, 1.0, 8.0, 8.0));
        // Pair 30: wavelength 2 pi 500000^(60/128) = 2948.4, 2.7785 turns in 8192, smooth 0.59282.
        assert!((factors[30] - 1.0 / (0.407_18 / 8.0 + 0.592_82)).abs() < 1e-3, "{}", factors[30]);
        assert_eq!(model.metadata.get_f32("llama.rope.freq_base").unwrap(), Some(500_000.0));
        assert_eq!(model.metadata.get("llama.rope.scaling.type"), None);
    }

    let yarn = json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0,
        "original_max_position_embeddings": 32768, "beta_fast": 32.0, "attention_factor": 1.138_629_436_111_989}});
    let linear = json!({"rope_scaling": {"type": "linear", "factor": 2}});
    type Keys = &'static [(&'static str, GgufValue)];
    for (more, keys) in [
        (
            yarn,
            &[
                ("scaling.factor", GgufValue::F32(4.0)),
                ("scaling.original_context_length", GgufValue::U32(32_768)),
                ("scaling.yarn_beta_fast", GgufValue::F32(32.0)),
                ("freq_base", GgufValue::F32(1e6)),
                ("scaling.yarn_attn_factor", GgufValue::F32(1.138_629_4)),
            ] as Keys,
        ),
        (linear, &[("scaling.factor", GgufValue::F32(2.0)), ("freq_base", GgufValue::F32(1e4))]),
        (
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}}),
            &[("freq_base", GgufValue::F32(77.0))],
        ),
        (json!({"rope_theta": 1_000_000, "rope_scaling": null}), &[("freq_base", GgufValue::F32(1e6))]),
        (json!({"partial_rotary_factor": 0.5}), &[("dimension_count", GgufValue::U32(2))]),
    ] {
        let model = folder(&config("Qwen2ForCausalLM", more), safetensors(&dense(), 0), &[]).unwrap();
        for (key, value) in keys {
            assert_eq!(model.metadata.get(&format!("qwen2.rope.{key}")), Some(value), "{key}");
        }
    }
}

#[test]
fn sliding_windows() {
    let two_layers: Vec<_> =
        [dense(), dense().split_off(3).into_iter().map(|(name, shape)| (name.replace(".0.", ".1."), shape)).collect()]
            .concat();
    let both = |layers: [bool; 2]| Some(GgufValue::Array(GgufArray::Bool(layers.to_vec())));
    for (more, window, pattern) in [
        (json!({"sliding_window": 64}), Some(GgufValue::U32(64)), None),
        (json!({"sliding_window": 64, "use_sliding_window": false}), None, None),
        (
            json!({"sliding_window": 64, "use_sliding_window": true, "max_window_layers": 1}),
            Some(GgufValue::U32(64)),
            both([false, true]),
        ),
        (
            json!({"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}),
            Some(GgufValue::U32(64)),
            both([true, false]),
        ),
        (json!({"sliding_window": 64, "layer_types": ["full_attention", "full_attention"]}), None, None),
    ] {
        let mut config = config("MistralForCausalLM", more);
        config["num_hidden_layers"] = json!(2);
        let model = folder(&config, safetensors(&two_layers, 0), &[]).unwrap();
        assert_eq!(model.tensors.len(), 3 + 2 * 9);
        assert_eq!(model.metadata.get("llama.attention.sliding_window"), window.as_ref());
        assert_eq!(model.metadata.get("llama.attention.sliding_window_pattern"), pattern.as_ref());
    }
}

/// Settings of later families, as in their published files (Transformers 4).
#[test]
fn settings_of_later_families() {
    let gelu = json!({"hidden_act": "gelu_pytorch_tanh", "sliding_window": 512, "query_pre_attn_scalar": 16});
    let merged = |more: Json| {
        let mut all = gelu.clone();
        more.as_object().unwrap().iter().for_each(|(key, value)| all[key] = value.clone());
        all
    };
    let long = json!({
        "original_max_position_embeddings": 1024,
        "rope_scaling": {"type": "longrope", "short_factor": [1.5, 2.0], "long_factor": [3, 4]},
    });
    let fused = named(&[
        ("model.layers.0.self_attn.qkv_proj.weight", &[2 * D, D]),
        ("model.layers.0.mlp.gate_up_proj.weight", &[2 * FF, D]),
    ]);
    let whole = dense()
        .into_iter()
        .filter(|(name, _)| !["q_", "k_", "v_", "gate", "up"].iter().any(|p| name.contains(&format!(".{p}"))));
    let phi: Vec<_> = whole.chain(fused).collect();
    let four = json!({
        "embedding_multiplier": 12.0, "residual_multiplier": 0.25, "attention_multiplier": 0.5, "logits_scaling": 8.0,
    });
    for (class, architecture, tensors, more, keys) in [
        (
            "Gemma2ForCausalLM",
            "gemma2",
            dense(),
            merged(json!({"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0})),
            vec![
                ("attn_logit_softcapping", GgufValue::F32(50.0)),
                ("final_logit_softcapping", GgufValue::F32(30.0)),
                ("attention.sliding_window", GgufValue::U32(512)),
                ("attention.scale", GgufValue::F32(0.25)),
                ("norm_plus", GgufValue::F32(1.0)),
            ],
        ),
        (
            "Gemma3ForCausalLM",
            "gemma3",
            dense(),
            merged(json!({"sliding_window_pattern": 6, "rope_local_base_freq": 9000.0})),
            vec![
                ("attention.sliding_window_pattern", GgufValue::U32(6)),
                ("rope.freq_base_swa", GgufValue::F32(9000.0)),
                ("rope.freq_base", GgufValue::F32(10000.0)),
            ],
        ),
        (
            "Phi3ForCausalLM",
            "phi3",
            phi,
            long,
            vec![
                ("rope.scaling.type", "longrope".into()),
                ("rope.scaling.original_context_length", GgufValue::U32(1024)),
                // sqrt(1 + ln 4 / ln 1024)
                ("rope.scaling.attn_factor", GgufValue::F32(1.2f32.sqrt())),
                ("rope.freq_factors", vec![1.5f32, 2.0].into()),
                ("rope.freq_factors_long", vec![3.0f32, 4.0].into()),
            ],
        ),
        (
            "GraniteForCausalLM",
            "granite",
            dense(),
            four,
            vec![
                ("embedding_scale", GgufValue::F32(12.0)),
                ("residual_scale", GgufValue::F32(0.25)),
                ("attention.scale", GgufValue::F32(0.5)),
                ("logit_scale", GgufValue::F32(8.0)),
            ],
        ),
    ] {
        let model = folder(&config(class, more), safetensors(&tensors, 0), &[]).unwrap();
        for (key, value) in keys {
            assert_eq!(model.metadata.get(&format!("{architecture}.{key}")), Some(&value), "{class} {key}");
        }
        let second = if architecture.starts_with("gemma") { "post_attention_norm" } else { "ffn_norm" };
        assert!(model.tensors.contains_key(&format!("blk.0.{second}.weight")), "{class}");
        assert_eq!(model.tensors.contains_key("blk.0.attn_qkv.weight"), architecture == "phi3");
    }
}

/// The first files of LFM2 have special settings for widths and attention layers, and convolution weights with an
/// additional dimension of 1.
#[test]
fn short_convolutions() {
    let tensors = named(&[
        ("model.embed_tokens.weight", &[10, D]),
        ("model.embedding_norm.weight", &[D]),
        ("model.layers.0.operator_norm.weight", &[D]),
        ("model.layers.0.conv.conv.weight", &[D, 1, 3]),
        ("model.layers.1.self_attn.q_layernorm.weight", &[4]),
        ("model.layers.1.self_attn.out_proj.weight", &[D, D]),
        ("model.layers.1.feed_forward.w3.weight", &[FF, D]),
    ]);
    let settings = json!({
        "num_hidden_layers": 2, "full_attn_idxs": [1], "conv_L_cache": 3, "block_ff_dim": 12288, "norm_eps": 1e-5,
        "intermediate_size": null, "rms_norm_eps": null, "hidden_act": null, "tie_word_embeddings": null,
    });
    let model = folder(&config("Lfm2ForCausalLM", settings.clone()), safetensors(&tensors, 0), &[]).unwrap();
    let key = |key: &str| model.metadata.get(&format!("lfm2.{key}"));
    assert_eq!(key("attention.head_count_kv"), Some(&vec![0i32, 1].into()));
    assert_eq!(key("feed_forward_length"), Some(&GgufValue::U32(12288)));
    assert_eq!(key("attention.layer_norm_rms_epsilon"), Some(&GgufValue::F32(1e-5)));
    let names = [
        "token_embd.weight",
        "token_embd_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.0.shortconv.conv.weight",
        "blk.1.attn_q_norm.weight",
        "blk.1.attn_output.weight",
        "blk.1.ffn_up.weight",
    ];
    assert_eq!(model.tensors.keys().collect::<Vec<_>>(), names);
    assert_eq!(model.tensors["blk.0.shortconv.conv.weight"].dims, [3, D]);
    // Newer files list each layer's type.
    let mut listed = settings.clone();
    (listed["full_attn_idxs"], listed["layer_types"]) = (json!(null), json!(["full_attention", "conv"]));
    let model = folder(&config("Lfm2ForCausalLM", listed), safetensors(&tensors, 0), &[]).unwrap();
    assert_eq!(model.metadata.get("lfm2.attention.head_count_kv"), Some(&vec![1i32, 0].into()));
    let mut neither = settings;
    neither["full_attn_idxs"] = json!(null);
    let error = folder(&config("Lfm2ForCausalLM", neither), safetensors(&tensors, 0), &[]).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("config.json has no full_attn_idxs"), "{error}");
}

/// Asserts that every range of a tensor equals that range of the whole.
fn check_parts(model: &Checkpoint, name: &str) {
    let tensor = model.tensor(name).unwrap();
    let read = |from, to| block_on(model.read(tensor, from..to)).unwrap();
    let all = read(0, tensor.bytes());
    for from in 0..=all.len() {
        for to in [from, from + 1, from + 7, all.len()].into_iter().filter(|to| (from..=all.len()).contains(to)) {
            assert_eq!(read(from as u64, to as u64), all[from..to], "{name} {from}..{to}");
        }
    }
}

/// gpt-oss in float types: matrices are transposed, and gate and up are interleaved.
#[test]
fn transposed_experts() {
    let tensors = named(&[
        ("model.embed_tokens.weight", &[10, D]),
        ("lm_head.weight", &[10, D]),
        ("model.layers.0.self_attn.sinks", &[2]),
        ("model.layers.0.mlp.router.bias", &[3]),
        ("model.layers.0.mlp.experts.gate_up_proj", &[3, 4, 2 * 5]),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", &[3, 2 * 5]),
        ("model.layers.0.mlp.experts.down_proj", &[3, 5, 4]),
        ("model.layers.0.mlp.experts.down_proj_bias", &[3, 4]),
    ]);
    let settings = json!({"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 16, "swiglu_limit": 7.0});
    let model = folder(&config("GptOssForCausalLM", settings.clone()), safetensors(&tensors, 0), &[]).unwrap();
    // The value of expert e at row r and column c of a matrix with these rows and columns.
    let at = |name: &str, [rows, cols]: [usize; 2], [e, r, c]: [usize; 3]| {
        (first(&tensors, &format!("model.layers.0.mlp.experts.{name}")) + (e * rows + r) * cols + c) as f32
    };
    let all = |[rows, cols]: [usize; 2]| {
        (0..3).flat_map(move |e| (0..rows).flat_map(move |r| (0..cols).map(move |c| [e, r, c])))
    };
    for (half, part) in ["gate", "up"].into_iter().enumerate() {
        let name = format!("blk.0.ffn_{part}_exps.weight");
        assert_eq!(model.tensor(&name).unwrap().dims, [4, 5, 3]);
        let want: Vec<f32> = all([5, 4]).map(|[e, r, c]| at("gate_up_proj", [4, 10], [e, c, 2 * r + half])).collect();
        assert_eq!(floats(&model, &name), want, "{name}");
        check_parts(&model, &name);
        let name = format!("blk.0.ffn_{part}_exps.bias");
        assert_eq!(model.tensor(&name).unwrap().dims, [5, 3]);
        let want: Vec<f32> =
            all([1, 5]).map(|[e, _, c]| at("gate_up_proj_bias", [1, 10], [e, 0, 2 * c + half])).collect();
        assert_eq!(floats(&model, &name), want, "{name}");
        check_parts(&model, &name);
    }
    let want: Vec<f32> = all([4, 5]).map(|[e, r, c]| at("down_proj", [5, 4], [e, c, r])).collect();
    assert_eq!(floats(&model, "blk.0.ffn_down_exps.weight"), want);
    assert_eq!(model.tensor("blk.0.ffn_down_exps.bias").unwrap().dims, [4, 3]);
    assert!(
        ["blk.0.attn_sinks.weight", "blk.0.ffn_gate_inp.bias"].iter().all(|name| model.tensors.contains_key(*name))
    );
    assert_eq!(model.metadata.get("gpt-oss.attention.sliding_window"), Some(&GgufValue::U32(16)));
    assert_eq!(model.metadata.get("gpt-oss.attention.sliding_window_pattern"), None);
    let mut other = settings;
    other["swiglu_limit"] = json!(5);
    let error = folder(&config("GptOssForCausalLM", other), safetensors(&tensors, 0), &[]).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("swiglu_limit is 5, not 7"), "{error}");
}

/// A transposed matrix that is too large to be read at once.
#[test]
fn large_transposed_experts() {
    let cols = (1 << 20) + 4;
    let name = "model.layers.0.mlp.experts.down_proj";
    let settings = json!({"num_local_experts": 1, "num_experts_per_tok": 1, "tie_word_embeddings": null});
    let weights = safetensors(&named(&[(name, &[1, 5, cols])]), 0);
    let model = folder(&config("GptOssForCausalLM", settings), weights, &[]).unwrap();
    let tensor = model.tensor("blk.0.ffn_down_exps.weight").unwrap();
    assert_eq!((&tensor.dims[..], tensor.bytes_at_once()), (&[5, cols, 1][..], 20 * cols));
    // A range that begins within the third row from the end.
    let bytes = block_on(model.read(tensor, 20 * cols - 48..20 * cols)).unwrap();
    let got: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let want = (3..15).map(|n| ((n % 5) * cols + cols - 3 + n / 5) as f32).collect::<Vec<_>>();
    assert_eq!(got, want);
}

/// Llama 4: the matrices of experts are transposed, gate's columns before up's; the settings are Scout's.
#[test]
fn llama4() {
    let part = |name: &str| format!("language_model.model.layers.0.feed_forward.{name}");
    let tensors = [
        ("language_model.model.embed_tokens.weight".into(), vec![10, D]),
        ("language_model.lm_head.weight".into(), vec![10, D]),
        (part("router.weight"), vec![3, D]),
        (part("experts.gate_up_proj"), vec![3, 4, 2 * 5]),
        (part("experts.down_proj"), vec![3, 5, 4]),
        (part("shared_expert.up_proj.weight"), vec![FF, D]),
        ("vision_model.class_embedding".into(), vec![2]),
    ];
    let text = config(
        "",
        json!({
        "model_type": "llama4_text", "num_local_experts": 3, "num_experts_per_tok": 1, "intermediate_size_mlp": 16,
        "attention_chunk_size": 64, "floor_scale": 8192, "attn_scale": 0.2, "attn_temperature_tuning": 4,
        "interleave_moe_layer_step": 1, "moe_layers": [0], "no_rope_layers": [1, 1, 1, 0], "use_qk_norm": true,
        "rope_scaling": {"rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.0, "high_freq_factor": 1.0,
            "original_max_position_embeddings": 8}}),
    );
    let open = |changes: Json| {
        let mut text = text.clone();
        changes.as_object().unwrap().iter().for_each(|(key, value)| text[key] = value.clone());
        let whole = json!({"architectures": ["Llama4ForConditionalGeneration"], "text_config": text});
        folder(&whole, safetensors(&tensors, 0), &[]).map_err(|error| error.to_string())
    };
    let model = open(json!({})).unwrap();
    let names = ["ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_up_shexp"];
    let names = names.map(|name| format!("blk.0.{name}.weight"));
    assert_eq!(model.tensors.keys().skip(2).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    let from = first(&tensors, &part("experts.gate_up_proj"));
    for (half, name) in [(0, &names[1]), (5, &names[2])] {
        assert_eq!(model.tensor(name).unwrap().dims, [4, 5, 3]);
        let column = |e: usize, r: usize| (0..4).map(move |c| (from + (e * 4 + c) * 10 + half + r) as f32);
        let want: Vec<f32> = (0..3).flat_map(|e| (0..5).flat_map(move |r| column(e, r))).collect();
        assert_eq!(floats(&model, name), want, "{name}");
        check_parts(&model, name);
    }
    for (key, value) in [
        ("feed_forward_length", Some(GgufValue::U32(16))),
        ("attention.sliding_window", Some(GgufValue::U32(64))),
        ("attention.temperature_length", Some(GgufValue::U32(8192))),
        ("attention.temperature_scale", Some(GgufValue::F32(0.2))),
        ("attention.qk_norm", Some(GgufValue::Bool(true))),
        ("rope.freq_factors", Some(vec![1.0f32, 16.0].into())),
        ("rope.pairing", None),
    ] {
        assert_eq!(model.metadata.get(&format!("llama4.{key}")), value.as_ref(), "{key}");
    }
    // Small variants have neither chunked attention nor NoPE layers.
    let small = open(json!({"attention_chunk_size": null, "no_rope_layers": [1, 1, 1, 1]})).unwrap();
    assert_eq!(small.metadata.get("llama4.attention.sliding_window"), Some(&GgufValue::U32(0)));
    for (changes, expected) in [
        (json!({"no_rope_layers": [1, 0, 1, 0]}), "no_rope_layers is not the usual one"),
        (json!({"attn_temperature_tuning": false}), "attn_temperature_tuning is not the usual one"),
    ] {
        let message = open(changes).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

/// gpt-oss as published: MXFP4 with separate scales.
#[test]
fn experts_in_mxfp4() {
    let (blocks, scales) =
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "model.layers.0.mlp.experts.gate_up_proj_scales");
    let file = |tensors: &[(&str, &[u64])]| {
        let (mut head, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, shape) in tensors {
            let (start, bytes) = (data.len(), shape.iter().product::<u64>());
            data.extend((0..bytes).map(|n| (n * 7 + 3) as u8));
            head.insert(name.to_string(), json!({"dtype": "U8", "shape": shape, "data_offsets": [start, data.len()]}));
        }
        with_head(&Json::Object(head).to_string(), &data)
    };
    let settings = json!({
        "num_local_experts": 3, "tie_word_embeddings": null, "quantization_config": {"quant_method": "mxfp4"}});
    let open = |tensors: &[(&str, &[u64])]| {
        folder(&config("GptOssForCausalLM", settings.clone()), file(tensors), &[]).map_err(|error| error.to_string())
    };
    // Each expert has two rows of gate and two of up; a row has two blocks.
    let (weights, exponents) = ((blocks, &[3, 4, 2, 16][..]), (scales, &[3, 4, 2][..]));
    for tensors in [[weights, exponents], [exponents, weights]] {
        let model = open(&tensors).unwrap();
        for (half, name) in ["blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight"].into_iter().enumerate() {
            let tensor = model.tensor(name).unwrap();
            assert_eq!((&tensor.dims[..], tensor.dtype, tensor.bytes()), (&[64, 2, 3][..], DType::MXFP4, 3 * 2 * 34));
            let bytes = block_on(model.read(tensor, 0..tensor.bytes())).unwrap();
            for (n, block) in bytes.as_chunks::<17>().0.iter().enumerate() {
                let place = (n / 2 * 2 + half) * 2 + n % 2;
                let weight = |w: usize| ((place * 16 + w / 2) * 7 + 3) as u8 >> (w % 2 * 4) & 15;
                assert_eq!(block[0], (place * 7 + 3) as u8, "{name}: the scale of block {n}");
                assert!((0..16).all(|w| block[1 + w] == weight(w) | weight(16 + w) << 4), "{name}: block {n}");
            }
            check_parts(&model, name);
        }
    }
    for (tensors, expected) in [
        (&[weights][..], "should have 2 parts, blocks and scales, 1 were found"),
        (&[weights, (scales, &[3, 4, 1])], "its shape or type is not that of"),
        (&[(blocks, &[3, 4, 2, 8])], "its shape [3, 4, 2, 8] is not one of blocks"),
        (&[(blocks, &[2, 4, 2, 16])], "does not begin with the 3 experts"),
        (&[(scales, &[3, 3, 2])], "cannot be divided into 2"),
        (&[("model.layers.0.self_attn.q_proj.weight", &[8, 8])], "its type is not supported; use the model in BF16"),
    ] {
        let message = open(tensors).map(|_| ()).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

/// Multimodal models as published: the text model's settings are nested, and its tensors' names have prefixes.
#[test]
fn multimodal_models_load_their_text_model() {
    let own = config("", json!({"hidden_act": null, "hidden_activation": null, "eos_token_id": null}));
    let other = ["vision_tower.x.weight", "multi_modal_projector.y", "model.embed_vision.z", "model.visual.q"];
    let other: Vec<_> = other.iter().map(|name| (name.to_string(), vec![2])).collect();
    for (class, kind, architecture, before) in [
        (
            "Gemma3ForConditionalGeneration",
            json!("gemma3_text"),
            "gemma3",
            ["language_model.model.", "language_model."],
        ),
        ("Gemma3ForConditionalGeneration", json!(null), "gemma3", ["model.language_model.", ""]),
        ("Gemma4ForConditionalGeneration", json!("gemma4_text"), "gemma4", ["model.language_model.", ""]),
        ("Qwen3_5ForConditionalGeneration", json!(null), "qwen35", ["model.language_model.", ""]),
        ("Qwen3_5MoeForConditionalGeneration", json!("qwen3_5_moe_text"), "qwen35moe", ["model.language_model.", ""]),
        ("Mistral3ForConditionalGeneration", json!("mistral"), "llama", ["language_model.model.", "language_model."]),
        ("Mistral3ForConditionalGeneration", json!("ministral3"), "mistral3", ["model.language_model.", ""]),
    ] {
        let tensors = dense().into_iter().map(|(name, shape)| match name.strip_prefix("model.") {
            Some(rest) => (format!("{}{rest}", before[0]), shape),
            None => (format!("{}{name}", before[1]), shape),
        });
        let tensors = [tensors.collect(), other.clone()].concat();
        let mut text = own.clone();
        text["model_type"] = kind;
        let whole =
            json!({"architectures": [class], "eos_token_id": [1, 106], "text_config": text, "vision_config": {}});
        let model = folder(&whole, safetensors(&tensors, 0), &[]).unwrap();
        assert_eq!(model.metadata.get_str("general.architecture").unwrap(), Some(architecture), "{class}");
        assert_eq!(model.metadata.get("tokenizer.ggml.eos_token_ids"), Some(&vec![1u32, 106].into()));
        assert_eq!(model.tensors.len(), DENSE.len(), "{:?}", model.tensors.keys());
        let from = first(&tensors, &format!("{}layers.0.mlp.down_proj.weight", before[0]));
        assert_eq!(floats(&model, "blk.0.ffn_down.weight"), run(from, 48));
        assert_eq!(
            model.notices,
            ["only the text model of this multimodal model is loaded; 4 tensors of its other parts are ignored"]
        );
    }
    // Transformers 5 lists other head sizes by layer.
    let mut text = config(
        "",
        json!({"model_type": "gemma4_text", "hidden_act": null, "num_hidden_layers": 2,
        "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"], "attention_k_eq_v": true,
        "head_dim": 4, "per_layer_config": {"1": {"head_dim": 8, "num_key_value_heads": 2}}}),
    );
    let whole = |text: &Json| json!({"architectures": ["Gemma4ForConditionalGeneration"], "text_config": text});
    text["tie_word_embeddings"] = json!(null);
    let model = folder(&whole(&text), safetensors(&[], 0), &[]).unwrap();
    assert_eq!(model.metadata.get("gemma4.attention.key_length"), Some(&GgufValue::U32(8)));
    assert_eq!(model.metadata.get("gemma4.attention.key_length_swa"), Some(&GgufValue::U32(4)));
    assert_eq!(model.metadata.get("gemma4.attention.head_count_kv"), Some(&vec![1i32, 2].into()));
    text["per_layer_config"]["1"]["rope_theta"] = json!(1.0);
    let message = folder(&whole(&text), safetensors(&[], 0), &[]).unwrap_err().to_string();
    assert!(message.contains("per_layer_config: these layers are not supported"), "{message}");
    // Gemma 3's files omit default values.
    let short = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024,
            "model_type": "gemma3_text", "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    });
    let model = folder(&short, safetensors(&[], 0), &[]).unwrap();
    for (key, value) in [
        ("attention.head_count", GgufValue::U32(8)),
        ("attention.head_count_kv", GgufValue::U32(4)),
        ("attention.key_length", GgufValue::U32(256)),
        ("attention.sliding_window", GgufValue::U32(1024)),
        ("attention.scale", GgufValue::F32(0.0625)),
        ("rope.freq_base", GgufValue::F32(1e6)),
        ("rope.scaling.factor", GgufValue::F32(8.0)),
    ] {
        assert_eq!(model.metadata.get(&format!("gemma3.{key}")), Some(&value), "{key}");
    }
    assert!(model.notices.is_empty());
    for (whole, expected) in [
        (
            json!({"architectures": ["Mistral3ForConditionalGeneration"], "text_config": {"model_type": "rwkv"}}),
            "text_config: the text model type \"rwkv\" is not supported; use a GGUF",
        ),
        (json!({"architectures": ["Gemma3ForConditionalGeneration"]}), "has no text_config"),
        (json!({"architectures": ["LlavaForConditionalGeneration"]}), "Mistral3ForConditionalGeneration, Qwen3_5"),
    ] {
        let message = folder(&whole, safetensors(&dense(), 0), &[]).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn tied_and_missing_heads() {
    let untied = dense();
    let without: Vec<_> = dense().into_iter().filter(|(name, _)| name != "lm_head.weight").collect();
    for (tensors, tied, head) in [
        (&untied, json!(true), Some(false)),
        (&without, json!(true), Some(false)),
        (&untied, json!(null), Some(true)),
        (&without, json!(null), Some(false)),
        (&untied, json!(false), Some(true)),
        (&without, json!(false), None),
    ] {
        let config = config("LlamaForCausalLM", json!({"tie_word_embeddings": tied}));
        let model = folder(&config, safetensors(tensors, 0), &[]);
        assert_eq!(
            model.as_ref().ok().map(|model| model.tensors.contains_key("output.weight")),
            head,
            "{tied} {model:?}"
        );
    }
}

#[test]
fn tokenizer_settings() {
    let tokenizer = json!({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [
        {"id": 5, "content": "<s>", "special": true}, {"id": 6, "content": "</s>"}, {"id": 7, "content": "<|end|>"}]});
    let tokenizer = tokenizer.to_string();
    let generation = r#"{"eos_token_id": [6, 9], "bos_token_id": 1}"#;
    let id = |model: &Checkpoint, key: &str| model.metadata.get_u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
    let config = config("LlamaForCausalLM", json!({"bos_token_id": 3, "eos_token_id": 4, "pad_token_id": null}));
    let open = |files: &[(&str, &str)]| folder(&config, safetensors(&dense(), 0), files).unwrap();

    let model = open(&[]);
    assert_eq!((id(&model, "bos"), id(&model, "eos"), id(&model, "padding")), (Some(3), Some(4), None));
    assert_eq!(model.metadata.get_u32s("tokenizer.ggml.eos_token_ids").unwrap(), Some(vec![4]));
    assert_eq!(model.tokenizer_json, None);

    let facts = r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "<|end|>", "unk_token": null,
        "add_bos_token": true, "chat_template": "{{ one }}"}"#;
    let model = open(&[
        ("tokenizer.json", &tokenizer),
        ("tokenizer_config.json", facts),
        ("generation_config.json", generation),
    ]);
    assert_eq!((id(&model, "bos"), id(&model, "eos"), id(&model, "unknown")), (Some(5), Some(7), None));
    assert_eq!(model.metadata.get_u32s("tokenizer.ggml.eos_token_ids").unwrap(), Some(vec![4, 6, 7, 9]));
    assert_eq!(model.metadata.get_bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(model.metadata.get_bool("tokenizer.ggml.add_eos_token").unwrap(), None);
    assert_eq!(model.metadata.get_str("tokenizer.chat_template").unwrap(), Some("{{ one }}"));
    assert_eq!(model.tokenizer_json.as_deref(), Some(tokenizer.as_bytes()));

    let list = r#"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#;
    let model = open(&[("tokenizer_config.json", list)]);
    assert_eq!(model.metadata.get_str("tokenizer.chat_template").unwrap(), Some("D"));
    assert_eq!(model.metadata.get_str("tokenizer.chat_template.tool_use").unwrap(), Some("T"));
    assert_eq!(model.metadata.get_strings("tokenizer.chat_templates").unwrap().unwrap(), ["tool_use"]);

    let model = open(&[("tokenizer_config.json", facts), ("chat_template.jinja", "{{ file }}")]);
    assert_eq!(model.metadata.get_str("tokenizer.chat_template").unwrap(), Some("{{ file }}"));
}

#[test]
fn shards() {
    let all = dense();
    let (a, b) = all.split_at(5);
    let mut map = serde_json::Map::new();
    for (file, tensors) in [("a.safetensors", a), ("b.safetensors", b)] {
        map.extend(tensors.iter().map(|(name, _)| (name.clone(), json!(file))));
    }
    let write = |path: &std::path::Path, map: &Json| {
        std::fs::write(
            path.join("model.safetensors.index.json"),
            json!({"metadata": {}, "weight_map": map}).to_string(),
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("a.safetensors"), safetensors(a, 0)).unwrap();
    std::fs::write(path.join("b.safetensors"), safetensors(b, 1000)).unwrap();
    std::fs::write(path.join("config.json"), config("LlamaForCausalLM", json!({})).to_string()).unwrap();
    write(path, &Json::Object(map.clone())).unwrap();
    let model = block_on(Checkpoint::open(path)).unwrap();
    assert_eq!(model.tensors.keys().collect::<Vec<_>>(), DENSE);
    assert_eq!(floats(&model, "blk.0.attn_norm.weight"), run(first(a, "model.layers.0.input_layernorm.weight"), 8));
    assert_eq!(floats(&model, "blk.0.attn_k.weight"), run(1000 + 64, 32));

    let failure = || block_on(Checkpoint::open(path)).unwrap_err().to_string();
    map["lm_head.weight"] = json!("b.safetensors");
    write(path, &Json::Object(map.clone())).unwrap();
    assert!(failure().contains("tensor lm_head.weight is not in b.safetensors"));
    map["lm_head.weight"] = json!("../a.safetensors");
    write(path, &Json::Object(map)).unwrap();
    assert!(failure().contains("names \"../a.safetensors\", which is missing"));
    std::fs::remove_file(path.join("model.safetensors.index.json")).unwrap();
    assert!(failure().contains("there is no model.safetensors and no model.safetensors.index.json"));
}

/// Invalid settings, and a part of the expected error.
#[test]
fn bad_settings_are_refused() {
    for (more, expected) in [
        (
            json!({"architectures": ["GPT2LMHeadModel"]}),
            "\"GPT2LMHeadModel\" is not supported; these are: LlamaForCausalLM",
        ),
        (json!({"architectures": []}), "the architecture \"\" is not supported"),
        (json!({"quantization_config": {"quant_method": "gptq"}}), "quantized with gptq; use the unquantized model"),
        (json!({"hidden_act": "gelu"}), "the activation gelu is not supported"),
        (json!({"hidden_size": null}), "config.json has no hidden_size"),
        (json!({"hidden_size": "wide"}), "hidden_size is \"wide\"; it must be a whole number"),
        (json!({"num_attention_heads": 0}), "num_attention_heads is 0; it must be 1 to"),
        (json!({"num_hidden_layers": 4_000_000_000u64}), "num_hidden_layers is 4000000000; it must be 1 to 1024"),
        (json!({"num_hidden_layers": -1}), "it must be a whole number below 2^32"),
        (json!({"num_experts": 1_000_000}), "num_experts is 1000000"),
        (json!({"head_dim": 4_000_000_000u64}), "head_dim is 4000000000"),
        (json!({"partial_rotary_factor": 1e9}), "partial_rotary_factor is 1000000000; it must be 0 to 1"),
        (json!({"rope_scaling": {"rope_type": "dynamic"}}), "the type \"dynamic\" is not supported"),
        (json!({"rope_scaling": {"rope_type": "longrope"}}), "has no original_max_position_embeddings"),
        (
            json!({"rope_scaling": {"type": "su", "short_factor": [1]}, "original_max_position_embeddings": 64}),
            "short_factor is [1]; it must be an array of 2 numbers",
        ),
        (json!({"no_rope_layer_interval": 3}), "no_rope_layer_interval is 3, not 4"),
        (json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling has no factor"),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 0}}), "factor is 0; it must be positive"),
        (json!({"rope_scaling": 3}), "rope_scaling is 3; it must be an object"),
        (json!({"rope_parameters": {"odd_attention": {"rope_theta": 1.0}}}), "these kinds of layers are not supported"),
        (json!({"sliding_window": 8, "layer_types": []}), "layer_types has 0 entries for 1 layers"),
        (json!({"tie_word_embeddings": 1}), "tie_word_embeddings is 1; it must be true or false"),
    ] {
        let shown = more.to_string();
        let message = folder(&config("LlamaForCausalLM", more), safetensors(&dense(), 0), &[]).unwrap_err().to_string();
        assert!(message.contains(expected), "{shown}: {message}");
        assert!(message.starts_with("hub/tiny/config.json"), "{shown}: {message}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let with = |name: &str, shape: &[u64]| [dense(), named(&[(name, shape)])].concat();
    for (tensors, expected) in [
        (with("model.vision.weight", &[2]), "tensor model.vision.weight is unknown for LlamaForCausalLM"),
        (with("model.layers.0.mlp.gate_proj.scale", &[2]), "is unknown for"),
        (with("model.layers.00.mlp.gate_proj.weight", &[2]), "is unknown for"),
        (with("model.layers.+1.mlp.gate_proj.weight", &[2]), "is unknown for"),
        (with("model.layers.99999999999.mlp.gate_proj.weight", &[2]), "is unknown for"),
        (with("model.layers.1.mlp.gate_proj.weight", &[2]), "there should be only 1 layers"),
        (with("model.layers.0.mlp.experts.0.up_proj.weight", &[2, 2]), "should have 0 experts, 1 were found"),
        (with("model.layers.0.mlp.experts.gate_up_proj", &[2, 2, 2]), "does not begin with the 0 experts"),
        (with("model.layers.0.mlp.experts.gate_up_proj", &[3, 2]), "cannot be divided into 2"),
    ] {
        let message =
            folder(&config("LlamaForCausalLM", json!({})), safetensors(&tensors, 0), &[]).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let ignored = with("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]);
    assert_eq!(
        folder(&config("LlamaForCausalLM", json!({})), safetensors(&ignored, 0), &[]).unwrap().tensors.len(),
        12
    );

    let uneven = named(&[
        ("model.layers.0.mlp.experts.0.up_proj.weight", &[2, 2]),
        ("model.layers.0.mlp.experts.1.up_proj.weight", &[2, 3]),
    ]);
    let config = config("Qwen3MoeForCausalLM", json!({"num_experts": 2}));
    let message = folder(&config, safetensors(&uneven, 0), &[]).unwrap_err().to_string();
    assert!(message.contains("not that of the other experts"), "{message}");
}

#[test]
fn hostile_safetensors_are_refused() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"model.norm.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let twice = entry("F32", "[1]", "[0,4]").replacen(
        '{',
        r#"{"model.norm.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#,
        1,
    );
    let overlap = entry("F32", "[1]", "[0,4]").replacen(
        '{',
        r#"{"lm_head.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
        1,
    );
    for (weights, expected) in [
        (vec![], "truncated: it has 0 bytes"),
        (vec![1; 7], "truncated: it has 7 bytes"),
        (vec![255; 64], "is not a safetensors file (its header would have 18446744073709551615 bytes)"),
        (100u64.to_le_bytes().to_vec(), "its header ends at byte 108 of 8; download it again"),
        (with_head("{", &[]), "its header: EOF"),
        (with_head("[]", &[]), "an object of tensors"),
        (with_head(&"[".repeat(100_000), &[]), "its header"),
        (with_head(r#"{"t":{"dtype":"F32"}}"#, &[]), "missing field"),
        (with_head(&entry("F32", "[-1]", "[0,4]"), &[0; 4]), "its header: invalid value"),
        (with_head(&entry("F32", "[1]", "[0,18446744073709551616]"), &[0; 4]), "its header"),
        (
            with_head(&entry("F8_E4M3", "[4]", "[0,4]"), &[0; 4]),
            "its type F8_E4M3 is not supported; use the model in BF16",
        ),
        (with_head(&entry("F32", "[0]", "[0,0]"), &[]), "its shape [0] has a zero"),
        (with_head(&entry("F32", "[]", "[0,4]"), &[0; 4]), "it has no dimensions"),
        (with_head(&entry("F32", "[4294967296,4294967296]", "[0,4]"), &[0; 4]), "is larger than any file"),
        (with_head(&entry("F32", "[2]", "[0,4]"), &[0; 8]), "bytes 0..4 do not hold its 8 bytes"),
        (with_head(&entry("F32", "[1]", "[4,0]"), &[0; 8]), "bytes 4..0 do not hold its 4 bytes"),
        (with_head(&entry("F32", "[2]", "[0,8]"), &[0; 7]), "the file is truncated; download it again"),
        (
            with_head(&entry("F32", "[1]", "[18446744073709551611,18446744073709551615]"), &[0; 7]),
            "the file is truncated",
        ),
        (with_head(&twice, &[0; 8]), "the tensor model.norm.weight occurs twice"),
        (with_head(&overlap, &[0; 8]), "overlap; the file is damaged"),
    ] {
        let message = folder(&config("LlamaForCausalLM", json!({})), weights, &[]).unwrap_err().to_string();
        assert!(message.contains(expected), "expected {expected:?}, got {message:?}");
        assert!(message.contains("model.safetensors"), "the message must name the file: {message}");
    }
}

#[test]
fn sixteen_bit_types_and_damaged_json() {
    for (dtype, expected) in [("BF16", DType::BF16), ("F16", DType::F16)] {
        let tensors = dense();
        let mut at = 0;
        let entries = tensors.iter().map(|(name, shape)| {
            let start = at;
            at += 2 * shape.iter().product::<u64>();
            (name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, at]}))
        });
        let head = Json::Object(entries.collect()).to_string();
        let model =
            folder(&config("LlamaForCausalLM", json!({})), with_head(&head, &vec![0; at as usize]), &[]).unwrap();
        assert!(model.tensors.values().all(|tensor| tensor.dtype == expected));
    }
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors.index.json"] {
        for text in ["", "{", "[7]", "7", "{\"a\": \u{1}}"] {
            let result = folder(&config("LlamaForCausalLM", json!({})), safetensors(&dense(), 0), &[(name, text)]);
            let error = result.expect_err(name);
            assert!(error.to_string().contains(name), "{name} {text:?}: {error}");
            assert!(std::error::Error::source(&error).is_some(), "{name} {text:?}: no cause");
        }
    }
}
