//! A Hugging Face `config.json`, told in GGUF's keys, as llama.cpp's converter writes them.
//!
//! A setting is a row of [`SETTINGS`]; what follows from several settings (rotary embedding, attention windows) is a
//! function. A setting that Firelight cannot honour is an error, because ignoring it would give wrong words.

use super::metadata::{Metadata, Value};
use super::rename::{FAMILIES, Family};
use crate::{Error, Result};
use serde_json::{Map, Value as Json};

/// How a setting's value is read.
enum Kind {
    Count,
    Number,
    Truth,
}

/// A setting in `config.json`, the GGUF key (after the architecture), its kind, and whether a model can be without it.
const SETTINGS: &[(&str, &str, Kind, bool)] = &[
    ("num_hidden_layers", "block_count", Kind::Count, true),
    ("max_position_embeddings", "context_length", Kind::Count, true),
    ("hidden_size", "embedding_length", Kind::Count, true),
    ("intermediate_size", "feed_forward_length", Kind::Count, true),
    ("num_attention_heads", "attention.head_count", Kind::Count, true),
    ("num_key_value_heads", "attention.head_count_kv", Kind::Count, false),
    ("head_dim", "attention.key_length", Kind::Count, false),
    ("head_dim", "attention.value_length", Kind::Count, false),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon", Kind::Number, false),
    ("norm_epsilon", "attention.layer_norm_epsilon", Kind::Number, false),
    ("vocab_size", "vocab_size", Kind::Count, true),
    ("num_local_experts", "expert_count", Kind::Count, false),
    ("num_experts", "expert_count", Kind::Count, false),
    ("num_experts_per_tok", "expert_used_count", Kind::Count, false),
    ("top_k_experts", "expert_used_count", Kind::Count, false),
    ("moe_intermediate_size", "expert_feed_forward_length", Kind::Count, false),
    ("norm_topk_prob", "expert_weights_norm", Kind::Truth, false),
    ("attn_logit_softcapping", "attn_logit_softcapping", Kind::Number, false),
    ("final_logit_softcapping", "final_logit_softcapping", Kind::Number, false),
    ("embedding_multiplier", "embedding_scale", Kind::Number, false),
    ("residual_multiplier", "residual_scale", Kind::Number, false),
    ("attention_multiplier", "attention.scale", Kind::Number, false),
    ("logits_scaling", "logit_scale", Kind::Number, false),
    ("hidden_size_per_layer_input", "embedding_length_per_layer_input", Kind::Count, false),
    ("num_kv_shared_layers", "attention.shared_kv_layers", Kind::Count, false),
];

/// Counts that something is made or divided by, and more than any model has.
const LIMITS: &[(&str, u32)] = &[
    ("num_hidden_layers", 1024),
    ("num_attention_heads", 1024),
    ("head_dim", 1 << 16),
    ("global_head_dim", 1 << 16),
    ("hidden_size", 1 << 20),
    ("num_experts", 2048),
    ("num_local_experts", 2048),
];

/// YaRN's settings beside factor and original length.
const YARN: &[(&str, &str)] = &[
    ("extrapolation_factor", "rope.scaling.yarn_ext_factor"),
    ("beta_fast", "rope.scaling.yarn_beta_fast"),
    ("beta_slow", "rope.scaling.yarn_beta_slow"),
];

/// A JSON object and the file it is from; `null` counts as not there.
pub(super) struct Object {
    pub file: String,
    pub json: Map<String, Json>,
}

impl Object {
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn typed<'a, T>(&'a self, key: &str, want: &str, read: impl Fn(&'a Json) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let unfit = || {
            let shown: String = value.to_string().chars().take(40).collect();
            Error::Format(format!("{}: {key} is {shown}; it must be {want}", self.file))
        };
        read(value).map(Some).ok_or_else(unfit)
    }

    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a whole number below 2^32", |value| value.as_u64()?.try_into().ok())
    }

    fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Json::as_f64)
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Json::as_bool)
    }

    fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", Json::as_str)
    }

    fn missing(&self, key: &str) -> Error {
        Error::Format(format!("{} has no {key}", self.file))
    }

    pub fn required_u32(&self, key: &str) -> Result<u32> {
        self.u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// A positive number.
    fn positive(&self, key: &str) -> Result<f64> {
        let number = self.f64(key)?.ok_or_else(|| self.missing(key))?;
        if number > 0.0 {
            return Ok(number);
        }
        Err(Error::Format(format!("{}: {key} is {number}; it must be positive", self.file)))
    }

    /// An array of as many numbers.
    fn numbers(&self, key: &str, count: u32) -> Result<Vec<f32>> {
        let read = |value: &Json| {
            let numbers: Vec<f32> =
                value.as_array()?.iter().map(|n| Some(n.as_f64()? as f32)).collect::<Option<_>>()?;
            (numbers.len() == count as usize).then_some(numbers)
        };
        self.typed(key, &format!("an array of {count} numbers"), read)?.ok_or_else(|| self.missing(key))
    }

    /// An object within this one.
    fn object(&self, key: &str) -> Result<Option<Object>> {
        let object = self.typed(key, "an object", Json::as_object)?;
        Ok(object.map(|json| Object { file: format!("{}: {key}", self.file), json: json.clone() }))
    }
}

/// The family that `architectures` names; models whose weights or functions Firelight does not have are refused.
pub(super) fn family(config: &Object) -> Result<&'static Family> {
    let class = config.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str).unwrap_or_default();
    let file = &config.file;
    let family = FAMILIES.iter().find(|family| family.class == class).ok_or_else(|| {
        let known = FAMILIES.map(|family| family.class).join(", ");
        Error::Unsupported(format!("{file}: the architecture {class:?} is not supported; these are: {known}"))
    })?;
    if let Some(quantization) = config.object("quantization_config")? {
        let method = quantization.str("quant_method")?.unwrap_or("unknown");
        let message = format!("{file}: the weights are quantized by {method}");
        return Err(Error::Unsupported(format!("{message}; take the unquantized model, or a GGUF of it")));
    }
    match config.str("hidden_activation")?.or(config.str("hidden_act")?) {
        Some(other) if !family.activations.contains(&other) => {
            let known = family.activations.join(", ");
            Err(Error::Unsupported(format!("{file}: the activation {other} is not supported ({known} is)")))
        }
        _ => Ok(family),
    }
}

/// Metadata by the rows of [`SETTINGS`], and what follows from several settings.
pub(super) fn settings(config: &Object, family: &Family) -> Result<Metadata> {
    let architecture = family.architecture;
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture);
    for (setting, key, kind, required) in SETTINGS {
        let value = match kind {
            Kind::Count => config.u32(setting)?.map(Value::U32),
            Kind::Number => config.f64(setting)?.map(|number| Value::F32(number as f32)),
            Kind::Truth => config.bool(setting)?.map(Value::Bool),
        };
        match value {
            Some(value) => drop(metadata.insert(format!("{architecture}.{key}"), value)),
            None if *required => return Err(config.missing(setting)),
            None => {}
        }
    }
    if config.get("rms_norm_eps").or(config.get("norm_epsilon")).is_none() {
        return Err(config.missing("rms_norm_eps"));
    }
    for (setting, most) in LIMITS {
        if let Some(count) = config.u32(setting)?.filter(|count| !(1..=*most).contains(count)) {
            return Err(Error::Format(format!("{}: {setting} is {count}; it must be 1 to {most}", config.file)));
        }
    }
    if config.get("num_key_value_heads").is_none() {
        let heads = config.required_u32("num_attention_heads")?;
        metadata.insert(format!("{architecture}.attention.head_count_kv"), heads);
    }
    if family.norms_add_one {
        metadata.insert(format!("{architecture}.norm_plus"), 1.0f32);
    }
    if let Some(scalar) = config.f64("query_pre_attn_scalar")?.filter(|scalar| *scalar > 0.0) {
        metadata.insert(format!("{architecture}.attention.scale"), (1.0 / scalar.sqrt()) as f32);
    }
    if let Some(every) = config.u32("no_rope_layer_interval")?.filter(|every| *every != 4) {
        return Err(Error::Unsupported(format!("{}: no_rope_layer_interval is {every}, not 4", config.file)));
    }
    sliding_window(config, family, &mut metadata)?;
    global_heads(config, architecture, &mut metadata)?;
    Ok(metadata)
}

/// Heads of layers that see everything, where they are of another size than those of layers with a window.
fn global_heads(config: &Object, architecture: &str, metadata: &mut Metadata) -> Result<()> {
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

/// The attention window, and in which layers it holds where it does not hold in all.
fn sliding_window(config: &Object, family: &Family, metadata: &mut Metadata) -> Result<()> {
    let architecture = family.architecture;
    let enabled = config.bool("use_sliding_window")?;
    if family.windowed && config.json.get("sliding_window").is_some_and(Json::is_null) {
        metadata.insert(format!("{architecture}.attention.sliding_window"), 0u32);
    }
    let Some(window) = config.u32("sliding_window")?.filter(|_| enabled != Some(false)) else { return Ok(()) };
    let blocks = config.required_u32("num_hidden_layers")?;
    let layers: Vec<bool> = match config.typed("layer_types", "an array", Json::as_array)? {
        Some(types) if types.len() == blocks as usize => types.iter().map(|kind| kind == "sliding_attention").collect(),
        Some(types) => {
            let message = format!("{}: layer_types has {} entries for {blocks} layers", config.file, types.len());
            return Err(Error::Format(message));
        }
        None if family.alternates => {
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
    }
    Ok(())
}

/// Rotary embedding: `rope_theta` and `rope_scaling`, or (Transformers 5) both in `rope_parameters`.
pub(super) fn rope(config: &Object, architecture: &str, metadata: &mut Metadata) -> Result<()> {
    let empty = Object { file: config.file.clone(), json: Map::new() };
    let mut rope = config.object("rope_parameters")?.or(config.object("rope_scaling")?).unwrap_or(empty);
    let mut local_base = config.f64("rope_local_base_freq")?;
    // Layers with a window may have a rotary embedding of their own.
    if let Some(full) = rope.object("full_attention")? {
        local_base = rope.object("sliding_attention")?.map_or(Ok(None), |local| local.f64("rope_theta"))?;
        rope = full;
    }
    if rope.json.values().any(Json::is_object) {
        return Err(Error::Unsupported(format!("{}: these kinds of layers are not supported", rope.file)));
    }
    let heads = config.required_u32("num_attention_heads")?;
    let head = config.u32("global_head_dim")?.or(config.u32("head_dim")?);
    let head = head.unwrap_or(config.required_u32("hidden_size")? / heads);
    let partial = rope.f64("partial_rotary_factor")?.or(config.f64("partial_rotary_factor")?).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&partial) {
        return Err(Error::Format(format!("{}: partial_rotary_factor is {partial}; it must be 0 to 1", config.file)));
    }
    let dims = (f64::from(head) * partial) as u32;
    let base = rope.f64("rope_theta")?.or(config.f64("rope_theta")?).unwrap_or(10_000.0);

    let mut set = |key: &str, value: Value| drop(metadata.insert(format!("{architecture}.{key}"), value));
    set("rope.dimension_count", dims.into());
    set("rope.freq_base", (base as f32).into());
    set("rope.pairing", "halves".into());
    if let Some(base) = local_base {
        set("rope.freq_base_swa", (base as f32).into());
    }
    if let Some(rate) = rope.f64("llama_4_scaling_beta")? {
        set("attention.temperature_scale", (rate as f32).into());
    }
    match rope.str("rope_type")?.or(rope.str("type")?).unwrap_or("default") {
        "default" => {}
        "llama3" => set("rope.freq_factors", llama3_factors(&rope, base, dims)?.into()),
        // Of all pairs of a head, those beyond `partial` of them stand still.
        "proportional" => {
            set("rope.dimension_count", head.into());
            let factors: Vec<f32> = (0..head / 2).map(|pair| if pair < dims / 2 { 1.0 } else { 1e30 }).collect();
            set("rope.freq_factors", factors.into());
        }
        "linear" => {
            set("rope.scaling.type", "linear".into());
            set("rope.scaling.factor", (rope.positive("factor")? as f32).into());
        }
        "yarn" => {
            let factor = rope.positive("factor")?;
            let original = rope.u32("original_max_position_embeddings")?;
            let original = original.map_or_else(|| config.required_u32("max_position_embeddings"), Ok)?;
            set("rope.scaling.type", "yarn".into());
            set("rope.scaling.factor", (factor as f32).into());
            set("rope.scaling.original_context_length", original.into());
            for (setting, key) in YARN {
                if let Some(number) = rope.f64(setting)? {
                    set(key, (number as f32).into());
                }
            }
            // Transformers gives the whole factor, GGUF what it is multiplied by.
            let usual = |multiplier: f64| 1.0 + 0.1 * multiplier * factor.max(1.0).ln();
            let whole = match (rope.f64("attention_factor")?, rope.f64("mscale")?, rope.f64("mscale_all_dim")?) {
                (None, Some(some), Some(all)) if some != 0.0 && all != 0.0 => Some(usual(some) / usual(all)),
                (whole, ..) => whole,
            };
            if let Some(whole) = whole {
                set("rope.scaling.yarn_attn_factor", ((whole / usual(1.0)) as f32).into());
            }
        }
        "longrope" | "su" => {
            let original = rope.u32("original_max_position_embeddings")?;
            let original = original.or(config.u32("original_max_position_embeddings")?);
            let original = original.ok_or_else(|| config.missing("original_max_position_embeddings"))?;
            let factor = f64::from(config.required_u32("max_position_embeddings")?) / f64::from(original);
            let usual = (1.0 + factor.max(1.0).ln() / f64::from(original).ln()).sqrt();
            set("rope.scaling.type", "longrope".into());
            set("rope.scaling.original_context_length", original.into());
            set("rope.scaling.attn_factor", (rope.f64("attention_factor")?.unwrap_or(usual) as f32).into());
            for (setting, key) in [("short_factor", "rope.freq_factors"), ("long_factor", "rope.freq_factors_long")] {
                set(key, rope.numbers(setting, dims / 2)?.into());
            }
        }
        other => {
            let message = format!("{}: the type {other:?} is not supported", rope.file);
            return Err(Error::Unsupported(format!(
                "{message} (default, linear, proportional, yarn, longrope and llama3 are)"
            )));
        }
    }
    Ok(())
}

/// What each pair's frequency is divided by under Llama 3.1's scaling: 1 for wavelengths well within the original
/// context, `factor` for those longer than it, and a smooth passage between.
fn llama3_factors(rope: &Object, base: f64, dims: u32) -> Result<Vec<f32>> {
    let (factor, low, high) =
        (rope.positive("factor")?, rope.positive("low_freq_factor")?, rope.positive("high_freq_factor")?);
    let context = rope.positive("original_max_position_embeddings")?;
    if low >= high {
        return Err(Error::Format(format!("{}: low_freq_factor must be below high_freq_factor", rope.file)));
    }
    let factors = (0..dims / 2).map(|pair| {
        let wavelength = std::f64::consts::TAU * base.powf(f64::from(2 * pair) / f64::from(dims));
        let turns = context / wavelength;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    });
    Ok(factors.collect())
}
