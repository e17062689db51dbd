//! RoPE settings of `config.json`: base, scaling, and per-pair frequency factors.

use super::families::HfFamily;
use super::json::JsonObject;
use crate::checkpoint::{GgufValue, Metadata};
use crate::{Error, Result};
use serde_json::{Map, Value as Json};

/// YaRN settings other than the factor and the original context length.
const YARN: &[(&str, &str)] = &[
    ("extrapolation_factor", "rope.scaling.yarn_ext_factor"),
    ("beta_fast", "rope.scaling.yarn_beta_fast"),
    ("beta_slow", "rope.scaling.yarn_beta_slow"),
];

/// Converts `rope_theta` and `rope_scaling`, or (Transformers 5) `rope_parameters`, to GGUF keys.
pub(super) fn rope(config: &JsonObject, family: &HfFamily, metadata: &mut Metadata) -> Result<()> {
    let architecture = family.architecture;
    let empty = JsonObject { file: config.file.clone(), json: Map::new() };
    let mut rope = config.object("rope_parameters")?.or(config.object("rope_scaling")?).unwrap_or(empty);
    let mut local_base = config.f64("rope_local_base_freq")?;
    // Sliding-window layers may have separate RoPE settings.
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
    // MLA rotates a part of each head, and its weights are ordered for interleaved RoPE.
    let mla_rope_dim = config.u32("qk_rope_head_dim")?;
    let interleaved =
        family.interleaved_rope || mla_rope_dim.is_some() && config.bool("rope_interleave")? != Some(false);
    let head = mla_rope_dim.unwrap_or(head);
    let partial = rope.f64("partial_rotary_factor")?.or(config.f64("partial_rotary_factor")?).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&partial) {
        return Err(Error::format(format!("{}: partial_rotary_factor is {partial}; it must be 0 to 1", config.file)));
    }
    let dims = (f64::from(head) * partial) as u32;
    let base = rope.f64("rope_theta")?.or(config.f64("rope_theta")?).unwrap_or(10_000.0);

    let mut set = |key: &str, value: GgufValue| drop(metadata.insert(format!("{architecture}.{key}"), value));
    set("rope.dimension_count", dims.into());
    set("rope.freq_base", (base as f32).into());
    if !interleaved {
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
        // Pairs after the first `partial` of them are not rotated.
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
            let mscale = |multiplier: f64| 1.0 + 0.1 * multiplier * factor.max(1.0).ln();
            let attention_factor =
                match (rope.f64("attention_factor")?, rope.f64("mscale")?, rope.f64("mscale_all_dim")?) {
                    (None, Some(some), Some(all)) if some != 0.0 && all != 0.0 => Some(mscale(some) / mscale(all)),
                    (factor, ..) => factor,
                };
            // MLA scales the scores by mscale squared rather than the rotated values by mscale.
            if let (Some(rope_dim), Some(all)) = (mla_rope_dim, rope.f64("mscale_all_dim")?) {
                let key = f64::from(config.required_u32("qk_nope_head_dim")?) + f64::from(rope_dim);
                set("attention.scale", ((mscale(all).powi(2) / key.sqrt()) as f32).into());
            }
            if let Some(factor) = attention_factor {
                set("rope.scaling.yarn_attn_factor", (factor as f32).into());
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

/// Divisors of each pair's frequency for Llama 3.1's scaling: 1 for wavelengths well within the original context,
/// `factor` for longer ones, and a smooth transition between them.
fn llama3_factors(rope: &JsonObject, base: f64, dims: u32) -> Result<Vec<f32>> {
    let (factor, low, high) =
        (rope.positive("factor")?, rope.positive("low_freq_factor")?, rope.positive("high_freq_factor")?);
    let context = rope.positive("original_max_position_embeddings")?;
    if low > high {
        return Err(Error::format(format!("{}: low_freq_factor must not exceed high_freq_factor", rope.file)));
    }
    let factors = (0..dims / 2).map(|pair| {
        let wavelength = std::f64::consts::TAU * base.powf(f64::from(2 * pair) / f64::from(dims));
        let turns = context / wavelength;
        // In Llama 4 both factors are equal: no transition.
        let smooth = ((turns - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    });
    Ok(factors.collect())
}
