//! Converts `config.json` to GGUF keys, the way llama.cpp's converter does.
//!
//! Most settings are rows of [`SETTINGS`]; keys that depend on several settings (attention windows, MLA) have a
//! function each. An unsupported setting is an error, because ignoring it would produce wrong text.

use super::families::{FAMILIES, HfFamily};
use super::json::JsonObject;
use crate::checkpoint::{GgufValue, Metadata};
use crate::{Error, Result};
use serde_json::{Map, Value as Json};

/// The type of a setting.
enum SettingType {
    Count,
    Number,
    Bool,
}

/// A setting in `config.json`, its GGUF key (without the architecture), its type, and whether the key is required. An
/// earlier row with the same key may provide it.
const SETTINGS: &[(&str, &str, SettingType, bool)] = &[
    ("num_hidden_layers", "block_count", SettingType::Count, true),
    ("max_position_embeddings", "context_length", SettingType::Count, true),
    ("hidden_size", "embedding_length", SettingType::Count, true),
    ("block_ff_dim", "feed_forward_length", SettingType::Count, false),
    ("intermediate_size", "feed_forward_length", SettingType::Count, false),
    ("intermediate_size_mlp", "feed_forward_length", SettingType::Count, false),
    ("num_attention_heads", "attention.head_count", SettingType::Count, true),
    ("num_key_value_heads", "attention.head_count_kv", SettingType::Count, false),
    ("head_dim", "attention.key_length", SettingType::Count, false),
    ("head_dim", "attention.value_length", SettingType::Count, false),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon", SettingType::Number, false),
    ("norm_eps", "attention.layer_norm_rms_epsilon", SettingType::Number, false),
    ("norm_epsilon", "attention.layer_norm_epsilon", SettingType::Number, false),
    ("vocab_size", "vocab_size", SettingType::Count, true),
    ("num_local_experts", "expert_count", SettingType::Count, false),
    ("num_experts", "expert_count", SettingType::Count, false),
    ("num_experts_per_tok", "expert_used_count", SettingType::Count, false),
    ("top_k_experts", "expert_used_count", SettingType::Count, false),
    ("moe_intermediate_size", "expert_feed_forward_length", SettingType::Count, false),
    ("norm_topk_prob", "expert_weights_norm", SettingType::Bool, false),
    ("kv_lora_rank", "attention.kv_lora_rank", SettingType::Count, false),
    ("q_lora_rank", "attention.q_lora_rank", SettingType::Count, false),
    ("v_head_dim", "attention.value_length_mla", SettingType::Count, false),
    ("n_routed_experts", "expert_count", SettingType::Count, false),
    ("n_shared_experts", "expert_shared_count", SettingType::Count, false),
    ("routed_scaling_factor", "expert_weights_scale", SettingType::Number, false),
    ("first_k_dense_replace", "leading_dense_block_count", SettingType::Count, false),
    ("linear_conv_kernel_dim", "ssm.conv_kernel", SettingType::Count, false),
    ("linear_key_head_dim", "ssm.state_size", SettingType::Count, false),
    ("linear_num_key_heads", "ssm.group_count", SettingType::Count, false),
    ("linear_num_value_heads", "ssm.time_step_rank", SettingType::Count, false),
    ("attn_logit_softcapping", "attn_logit_softcapping", SettingType::Number, false),
    ("final_logit_softcapping", "final_logit_softcapping", SettingType::Number, false),
    ("embedding_multiplier", "embedding_scale", SettingType::Number, false),
    ("residual_multiplier", "residual_scale", SettingType::Number, false),
    ("attention_multiplier", "attention.scale", SettingType::Number, false),
    ("logits_scaling", "logit_scale", SettingType::Number, false),
    ("hidden_size_per_layer_input", "embedding_length_per_layer_input", SettingType::Count, false),
    ("num_kv_shared_layers", "attention.shared_kv_layers", SettingType::Count, false),
    ("interleave_moe_layer_step", "interleave_moe_layer_step", SettingType::Count, false),
    ("floor_scale", "attention.temperature_length", SettingType::Count, false),
    ("attn_scale", "attention.temperature_scale", SettingType::Number, false),
    ("conv_L_cache", "shortconv.l_cache", SettingType::Count, false),
    ("use_qk_norm", "attention.qk_norm", SettingType::Bool, false),
    ("is_matryoshka", "matryoshka", SettingType::Bool, false),
];

/// Largest plausible values of counts that are used as sizes or divisors; zero is not allowed either.
const LIMITS: &[(&str, u32)] = &[
    ("num_hidden_layers", 1024),
    ("num_attention_heads", 1024),
    ("head_dim", 1 << 16),
    ("global_head_dim", 1 << 16),
    ("hidden_size", 1 << 20),
    ("num_experts", 2048),
    ("num_local_experts", 2048),
    ("n_routed_experts", 2048),
];

/// Settings that have no GGUF key because the architectures fix them.
const FIXED: &[(&str, f64)] = &[("no_rope_layer_interval", 4.0), ("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)];

/// Adds the family's defaults for settings that the file omits.
pub(super) fn add_defaults(config: &mut JsonObject, family: &HfFamily) -> Result<()> {
    let defaults: Map<String, Json> = serde_json::from_str(family.defaults).map_err(Error::format)?;
    for (setting, value) in defaults {
        if config.get(&setting).is_none() {
            config.json.insert(setting, value);
        }
    }
    // Transformers 5 lists the head sizes of full-attention layers per layer.
    let Some(layers) = config.object("per_layer_config")? else { return Ok(()) };
    let mut others = layers.json.values();
    let other = others.next().and_then(Json::as_object).cloned().unwrap_or_default();
    let settings = [("head_dim", "global_head_dim"), ("num_key_value_heads", "num_global_key_value_heads")];
    let all_known = other.keys().all(|key| settings.iter().any(|(name, _)| name == key));
    if !all_known || others.any(|more| *more != Json::Object(other.clone())) {
        return Err(Error::Unsupported(format!("{}: these layers are not supported", layers.file)));
    }
    for (name, setting) in settings {
        if let Some(value) = other.get(name) {
            config.json.insert(setting.into(), value.clone());
        }
    }
    Ok(())
}

/// Finds the family of the class in `architectures`.
///
/// # Errors
/// If the class, the quantization, or the activation is not supported.
pub(super) fn family(config: &JsonObject) -> Result<&'static HfFamily> {
    let (class, file) = (config.class(), &config.file);
    let family = FAMILIES.iter().find(|family| family.class == class).ok_or_else(|| {
        let mut known: Vec<_> = FAMILIES.iter().map(|family| family.class).collect();
        known.extend(FAMILIES.iter().filter_map(|family| Some(family.wrapper?.0)));
        known.dedup();
        let known = known.join(", ");
        Error::Unsupported(format!("{file}: the architecture {class:?} is not supported; these are: {known}"))
    })?;
    let quantization = config.object("quantization_config")?;
    let method =
        quantization.as_ref().map(|q| Ok::<_, Error>(q.str("quant_method")?.unwrap_or("unknown"))).transpose()?;
    if let Some(method) = method.filter(|_| method != family.quantization) {
        let message = format!("{file}: the weights are quantized with {method}");
        return Err(Error::Unsupported(format!("{message}; use the unquantized model, or a GGUF of it")));
    }
    match config.str("hidden_activation")?.or(config.str("hidden_act")?) {
        Some(other) if !family.activations.contains(&other) => {
            let known = family.activations.join(", ");
            Err(Error::Unsupported(format!("{file}: the activation {other} is not supported ({known} is)")))
        }
        _ => Ok(family),
    }
}

/// Converts the settings to GGUF metadata.
pub(super) fn settings(config: &JsonObject, family: &HfFamily) -> Result<Metadata> {
    let architecture = family.architecture;
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture);
    for (setting, key, kind, required) in SETTINGS {
        let key = format!("{architecture}.{key}");
        let value = match kind {
            SettingType::Count => config.u32(setting)?.map(GgufValue::U32),
            SettingType::Number => config.f64(setting)?.map(|number| GgufValue::F32(number as f32)),
            SettingType::Bool => config.bool(setting)?.map(GgufValue::Bool),
        };
        match value {
            Some(value) => drop(metadata.insert(key, value)),
            None if *required && metadata.get(&key).is_none() => return Err(config.missing(setting)),
            None => {}
        }
    }
    if ["rms_norm_eps", "norm_eps", "norm_epsilon"].iter().all(|setting| config.get(setting).is_none()) {
        return Err(config.missing("rms_norm_eps"));
    }
    for (setting, most) in LIMITS {
        if let Some(count) = config.u32(setting)?.filter(|count| !(1..=*most).contains(count)) {
            return Err(Error::format(format!("{}: {setting} is {count}; it must be 1 to {most}", config.file)));
        }
    }
    if config.get("num_key_value_heads").is_none() {
        let heads = config.required_u32("num_attention_heads")?;
        metadata.insert(format!("{architecture}.attention.head_count_kv"), heads);
    }
    if family.norm_plus_one {
        metadata.insert(format!("{architecture}.norm_plus"), 1.0f32);
    }
    if let Some(scalar) = config.f64("query_pre_attn_scalar")?.filter(|scalar| *scalar > 0.0) {
        metadata.insert(format!("{architecture}.attention.scale"), (1.0 / scalar.sqrt()) as f32);
    }
    for (setting, only) in FIXED {
        if let Some(number) = config.f64(setting)?.filter(|number| number != only) {
            return Err(Error::Unsupported(format!("{}: {setting} is {number}, not {only}", config.file)));
        }
    }
    check_nope_layers(config)?;
    mla(config, architecture, &mut metadata)?;
    short_convolutions(config, architecture, &mut metadata)?;
    delta_net(config, architecture, &mut metadata)?;
    sliding_window(config, family, &mut metadata)?;
    global_heads(config, architecture, &mut metadata)?;
    Ok(metadata)
}

/// Lists the attention layers of a model with short convolutions (LFM2): other layers have zero KV heads.
fn short_convolutions(config: &JsonObject, architecture: &str, metadata: &mut Metadata) -> Result<()> {
    if config.get("conv_L_cache").is_none() {
        return Ok(());
    }
    let (blocks, heads) = (config.required_u32("num_hidden_layers")?, config.required_u32("num_key_value_heads")?);
    let attends = match config.layer_types(blocks)? {
        Some(types) => types.iter().map(|kind| kind == "full_attention").collect::<Vec<bool>>(),
        None => {
            let listed = config.typed("full_attn_idxs", "an array", Json::as_array)?;
            let listed = listed.ok_or_else(|| config.missing("full_attn_idxs"))?;
            (0..blocks).map(|block| listed.iter().any(|n| *n == block)).collect()
        }
    };
    let heads: Vec<i32> = attends.into_iter().map(|attends| if attends { heads as i32 } else { 0 }).collect();
    metadata.insert(format!("{architecture}.attention.head_count_kv"), heads);
    Ok(())
}

/// Head sizes of multi-head latent attention (MLA), and expert groups.
fn mla(config: &JsonObject, architecture: &str, metadata: &mut Metadata) -> Result<()> {
    if config.get("kv_lora_rank").is_none() {
        return Ok(());
    }
    let (rank, rope_dim) = (config.required_u32("kv_lora_rank")?, config.required_u32("qk_rope_head_dim")?);
    for (key, count) in [
        ("head_count_kv", 1),
        ("key_length", rank.saturating_add(rope_dim)),
        ("value_length", rank),
        ("key_length_mla", config.required_u32("qk_nope_head_dim")?.saturating_add(rope_dim)),
    ] {
        metadata.insert(format!("{architecture}.attention.{key}"), count);
    }
    if config.str("topk_method")? != Some("greedy") {
        for (setting, key) in [("n_group", "expert_group_count"), ("topk_group", "expert_group_used_count")] {
            if let Some(count) = config.u32(setting)? {
                metadata.insert(format!("{architecture}.{key}"), count);
            }
        }
    }
    Ok(())
}

/// Head counts of Gated DeltaNet layers.
fn delta_net(config: &JsonObject, architecture: &str, metadata: &mut Metadata) -> Result<()> {
    if config.get("linear_num_value_heads").is_some() {
        let heads = config.required_u32("linear_num_value_heads")?;
        let inner = heads.saturating_mul(config.required_u32("linear_value_head_dim")?);
        metadata.insert(format!("{architecture}.ssm.inner_size"), inner);
        metadata.insert(format!("{architecture}.ssm.grouped_heads"), true);
    }
    Ok(())
}

/// Head sizes of full-attention layers that differ from those of sliding-window layers (Gemma 4).
fn global_heads(config: &JsonObject, architecture: &str, metadata: &mut Metadata) -> Result<()> {
    let (Some(global), Some(local)) = (config.u32("global_head_dim")?, config.u32("head_dim")?) else { return Ok(()) };
    let path = |key: &str| format!("{architecture}.{key}");
    for part in ["key", "value"] {
        metadata.insert(path(&format!("attention.{part}_length")), global);
        metadata.insert(path(&format!("attention.{part}_length_swa")), local);
    }
    metadata.insert(path("rope.dimension_count_swa"), local);
    if config.bool("use_double_wide_mlp")? == Some(true) {
        let (blocks, width) = (config.required_u32("num_hidden_layers")?, config.required_u32("intermediate_size")?);
        let own = blocks.saturating_sub(config.u32("num_kv_shared_layers")?.unwrap_or(0));
        let widths = (0..blocks).map(|n| if n < own { width as i32 } else { width.saturating_mul(2) as i32 });
        metadata.insert(path("feed_forward_length"), widths.collect::<Vec<i32>>());
    }
    let alike = config.bool("attention_k_eq_v")? == Some(true);
    let Some(heads) = config.u32("num_global_key_value_heads")?.filter(|_| alike) else { return Ok(()) };
    let local = config.required_u32("num_key_value_heads")?;
    let windows = metadata.get_bools(&path("attention.sliding_window_pattern"))?.unwrap_or_default();
    let heads: Vec<i32> = windows.iter().map(|window| if *window { local as i32 } else { heads as i32 }).collect();
    if !heads.is_empty() {
        metadata.insert(path("attention.head_count_kv"), heads);
    }
    Ok(())
}

/// Checks that NoPE layers and attention temperature tuning (Llama 4) are the architecture's usual ones.
fn check_nope_layers(config: &JsonObject) -> Result<()> {
    let refuse = |setting: &str| Err(Error::Unsupported(format!("{}: {setting} is not the usual one", config.file)));
    let listed = config.typed("no_rope_layers", "an array", Json::as_array)?;
    let everywhere = config.json.get("attention_chunk_size").is_some_and(Json::is_null);
    let usual = |(n, rotates): (usize, &Json)| *rotates == u32::from(everywhere || (n + 1) % 4 != 0);
    if !listed.is_none_or(|layers| layers.iter().enumerate().all(usual)) {
        return refuse("no_rope_layers");
    }
    // Early files have a number instead of a Boolean.
    let tuned = config.get("attn_temperature_tuning");
    if !everywhere && tuned.is_some_and(|tuned| *tuned == false || *tuned == 0) {
        return refuse("attn_temperature_tuning");
    }
    Ok(())
}

/// The attention window, and which layers use it unless all do.
fn sliding_window(config: &JsonObject, family: &HfFamily, metadata: &mut Metadata) -> Result<()> {
    let architecture = family.architecture;
    let enabled = config.bool("use_sliding_window")?;
    let chunks = "attention_chunk_size";
    let setting = if config.json.contains_key(chunks) { chunks } else { "sliding_window" };
    if family.null_disables_window && config.json.get(setting).is_some_and(Json::is_null) {
        metadata.insert(format!("{architecture}.attention.sliding_window"), 0u32);
    }
    let Some(window) = config.u32(setting)?.filter(|_| enabled != Some(false)) else { return Ok(()) };
    let blocks = config.required_u32("num_hidden_layers")?;
    let layers: Vec<bool> = match config.layer_types(blocks)? {
        Some(types) => types.iter().map(|kind| kind == "sliding_attention" || kind == "chunked_attention").collect(),
        None if family.alternating_windows => {
            metadata.insert(format!("{architecture}.attention.sliding_window"), window);
            if let Some(every) = config.u32("sliding_window_pattern")? {
                metadata.insert(format!("{architecture}.attention.sliding_window_pattern"), every);
            }
            return Ok(());
        }
        None => {
            let first = if enabled.is_some() { config.u32("max_window_layers")?.unwrap_or(0) } else { 0 };
            (0..blocks).map(|block| block >= first).collect()
        }
    };
    if layers.contains(&true) {
        metadata.insert(format!("{architecture}.attention.sliding_window"), window);
        if layers.contains(&false) {
            metadata.insert(format!("{architecture}.attention.sliding_window_pattern"), layers);
        }
    } else if family.null_disables_window {
        metadata.insert(format!("{architecture}.attention.sliding_window"), 0u32);
    }
    Ok(())
}
