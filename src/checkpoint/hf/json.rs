//! A JSON object from a file, with typed getters whose errors name the file and the key.

use crate::{Error, Result};
use serde_json::{Map, Value as Json};

/// A JSON object and the file it comes from. `null` counts as missing.
pub(super) struct JsonObject {
    pub file: String,
    pub json: Map<String, Json>,
}

impl JsonObject {
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    pub fn typed<'a, T>(&'a self, key: &str, want: &str, read: impl Fn(&'a Json) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let unfit = || {
            let shown: String = value.to_string().chars().take(40).collect();
            Error::format(format!("{}: {key} is {shown}; it must be {want}", self.file))
        };
        read(value).map(Some).ok_or_else(unfit)
    }

    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a whole number below 2^32", |value| value.as_u64()?.try_into().ok())
    }

    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Json::as_f64)
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Json::as_bool)
    }

    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", Json::as_str)
    }

    pub fn missing(&self, key: &str) -> Error {
        Error::format(format!("{} has no {key}", self.file))
    }

    pub fn required_u32(&self, key: &str) -> Result<u32> {
        self.u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// A required positive number.
    pub fn positive(&self, key: &str) -> Result<f64> {
        let number = self.f64(key)?.ok_or_else(|| self.missing(key))?;
        if number > 0.0 {
            return Ok(number);
        }
        Err(Error::format(format!("{}: {key} is {number}; it must be positive", self.file)))
    }

    /// A required array of `count` numbers.
    pub fn numbers(&self, key: &str, count: u32) -> Result<Vec<f32>> {
        let read = |value: &Json| {
            let numbers: Vec<f32> =
                value.as_array()?.iter().map(|n| Some(n.as_f64()? as f32)).collect::<Option<_>>()?;
            (numbers.len() == count as usize).then_some(numbers)
        };
        self.typed(key, &format!("an array of {count} numbers"), read)?.ok_or_else(|| self.missing(key))
    }

    /// The type of each of `blocks` layers.
    pub fn layer_types(&self, blocks: u32) -> Result<Option<&Vec<Json>>> {
        let types = self.typed("layer_types", "an array", Json::as_array)?;
        match types.filter(|types| types.len() != blocks as usize) {
            Some(types) => {
                let (file, entries) = (&self.file, types.len());
                Err(Error::format(format!("{file}: layer_types has {entries} entries for {blocks} layers")))
            }
            None => Ok(types),
        }
    }

    /// The Transformers class of the model, `""` if there is none.
    pub fn class(&self) -> &str {
        self.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str).unwrap_or_default()
    }

    /// A nested object.
    pub fn object(&self, key: &str) -> Result<Option<JsonObject>> {
        let object = self.typed(key, "an object", Json::as_object)?;
        Ok(object.map(|json| JsonObject { file: format!("{}: {key}", self.file), json: json.clone() }))
    }
}
