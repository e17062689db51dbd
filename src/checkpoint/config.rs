//! A Hugging Face `config.json`, told in GGUF's keys, as llama.cpp's converter writes them.
//!
//! A setting is a row of [`SETTINGS`]; what follows from several settings (rotary embedding, attention windows) is a
//! function. A setting that Firelight cannot honour is an error, because ignoring it would give wrong words.

use super::metadata::{Metadata, Value};
use super::nested;
use super::rename::{FAMILIES, Family};
use crate::{Error, Result};
use serde_json::{Map, Value as Json};

/// How a setting's value is read.
enum Kind {
    Count,
    Number,
    Truth,
}

/// A setting in `config.json`, the GGUF key (after the architecture), its kind, and whether a model can be without it
/// (and without others of the same key before it).
const SETTINGS: &[(&str, &str, Kind, bool)] = &[
    ("num_hidden_layers", "block_count", Kind::Count, true),
    ("max_position_embeddings", "context_length", Kind::Count, true),
    ("hidden_size", "embedding_length", Kind::Count, true),
    ("block_ff_dim", "feed_forward_length", Kind::Count, false),
    ("intermediate_size", "feed_forward_length", Kind::Count, false),
    ("intermediate_size_mlp", "feed_forward_length", Kind::Count, false),
    ("num_attention_heads", "attention.head_count", Kind::Count, true),
    ("num_key_value_heads", "attention.head_count_kv", Kind::Count, false),
    ("head_dim", "attention.key_length", Kind::Count, false),
    ("head_dim", "attention.value_length", Kind::Count, false),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon", Kind::Number, false),
    ("norm_eps", "attention.layer_norm_rms_epsilon", Kind::Number, false),
    ("norm_epsilon", "attention.layer_norm_epsilon", Kind::Number, false),
    ("vocab_size", "vocab_size", Kind::Count, true),
    ("num_local_experts", "expert_count", Kind::Count, false),
    ("num_experts", "expert_count", Kind::Count, false),
    ("num_experts_per_tok", "expert_used_count", Kind::Count, false),
    ("top_k_experts", "expert_used_count", Kind::Count, false),
    ("moe_intermediate_size", "expert_feed_forward_length", Kind::Count, false),
    ("norm_topk_prob", "expert_weights_norm", Kind::Truth, false),
    ("kv_lora_rank", "attention.kv_lora_rank", Kind::Count, false),
    ("q_lora_rank", "attention.q_lora_rank", Kind::Count, false),
    ("v_head_dim", "attention.value_length_mla", Kind::Count, false),
    ("n_routed_experts", "expert_count", Kind::Count, false),
    ("n_shared_experts", "expert_shared_count", Kind::Count, false),
    ("routed_scaling_factor", "expert_weights_scale", Kind::Number, false),
    ("first_k_dense_replace", "leading_dense_block_count", Kind::Count, false),
    ("linear_conv_kernel_dim", "ssm.conv_kernel", Kind::Count, false),
    ("linear_key_head_dim", "ssm.state_size", Kind::Count, false),
    ("linear_num_key_heads", "ssm.group_count", Kind::Count, false),
    ("linear_num_value_heads", "ssm.time_step_rank", Kind::Count, false),
    ("attn_logit_softcapping", "attn_logit_softcapping", Kind::Number, false),
    ("final_logit_softcapping", "final_logit_softcapping", Kind::Number, false),
    ("embedding_multiplier", "embedding_scale", Kind::Number, false),
    ("residual_multiplier", "residual_scale", Kind::Number, false),
    ("attention_multiplier", "attention.scale", Kind::Number, false),
    ("logits_scaling", "logit_scale", Kind::Number, false),
    ("hidden_size_per_layer_input", "embedding_length_per_layer_input", Kind::Count, false),
    ("num_kv_shared_layers", "attention.shared_kv_layers", Kind::Count, false),
    ("interleave_moe_layer_step", "interleave_moe_layer_step", Kind::Count, false),
    ("floor_scale", "attention.temperature_length", Kind::Count, false),
    ("attn_scale", "attention.temperature_scale", Kind::Number, false),
    ("conv_L_cache", "shortconv.l_cache", Kind::Count, false),
    ("is_matryoshka", "matryoshka", Kind::Truth, false),
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
    ("n_routed_experts", 2048),
];

/// Numbers that the architectures have and no key says.
const FIXED: &[(&str, f64)] = &[("no_rope_layer_interval", 4.0), ("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)];

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

    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", Json::as_str)
    }

    pub fn missing(&self, key: &str) -> Error {
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

    /// What each layer is.
    fn layer_types(&self, blocks: u32) -> Result<Option<&Vec<Json>>> {
        let types = self.typed("layer_types", "an array", Json::as_array)?;
        match types.filter(|types| types.len() != blocks as usize) {
            Some(types) => {
                let (file, entries) = (&self.file, types.len());
                Err(Error::Format(format!("{file}: layer_types has {entries} entries for {blocks} layers")))
            }
            None => Ok(types),
        }
    }

    /// The class of its model in Transformers.
    pub fn class(&self) -> &str {
        self.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str).unwrap_or_default()
    }

    /// An object within this one.
    pub fn object(&self, key: &str) -> Result<Option<Object>> {
        let object = self.typed(key, "an object", Json::as_object)?;
        Ok(object.map(|json| Object { file: format!("{}: {key}", self.file), json: json.clone() }))
    }
}

/// Adds what the family's files leave out because it is usual.
pub(super) fn complete(config: &mut Object, family: &Family) -> Result<()> {
    let usual: Map<String, Json> = serde_json::from_str(family.usual).map_err(|e| Error::Format(e.to_string()))?;
    for (setting, value) in usual {
        if config.get(&setting).is_none() {
            config.json.insert(setting, value);
        }
    }
    // Transformers 5 tells the other heads of layers that see everything layer by layer.
    let Some(layers) = config.object("per_layer_config")? else { return Ok(()) };
    let mut others = layers.json.values();
    let other = others.next().and_then(Json::as_object).cloned().unwrap_or_default();
    let settings = [("head_dim", "global_head_dim"), ("num_key_value_heads", "num_global_key_value_heads")];
    let known = other.keys().all(|key| settings.iter().any(|(name, _)| name == key));
    if !known || others.any(|more| *more != Json::Object(other.clone())) {
        return Err(Error::Unsupported(format!("{}: these layers are not supported", layers.file)));
    }
    for (name, setting) in settings {
        if let Some(value) = other.get(name) {
            config.json.insert(setting.into(), value.clone());
        }
    }
    Ok(())
}

/// The family that `architectures` names; models whose weights or functions Firelight does not have are refused.
pub(super) fn family(config: &Object) -> Result<&'static Family> {
    let (class, file) = (config.class(), &config.file);
    let family = FAMILIES.iter().find(|family| family.class == class).ok_or_else(|| {
        let mut known = FAMILIES.map(|family| family.class).to_vec();
        known.extend(nested::CLASSES.map(|(class, ..)| class));
        known.dedup();
        let known = known.join(", ");
        Error::Unsupported(format!("{file}: the architecture {class:?} is not supported; these are: {known}"))
    })?;
    let quantization = config.object("quantization_config")?;
    let method =
        quantization.as_ref().map(|q| Ok::<_, Error>(q.str("quant_method")?.unwrap_or("unknown"))).transpose()?;
    if let Some(method) = method.filter(|_| method != family.quantization) {
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
        let key = format!("{architecture}.{key}");
        let value = match kind {
            Kind::Count => config.u32(setting)?.map(Value::U32),
            Kind::Number => config.f64(setting)?.map(|number| Value::F32(number as f32)),
            Kind::Truth => config.bool(setting)?.map(Value::Bool),
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
    for (setting, only) in FIXED {
        if let Some(number) = config.f64(setting)?.filter(|number| number != only) {
            return Err(Error::Unsupported(format!("{}: {setting} is {number}, not {only}", config.file)));
        }
    }
    unrotated(config)?;
    latent(config, architecture, &mut metadata)?;
    convolutions(config, architecture, &mut metadata)?;
    delta_net(config, architecture, &mut metadata)?;
    sliding_window(config, family, &mut metadata)?;
    global_heads(config, architecture, &mut metadata)?;
    Ok(metadata)
}

/// Layers with a short convolution, which have no keys: those that have are listed.
fn convolutions(config: &Object, architecture: &str, metadata: &mut Metadata) -> Result<()> {
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

/// The heads of attention over latent keys, and the groups that experts are chosen from.
fn latent(config: &Object, architecture: &str, metadata: &mut Metadata) -> Result<()> {
    if config.get("kv_lora_rank").is_none() {
        return Ok(());
    }
    let (rank, rotated) = (config.required_u32("kv_lora_rank")?, config.required_u32("qk_rope_head_dim")?);
    for (key, count) in [
        ("head_count_kv", 1),
        ("key_length", rank.saturating_add(rotated)),
        ("value_length", rank),
        ("key_length_mla", config.required_u32("qk_nope_head_dim")?.saturating_add(rotated)),
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

/// The heads of gated delta nets.
fn delta_net(config: &Object, architecture: &str, metadata: &mut Metadata) -> Result<()> {
    if config.get("linear_num_value_heads").is_some() {
        let heads = config.required_u32("linear_num_value_heads")?;
        let inner = heads.saturating_mul(config.required_u32("linear_value_head_dim")?);
        metadata.insert(format!("{architecture}.ssm.inner_size"), inner);
        metadata.insert(format!("{architecture}.ssm.grouped_heads"), true);
    }
    Ok(())
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

/// Layers without rotary embedding, Llama 4's norm of what is rotated, and scores that grow without it, are where the
/// architecture has them.
fn unrotated(config: &Object) -> Result<()> {
    let refuse = |setting: &str| Err(Error::Unsupported(format!("{}: {setting} is not the usual one", config.file)));
    let listed = config.typed("no_rope_layers", "an array", Json::as_array)?;
    let everywhere = config.json.get("attention_chunk_size").is_some_and(Json::is_null);
    let usual = |(n, rotates): (usize, &Json)| *rotates == u32::from(everywhere || (n + 1) % 4 != 0);
    if !listed.is_none_or(|layers| layers.iter().enumerate().all(usual)) {
        return refuse("no_rope_layers");
    }
    // Early files have a number there.
    let tuned = config.get("attn_temperature_tuning");
    if !everywhere && tuned.is_some_and(|tuned| *tuned == false || *tuned == 0) {
        return refuse("attn_temperature_tuning");
    }
    let normed = config.u32("num_local_experts")? != Some(128);
    match config.bool("use_qk_norm")?.filter(|norm| *norm != normed) {
        Some(_) => refuse("use_qk_norm"),
        None => Ok(()),
    }
}

/// The attention window, and in which layers it holds where it does not hold in all.
fn sliding_window(config: &Object, family: &Family, metadata: &mut Metadata) -> Result<()> {
    let architecture = family.architecture;
    let enabled = config.bool("use_sliding_window")?;
    let chunks = "attention_chunk_size";
    let setting = if config.json.contains_key(chunks) { chunks } else { "sliding_window" };
    if family.windowed && config.json.get(setting).is_some_and(Json::is_null) {
        metadata.insert(format!("{architecture}.attention.sliding_window"), 0u32);
    }
    let Some(window) = config.u32(setting)?.filter(|_| enabled != Some(false)) else { return Ok(()) };
    let blocks = config.required_u32("num_hidden_layers")?;
    let layers: Vec<bool> = match config.layer_types(blocks)? {
        Some(types) => types.iter().map(|kind| kind == "sliding_attention" || kind == "chunked_attention").collect(),
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
    } else if family.windowed {
        metadata.insert(format!("{architecture}.attention.sliding_window"), 0u32);
    }
    Ok(())
}

/// Rotary embedding: `rope_theta` and `rope_scaling`, or (Transformers 5) both in `rope_parameters`.
pub(super) fn rope(config: &Object, family: &Family, metadata: &mut Metadata) -> Result<()> {
    let architecture = family.architecture;
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
    // Of latent attention's heads one part is rotated, whose neighbours are pairs here too.
    let rotated = config.u32("qk_rope_head_dim")?;
    let neighbours = family.neighbours || rotated.is_some() && config.bool("rope_interleave")? != Some(false);
    let head = rotated.unwrap_or(head);
    let partial = rope.f64("partial_rotary_factor")?.or(config.f64("partial_rotary_factor")?).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&partial) {
        return Err(Error::Format(format!("{}: partial_rotary_factor is {partial}; it must be 0 to 1", config.file)));
    }
    let dims = (f64::from(head) * partial) as u32;
    let base = rope.f64("rope_theta")?.or(config.f64("rope_theta")?).unwrap_or(10_000.0);

    let mut set = |key: &str, value: Value| drop(metadata.insert(format!("{architecture}.{key}"), value));
    set("rope.dimension_count", dims.into());
    set("rope.freq_base", (base as f32).into());
    if !neighbours {
        set("rope.pairing", "halves".into());
    }
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
            let usual = |multiplier: f64| 1.0 + 0.1 * multiplier * factor.max(1.0).ln();
            let whole = match (rope.f64("attention_factor")?, rope.f64("mscale")?, rope.f64("mscale_all_dim")?) {
                (None, Some(some), Some(all)) if some != 0.0 && all != 0.0 => Some(usual(some) / usual(all)),
                (whole, ..) => whole,
            };
            // Latent attention multiplies scores by what it takes from the rotated values.
            if let (Some(rotated), Some(all)) = (rotated, rope.f64("mscale_all_dim")?) {
                let key = f64::from(config.required_u32("qk_nope_head_dim")?) + f64::from(rotated);
                set("attention.scale", ((usual(all).powi(2) / key.sqrt()) as f32).into());
            }
            if let Some(whole) = whole {
                set("rope.scaling.yarn_attn_factor", (whole as f32).into());
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
    if low > high {
        return Err(Error::Format(format!("{}: low_freq_factor must not exceed high_freq_factor", rope.file)));
    }
    let factors = (0..dims / 2).map(|pair| {
        let wavelength = std::f64::consts::TAU * base.powf(f64::from(2 * pair) / f64::from(dims));
        let turns = context / wavelength;
        // Llama 4 has no passage.
        let smooth = ((turns - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    });
    Ok(factors.collect())
}
