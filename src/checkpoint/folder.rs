//! Opening a Hugging Face folder: which files matter, where its weights lie, and what its tokenizer files say.
//!
//! `config` tells the settings and `rename` the tensor names in GGUF's words. Rows of q and k are not permuted as
//! GGUF's llama files have them; the key `rope.pairing` says so. `tokenizer.json` is handed on as it is.

use super::config::{Object, complete, family, rope, settings};
use super::metadata::Metadata;
use super::rename::{Shape, translate};
use super::safetensors::{self, Tensor};
use super::{Checkpoint, Source, divide, nested};
use crate::text::decode;
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use std::path::Path;

pub(super) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Real ones (a large tokenizer, the index of a thousand shards) stay below.
const JSON_LIMIT: u64 = 100_000_000;
/// Special tokens: their name in `tokenizer_config.json` and `config.json`, and GGUF's.
const SPECIAL_TOKENS: &[(&str, &str)] = &[("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")];

/// The files of a folder that may matter, opened.
pub(super) fn files(path: &Path) -> Result<Vec<Source>> {
    let failed = |error| Error::io(format!("cannot list {}", path.display()), error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    let ends_in = |path: &Path, ends: &[&str]| path.extension().is_some_and(|end| ends.iter().any(|&e| end == e));
    if !path.join(CONFIG).is_file() {
        let path = path.display();
        let message = match paths.iter().find(|path| ends_in(path, &["gguf"])) {
            Some(file) => format!("{path} is a folder; name a file in it, for example {}", file.display()),
            None => format!("{path} holds no {CONFIG}; name a GGUF file or a Hugging Face folder"),
        };
        return Err(Error::Usage(message));
    }
    let wanted = paths.iter().filter(|path| path.is_file() && ends_in(path, &["json", "jinja", "safetensors"]));
    wanted.map(|path| Source::file(path)).collect()
}

/// Opens a folder, given as its files in any order.
pub(super) async fn open(sources: Vec<Source>) -> Result<Checkpoint> {
    let folder = Folder { sources };
    let config = folder.object(CONFIG).await?.ok_or_else(|| Error::Usage(format!("there is no {CONFIG}")))?;
    let (whole, mut config) = (config.class().to_owned(), nested::settings(config)?);
    let family = family(&config)?;
    complete(&mut config, family)?;
    let mut metadata = settings(&config, family)?;
    if let Some(name) = config.file.rsplit(['/', '\\']).nth(1) {
        metadata.insert("general.name", name);
    }
    rope(&config, family, &mut metadata)?;
    let tokenizer_json = folder.text(TOKENIZER).await?.map(String::into_bytes);
    tokenizer_facts(&folder, &config, tokenizer_json.as_deref(), &mut metadata).await?;

    let shape = Shape {
        blocks: config.required_u32("num_hidden_layers")?,
        ahead: config.u32("num_nextn_predict_layers")?.unwrap_or(0),
        experts: metadata.get_u32(&format!("{}.expert_count", family.architecture))?.unwrap_or(0),
        tied: config.bool("tie_word_embeddings")?,
    };
    let (mut tensors, mut notices) = (folder.tensors().await?, Vec::new());
    if whole != family.class {
        let (own, left_out) = nested::tensors(tensors);
        tensors = own;
        if left_out > 0 {
            notices.push(format!("this model reads text only: {left_out} tensors of other parts of it are left out"));
        }
    }
    let mut tensors = translate(family, &shape, &config.file, tensors)?;
    divide(&metadata, &mut tensors)?;
    Ok(Checkpoint { metadata, tensors, tokenizer_json, notices, sources: folder.sources })
}

struct Folder {
    sources: Vec<Source>,
}

impl Folder {
    fn find(&self, name: &str) -> Option<(usize, &Source)> {
        self.sources.iter().enumerate().find(|(_, source)| source.file_name() == name)
    }

    async fn text(&self, name: &str) -> Result<Option<String>> {
        match self.find(name) {
            Some((_, source)) => decode(source.read_all(JSON_LIMIT).await?, source.name()).map(Some),
            None => Ok(None),
        }
    }

    /// A JSON file that holds an object.
    async fn object(&self, name: &str) -> Result<Option<Object>> {
        let (Some((_, source)), Some(text)) = (self.find(name), self.text(name).await?) else { return Ok(None) };
        let file = source.name().to_owned();
        match serde_json::from_str(&text) {
            Ok(json) => Ok(Some(Object { file, json })),
            Err(error) => Err(Error::Format(format!("{file}: {error}"))),
        }
    }

    /// The tensors of the one weights file, or of all that the index names.
    async fn tensors(&self) -> Result<IndexMap<String, Tensor>> {
        let Some(index) = self.object(INDEX).await? else {
            let (place, source) = self.find(WEIGHTS).ok_or_else(|| {
                let message = format!("there is no {WEIGHTS} and no {INDEX} beside {CONFIG}");
                Error::Usage(format!("{message}; PyTorch files (.bin, .pt) are not read"))
            })?;
            return safetensors::read(source, place).await;
        };
        let map = index.json.get("weight_map").and_then(Json::as_object);
        let map = map.ok_or_else(|| Error::Format(format!("{} has no weight_map", index.file)))?;
        let mut shards = IndexMap::new();
        let mut tensors = IndexMap::new();
        for (name, shard) in map {
            let shard = shard.as_str().unwrap_or_default();
            if !shards.contains_key(shard) {
                let (place, source) = self.find(shard).ok_or_else(|| {
                    Error::Usage(format!("{} names {shard:?}, which is missing: put it beside it", index.file))
                })?;
                shards.insert(shard, safetensors::read(source, place).await?);
            }
            let tensor = shards.get(shard).and_then(|tensors| tensors.get(name));
            let tensor =
                tensor.ok_or_else(|| Error::Format(format!("{}: tensor {name} is not in {shard}", index.file)))?;
            tensors.insert(name.clone(), tensor.clone());
        }
        Ok(tensors)
    }
}

/// Special tokens, and the chat template, from wherever the folder has them.
async fn tokenizer_facts(
    folder: &Folder,
    config: &Object,
    tokenizer_json: Option<&[u8]>,
    metadata: &mut Metadata,
) -> Result<()> {
    let facts = folder.object(TOKENIZER_CONFIG).await?;
    let facts = facts.unwrap_or_else(|| Object { file: TOKENIZER_CONFIG.into(), json: Map::new() });
    let generation = folder.object(GENERATION_CONFIG).await?;
    let generation = generation.unwrap_or_else(|| Object { file: GENERATION_CONFIG.into(), json: Map::new() });
    let added = added_tokens(tokenizer_json)?;

    for (name, key) in SPECIAL_TOKENS {
        let text = facts.get(&format!("{name}_token")).and_then(token_text);
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
        if let Some(add) = facts.bool(key)? {
            metadata.insert(format!("tokenizer.ggml.{key}"), add);
        }
    }
    chat_templates(&facts, metadata);
    if let Some(template) = folder.text(CHAT_TEMPLATE).await? {
        metadata.insert("tokenizer.chat_template", template);
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// The part of `tokenizer.json` that has the special tokens; the rest (the vocabulary) is skipped.
fn added_tokens(tokenizer_json: Option<&[u8]>) -> Result<Vec<AddedToken>> {
    #[derive(serde::Deserialize)]
    struct Tokenizer {
        #[serde(default)]
        added_tokens: Vec<AddedToken>,
    }
    let Some(bytes) = tokenizer_json else { return Ok(Vec::new()) };
    let tokenizer = serde_json::from_slice(bytes).map(|Tokenizer { added_tokens }| added_tokens);
    tokenizer.map_err(|error| Error::Format(format!("{TOKENIZER}: {error}")))
}

/// A special token is its text, or an object with the text as `content`.
fn token_text(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// One id, or an array of them.
fn token_ids(settings: &Object, key: &str) -> Vec<u32> {
    let id = |value: &Json| value.as_u64()?.try_into().ok();
    match settings.get(key) {
        Some(Json::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// One template, or an array of named ones of which `default` is the usual one.
fn chat_templates(facts: &Object, metadata: &mut Metadata) {
    let Some(templates) = facts.get("chat_template") else { return };
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
