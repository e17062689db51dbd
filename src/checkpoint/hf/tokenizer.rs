//! Special tokens and chat templates of a Hugging Face folder. The vocabulary in `tokenizer.json` is not parsed here.

use super::json::JsonObject;
use super::{HfFolder, TOKENIZER};
use crate::checkpoint::Metadata;
use crate::{Error, Result};
use serde_json::{Map, Value as Json};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Special tokens: the name in `tokenizer_config.json` and `config.json`, and in GGUF keys.
const SPECIAL_TOKENS: &[(&str, &str)] = &[("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")];

/// Adds special tokens and the chat template, from whichever files of the folder define them.
pub(super) async fn add_tokenizer(
    folder: &HfFolder,
    config: &JsonObject,
    tokenizer_json: Option<&[u8]>,
    metadata: &mut Metadata,
) -> Result<()> {
    let tokenizer_config = folder.object(TOKENIZER_CONFIG).await?;
    let tokenizer_config =
        tokenizer_config.unwrap_or_else(|| JsonObject { file: TOKENIZER_CONFIG.into(), json: Map::new() });
    let generation = folder.object(GENERATION_CONFIG).await?;
    let generation = generation.unwrap_or_else(|| JsonObject { file: GENERATION_CONFIG.into(), json: Map::new() });
    let added = added_tokens(tokenizer_json)?;

    for (name, key) in SPECIAL_TOKENS {
        let text = tokenizer_config.get(&format!("{name}_token")).and_then(token_text);
        let named = text.and_then(|text| added.iter().find(|token| token.content == text)).map(|token| token.id);
        let setting = format!("{name}_token_id");
        let id = named.or(token_ids(config, &setting).first().copied());
        if let Some(id) = id.or(token_ids(&generation, &setting).first().copied()) {
            metadata.insert(format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    let mut ends = token_ids(&generation, "eos_token_id");
    ends.extend(token_ids(config, "eos_token_id"));
    ends.extend(metadata.get_u32("tokenizer.ggml.eos_token_id")?);
    ends.sort_unstable();
    ends.dedup();
    if !ends.is_empty() {
        metadata.insert("tokenizer.ggml.eos_token_ids", ends);
    }
    for key in ["add_bos_token", "add_eos_token"] {
        if let Some(add) = tokenizer_config.bool(key)? {
            metadata.insert(format!("tokenizer.ggml.{key}"), add);
        }
    }
    chat_templates(&tokenizer_config, metadata);
    if let Some(template) = folder.text(CHAT_TEMPLATE).await? {
        metadata.insert("tokenizer.chat_template", template);
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct HfAddedToken {
    id: u32,
    content: String,
}

/// Parses the added tokens of `tokenizer.json` and skips the rest.
fn added_tokens(tokenizer_json: Option<&[u8]>) -> Result<Vec<HfAddedToken>> {
    #[derive(serde::Deserialize)]
    struct TokenizerJson {
        #[serde(default)]
        added_tokens: Vec<HfAddedToken>,
    }
    let Some(bytes) = tokenizer_json else { return Ok(Vec::new()) };
    let tokenizer = serde_json::from_slice(bytes).map(|TokenizerJson { added_tokens }| added_tokens);
    tokenizer.map_err(|error| Error::format(format!("{TOKENIZER}: {error}")).caused_by(error))
}

/// A special token is a string, or an object with a `content` string.
fn token_text(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// A token id or an array of token ids.
fn token_ids(settings: &JsonObject, key: &str) -> Vec<u32> {
    let id = |value: &Json| value.as_u64()?.try_into().ok();
    match settings.get(key) {
        Some(Json::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Adds the chat template, or each of an array of named templates; the one named `default` is the main one.
fn chat_templates(tokenizer_config: &JsonObject, metadata: &mut Metadata) {
    let Some(templates) = tokenizer_config.get("chat_template") else { return };
    if let Some(template) = templates.as_str() {
        metadata.insert("tokenizer.chat_template", template);
    }
    let mut names = Vec::new();
    for entry in templates.as_array().into_iter().flatten() {
        let text = |key: &str| entry.get(key).and_then(Json::as_str);
        match (text("name"), text("template")) {
            (Some("default"), Some(template)) => drop(metadata.insert("tokenizer.chat_template", template)),
            (Some(name), Some(template)) => {
                metadata.insert(format!("tokenizer.chat_template.{name}"), template);
                names.push(name.to_owned());
            }
            _ => {}
        }
    }
    if !names.is_empty() {
        metadata.insert("tokenizer.chat_templates", names);
    }
}
