//! Hugging Face folders: converts `config.json` to GGUF keys and safetensors names to GGUF names.
//!
//! [`families`] lists the supported model classes; [`settings`] and [`rope`] convert the settings, [`names`] and
//! [`layouts`] the tensor table. The rows of q and k stay in NeoX RoPE order (llama.cpp's converter permutes them); the
//! key `rope.pairing` records that. `tokenizer.json` is passed on unparsed.

mod families;
mod json;
mod layouts;
mod multimodal;
mod names;
mod rope;
mod safetensors;
mod settings;
mod tokenizer;

use super::{Checkpoint, Source, fused};
use crate::text::decode;
use crate::{Error, Result};
use indexmap::IndexMap;
use json::JsonObject;
use names::HfShape;
use safetensors::SafeTensor;
use serde_json::Value as Json;
use std::path::Path;

pub(super) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Real JSON files (a large tokenizer, the index of a thousand shards) are smaller.
const JSON_LIMIT: u64 = 100_000_000;

/// Opens the relevant files of a folder.
///
/// # Errors
/// If there is no `config.json`, or a file cannot be opened.
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
            None => {
                format!("{path} is not a model folder: it has no {CONFIG}; give a GGUF file or a Hugging Face folder")
            }
        };
        return Err(Error::Usage(message));
    }
    let wanted = paths.iter().filter(|path| path.is_file() && ends_in(path, &["json", "jinja", "safetensors"]));
    wanted.map(|path| Source::file(path)).collect()
}

/// Opens a folder, given its files in any order.
pub(super) async fn open(sources: Vec<Source>) -> Result<Checkpoint> {
    let folder = HfFolder { sources };
    let config = folder.object(CONFIG).await?.ok_or_else(|| Error::Usage(format!("there is no {CONFIG}")))?;
    let (class, mut config) = (config.class().to_owned(), multimodal::text_settings(config)?);
    let family = settings::family(&config)?;
    settings::add_defaults(&mut config, family)?;
    let mut metadata = settings::settings(&config, family)?;
    if let Some(name) = config.file.rsplit(['/', '\\']).nth(1) {
        metadata.insert("general.name", name);
    }
    rope::rope(&config, family, &mut metadata)?;
    let tokenizer_json = folder.text(TOKENIZER).await?.map(String::into_bytes);
    tokenizer::add_tokenizer(&folder, &config, tokenizer_json.as_deref(), &mut metadata).await?;

    let shape = HfShape {
        blocks: config.required_u32("num_hidden_layers")?,
        mtp_blocks: config.u32("num_nextn_predict_layers")?.unwrap_or(0),
        experts: metadata.get_u32(&format!("{}.expert_count", family.architecture))?.unwrap_or(0),
        tied_embeddings: config.bool("tie_word_embeddings")?,
    };
    let (mut tensors, mut notices) = (folder.tensors().await?, Vec::new());
    if class != family.class {
        let (text, ignored) = multimodal::text_tensors(tensors);
        tensors = text;
        if ignored > 0 {
            let message = "only the text model of this multimodal model is loaded";
            notices.push(format!("{message}; {ignored} tensors of its other parts are ignored"));
        }
    }
    let mut tensors = names::translate(family, &shape, &config.file, tensors)?;
    fused::split(&metadata, &mut tensors)?;
    Ok(Checkpoint { metadata, tensors, tokenizer_json, notices, sources: folder.sources })
}

struct HfFolder {
    sources: Vec<Source>,
}

impl HfFolder {
    fn find(&self, name: &str) -> Option<(usize, &Source)> {
        self.sources.iter().enumerate().find(|(_, source)| source.file_name() == name)
    }

    async fn text(&self, name: &str) -> Result<Option<String>> {
        match self.find(name) {
            Some((_, source)) => decode(source.read_all(JSON_LIMIT).await?, source.name()).map(Some),
            None => Ok(None),
        }
    }

    /// Parses a JSON file that contains an object.
    async fn object(&self, name: &str) -> Result<Option<JsonObject>> {
        let (Some((_, source)), Some(text)) = (self.find(name), self.text(name).await?) else { return Ok(None) };
        let file = source.name().to_owned();
        match serde_json::from_str(&text) {
            Ok(json) => Ok(Some(JsonObject { file, json })),
            Err(error) => Err(Error::format(format!("{file}: {error}")).caused_by(error)),
        }
    }

    /// Reads the tensor table of `model.safetensors`, or of all files in the index.
    async fn tensors(&self) -> Result<IndexMap<String, SafeTensor>> {
        let Some(index) = self.object(INDEX).await? else {
            let (index, source) = self.find(WEIGHTS).ok_or_else(|| {
                let message = format!("there is no {WEIGHTS} and no {INDEX} next to {CONFIG}");
                Error::Usage(format!("{message}; PyTorch files (.bin, .pt) are not read"))
            })?;
            return safetensors::read(source, index).await;
        };
        let map = index.json.get("weight_map").and_then(Json::as_object);
        let map = map.ok_or_else(|| Error::format(format!("{} has no weight_map", index.file)))?;
        let mut shards = IndexMap::new();
        let mut tensors = IndexMap::new();
        for (name, shard) in map {
            let shard = shard.as_str().unwrap_or_default();
            if !shards.contains_key(shard) {
                let (number, source) = self.find(shard).ok_or_else(|| {
                    Error::Usage(format!("{} names {shard:?}, which is missing: put it in the same folder", index.file))
                })?;
                shards.insert(shard, safetensors::read(source, number).await?);
            }
            let tensor = shards.get(shard).and_then(|tensors| tensors.get(name));
            let tensor =
                tensor.ok_or_else(|| Error::format(format!("{}: tensor {name} is not in {shard}", index.file)))?;
            tensors.insert(name.clone(), tensor.clone());
        }
        Ok(tensors)
    }
}
