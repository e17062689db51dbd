//! The models that are served: their names and headers. Read once, at the start; no name in a request becomes a path.

use std::path::Path;
use std::time::SystemTime;

use firelight::checkpoint::{Checkpoint, split_name};
use firelight::checkpoint::{GgufValue, Metadata};
use firelight::demo;
use firelight::engine::ModelRef;
use firelight::model::Model;
use firelight::{Error, Result};
use pollster::block_on;
use serde_json::Map;
use sha2::{Digest, Sha256};

use super::http_error::HttpError;

/// A model that is served.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub model: ModelRef,
    pub bytes: u64,
    /// 64 hexadecimal digits that differ between models and stay the same while a file does.
    pub digest: String,
    /// Seconds since 1970 at which the file was written.
    pub modified: u64,
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    pub architecture: String,
    pub parameters: u64,
    /// The type of most weights.
    pub quantization: String,
    /// Positions that the model was trained for.
    pub context: u32,
    /// The dimension of an embedding.
    pub width: usize,
    /// Whether embeddings can be truncated to their first numbers (Matryoshka).
    pub matryoshka: bool,
    /// The metadata, without lists and the chat template.
    pub info: Map<String, serde_json::Value>,
    pub template: String,
    pub licence: String,
}

/// All models; the first is the default.
#[derive(Clone, Debug)]
pub struct Registry(Vec<Entry>);

impl Registry {
    /// Reads the headers of the files.
    ///
    /// # Errors
    /// If one cannot be read, or two have the same name.
    pub fn open(places: &[ModelRef]) -> Result<Self> {
        let entries: Vec<Entry> = places.iter().map(entry).collect::<Result<_>>()?;
        for (i, entry) in entries.iter().enumerate() {
            if let Some(other) = entries[..i].iter().find(|e| e.name == entry.name) {
                let (name, a, b) = (&entry.name, &other.model, &entry.model);
                return Err(Error::Usage(format!("{a} and {b} would both be called {name:?}: rename one")));
            }
        }
        match entries.is_empty() {
            true => Err(Error::Usage("there is no model to serve".into())),
            false => Ok(Registry(entries)),
        }
    }

    /// The models; the first is the default.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The index of a model; of the first if `name` is empty. Ollama's tag `:latest` may follow a name.
    pub fn find(&self, name: &str) -> std::result::Result<usize, HttpError> {
        let bare = name.strip_suffix(":latest").unwrap_or(name);
        if bare.is_empty() {
            return Ok(0);
        }
        self.0.iter().position(|e| e.name == bare).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|e| e.name.as_str()).collect();
            let message = format!("no such model: {name:?}; available: {}", names.join(", "));
            HttpError::new(axum::http::StatusCode::NOT_FOUND, "model_not_found", message)
        })
    }
}

fn entry(place: &ModelRef) -> Result<Entry> {
    let model = block_on(async { Model::from_checkpoint(place.open().await?).await });
    let model = model.map_err(|error| match error {
        Error::Unsupported(why) => Error::Unsupported(format!("{place}: {why}")),
        other => other,
    })?;
    let (metadata, tensors) = (&model.checkpoint.metadata, &model.checkpoint.tensors);
    let text = |key: &str| metadata.get(key).and_then(|_| metadata.get_str(key).ok().flatten()).unwrap_or_default();
    let mut by_type: Vec<(u64, String)> = Vec::new();
    for tensor in tensors.values() {
        let name = tensor.dtype.name().to_string();
        match by_type.iter_mut().find(|(_, known)| *known == name) {
            Some((bytes, _)) => *bytes += tensor.bytes(),
            None => by_type.push((tensor.bytes(), name)),
        }
    }
    // The built-in model has the executable's time.
    let program = || std::env::current_exe().ok();
    let (name, file) = match place {
        ModelRef::BuiltIn => (demo::NAME.to_string(), program()),
        ModelRef::Path(path) => (name(path), Some(path.clone())),
    };
    let written = file.as_ref().and_then(|file| std::fs::metadata(file).and_then(|m| m.modified()).ok());
    let modified = written.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs());
    let architecture = text("general.architecture").to_string();
    let matryoshka = metadata.get_bool(&format!("{architecture}.matryoshka"))?.unwrap_or(false);
    Ok(Entry {
        name,
        model: place.clone(),
        bytes: tensors.values().map(|t| t.bytes()).sum(),
        digest: digest(&model.checkpoint, modified),
        modified,
        format: if file.is_some_and(|file| file.is_dir()) { "safetensors" } else { "gguf" },
        architecture,
        parameters: tensors.values().map(|t| t.dims.iter().product::<u64>()).sum(),
        quantization: by_type.into_iter().max().map_or_else(String::new, |(_, name)| name),
        context: model.spec.context_length,
        width: model.spec.hidden_size as usize,
        matryoshka,
        info: info(metadata),
        template: text("tokenizer.chat_template").into(),
        licence: text("general.license").into(),
    })
}

/// The SHA-256 of the header and the time of writing, which differ between models: hashing the weights takes too long.
fn digest(checkpoint: &Checkpoint, modified: u64) -> String {
    let mut hash = Sha256::new();
    hash.update(modified.to_le_bytes());
    for (key, value) in checkpoint.metadata.iter() {
        hash.update(format!("{key}={value:?}\n"));
    }
    for (name, tensor) in &checkpoint.tensors {
        hash.update(format!("{name} {:?} {}\n", tensor.dims, tensor.dtype.name()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Metadata as JSON; lists, such as the vocabulary, are `null`, as in Ollama's answers.
fn info(metadata: &Metadata) -> Map<String, serde_json::Value> {
    let told = metadata.iter().filter(|(key, _)| *key != "tokenizer.chat_template");
    told.map(|(key, value)| (key.to_string(), json(value))).collect()
}

fn json(value: &GgufValue) -> serde_json::Value {
    match value {
        GgufValue::U8(n) => (*n).into(),
        GgufValue::I8(n) => (*n).into(),
        GgufValue::U16(n) => (*n).into(),
        GgufValue::I16(n) => (*n).into(),
        GgufValue::U32(n) => (*n).into(),
        GgufValue::I32(n) => (*n).into(),
        GgufValue::F32(n) => (*n).into(),
        GgufValue::Bool(b) => (*b).into(),
        GgufValue::String(text) => text.as_str().into(),
        GgufValue::Array(_) => serde_json::Value::Null,
        GgufValue::U64(n) => (*n).into(),
        GgufValue::I64(n) => (*n).into(),
        GgufValue::F64(n) => (*n).into(),
    }
}

/// A file's name without its ending and without the count of a split file.
fn name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = path.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    match split_name(&name) {
        Some((prefix, ..)) => prefix.into(),
        None if path.is_dir() => name,
        None => path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::name;
    use std::path::Path;

    #[test]
    fn names_are_stems() {
        assert_eq!(name(Path::new("/no/where/qwen3-0.6b-q4_0.gguf")), "qwen3-0.6b-q4_0");
        assert_eq!(name(Path::new("/no/where/big-q8_0-00001-of-00003.gguf")), "big-q8_0");
        assert_eq!(name(Path::new("/no/where/best-of-00003.gguf")), "best-of-00003");
    }
}
