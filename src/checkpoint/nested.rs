//! Folders of models that see or hear besides: the language model's part of them, under the names that it has alone.

use super::config::Object;
use super::safetensors::Tensor;
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::Value as Json;

/// The class of the whole, the `model_type` of the language model's settings, and its own class. The first row of a class
/// is meant where no type is said.
pub(super) const CLASSES: [(&str, &str, &str); 7] = [
    ("Llama4ForConditionalGeneration", "llama4_text", "Llama4ForCausalLM"),
    ("Mistral3ForConditionalGeneration", "mistral", "MistralForCausalLM"),
    ("Mistral3ForConditionalGeneration", "ministral3", "Ministral3ForCausalLM"),
    ("Gemma3ForConditionalGeneration", "gemma3_text", "Gemma3ForCausalLM"),
    ("Gemma4ForConditionalGeneration", "gemma4_text", "Gemma4ForCausalLM"),
    ("Qwen3_5ForConditionalGeneration", "qwen3_5_text", "Qwen3_5ForCausalLM"),
    ("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"),
];

/// What stands before the names of the other parts; in some files `model.` does before that.
const OTHERS: [&str; 7] = [
    "vision_tower.",
    "vision_model.",
    "visual.",
    "multi_modal_projector.",
    "embed_vision.",
    "audio_tower.",
    "embed_audio.",
];

/// Turns the settings of such a model into those of its language model. Other settings are left as they are.
pub(super) fn settings(config: Object) -> Result<Object> {
    let rows = || CLASSES.iter().filter(|(whole, ..)| *whole == config.class());
    let Some(first) = rows().next() else { return Ok(config) };
    let text = config.object("text_config")?.ok_or_else(|| config.missing("text_config"))?;
    let kind = text.str("model_type")?.unwrap_or(first.1);
    let Some((.., class)) = rows().find(|(_, model_type, _)| *model_type == kind) else {
        let message = format!("{}: a language model of the type {kind:?} is not supported", text.file);
        return Err(Error::Unsupported(format!("{message}; take a GGUF of the model")));
    };
    // Special tokens may be said outside. Whether embeddings are tied is said there too, and not always rightly.
    let Object { file, mut json } = config;
    json.remove("tie_word_embeddings");
    let said: Vec<_> =
        text.json.into_iter().filter(|(key, value)| !(value.is_null() && json.contains_key(key))).collect();
    json.extend(said);
    json.insert("architectures".into(), Json::from(vec![*class]));
    Ok(Object { file, json })
}

/// The language model's tensors under the names that they have alone, and how many others are left out.
pub(super) fn tensors(all: IndexMap<String, Tensor>) -> (IndexMap<String, Tensor>, usize) {
    let count = all.len();
    let plain: IndexMap<_, _> = all.into_iter().filter_map(|(name, tensor)| Some((plain(&name)?, tensor))).collect();
    let left_out = count - plain.len();
    (plain, left_out)
}

/// `language_model.model.norm.weight` and `model.language_model.norm.weight` -> `model.norm.weight`; nothing of the other
/// parts.
fn plain(name: &str) -> Option<String> {
    let inner = name.strip_prefix("model.").unwrap_or(name);
    if OTHERS.iter().any(|other| inner.starts_with(other)) {
        return None;
    }
    Some(match (name.strip_prefix("language_model."), name.strip_prefix("model.language_model.")) {
        (Some(own), _) => own.to_owned(),
        (_, Some(own)) => format!("model.{own}"),
        _ => name.to_owned(),
    })
}
