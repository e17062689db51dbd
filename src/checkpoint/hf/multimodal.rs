//! Multimodal checkpoints: extracts the text model and maps its tensors to the names of the text-only architecture.

use super::families::FAMILIES;
use super::json::JsonObject;
use super::safetensors::SafeTensor;
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::Value as Json;

/// Prefixes of the tensors of other parts; some files put `model.` before them.
const OTHER_PARTS: [&str; 7] = [
    "vision_tower.",
    "vision_model.",
    "visual.",
    "multi_modal_projector.",
    "embed_vision.",
    "audio_tower.",
    "embed_audio.",
];

/// Replaces the settings of a multimodal model by those of its text model. Returns other settings unchanged.
///
/// # Errors
/// If the text model's settings are missing, or its type is not supported.
pub(super) fn text_settings(config: JsonObject) -> Result<JsonObject> {
    let wrapped = |class: &str| {
        let types = FAMILIES.iter().filter_map(|family| Some((family.class, family.wrapper?)));
        types.filter(|(_, (wrapper, _))| *wrapper == class).collect::<Vec<_>>()
    };
    let families = wrapped(config.class());
    let Some((_, (_, default_type))) = families.first() else { return Ok(config) };
    let text = config.object("text_config")?.ok_or_else(|| config.missing("text_config"))?;
    let text_type = text.str("model_type")?.unwrap_or(default_type);
    let Some((class, _)) = families.iter().find(|(_, (_, known))| *known == text_type) else {
        let message = format!("{}: the text model type {text_type:?} is not supported", text.file);
        return Err(Error::Unsupported(format!("{message}; use a GGUF of the model")));
    };
    // Special tokens may be set outside text_config. So is tie_word_embeddings, but there it is not always right.
    let JsonObject { file, mut json } = config;
    json.remove("tie_word_embeddings");
    let set: Vec<_> =
        text.json.into_iter().filter(|(key, value)| !(value.is_null() && json.contains_key(key))).collect();
    json.extend(set);
    json.insert("architectures".into(), Json::from(vec![*class]));
    Ok(JsonObject { file, json })
}

/// Returns the text model's tensors under their text-only names, and the number of other tensors.
pub(super) fn text_tensors(all: IndexMap<String, SafeTensor>) -> (IndexMap<String, SafeTensor>, usize) {
    let count = all.len();
    let text: IndexMap<_, _> = all.into_iter().filter_map(|(name, tensor)| Some((text_name(&name)?, tensor))).collect();
    let ignored = count - text.len();
    (text, ignored)
}

/// Maps `language_model.model.norm.weight` and `model.language_model.norm.weight` to `model.norm.weight`; `None` for
/// tensors of other parts.
fn text_name(name: &str) -> Option<String> {
    let inner = name.strip_prefix("model.").unwrap_or(name);
    if OTHER_PARTS.iter().any(|prefix| inner.starts_with(prefix)) {
        return None;
    }
    Some(match (name.strip_prefix("language_model."), name.strip_prefix("model.language_model.")) {
        (Some(own), _) => own.to_owned(),
        (_, Some(own)) => format!("model.{own}"),
        _ => name.to_owned(),
    })
}
