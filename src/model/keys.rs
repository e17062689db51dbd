//! Typed access to the keys of one architecture, `{arch}.name`.

use crate::checkpoint::{GgufArray, GgufValue, Metadata};
use crate::{Error, Result};

/// The keys `{arch}.name` of a file.
pub(super) struct Keys<'a> {
    /// All keys.
    pub metadata: &'a Metadata,
    /// `general.architecture`.
    pub arch: &'static str,
}

impl Keys<'_> {
    /// The whole name of a key.
    pub fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    /// A count; of an array, the value that all layers share.
    pub fn u32(&self, name: &str) -> Result<Option<u32>> {
        let path = self.path(name);
        match self.metadata.get(&path) {
            Some(GgufValue::Array(_)) => {
                self.metadata.get_u32s(&path)?.map(|values| common(&path, &values)).transpose()
            }
            _ => self.metadata.get_u32(&path),
        }
    }

    /// A number; of an array, the value that all layers share.
    pub fn f32(&self, name: &str) -> Result<Option<f32>> {
        let path = self.path(name);
        match self.metadata.get(&path) {
            Some(GgufValue::Array(_)) => {
                self.metadata.get_f32s(&path)?.map(|values| common(&path, &values)).transpose()
            }
            _ => self.metadata.get_f32(&path),
        }
    }

    /// A finite number.
    pub fn finite(&self, name: &str) -> Result<Option<f32>> {
        let value = self.f32(name)?;
        match value {
            Some(value) if !value.is_finite() => Err(Error::format(format!("{} is {value}", self.path(name)))),
            _ => Ok(value),
        }
    }

    /// A finite number other than 0, which some files store for "none".
    pub fn nonzero(&self, name: &str) -> Result<Option<f32>> {
        Ok(self.finite(name)?.filter(|value| *value != 0.0))
    }

    /// A flag.
    pub fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.metadata.get_bool(&self.path(name))
    }

    /// A text.
    pub fn str(&self, name: &str) -> Result<Option<&str>> {
        self.metadata.get_str(&self.path(name))
    }

    /// A flag for each layer (some files store 0 and 1); `None` if the key holds a single number.
    pub fn flags(&self, name: &str) -> Result<Option<Vec<bool>>> {
        let path = self.path(name);
        match self.metadata.get(&path) {
            Some(GgufValue::Array(GgufArray::Bool(flags))) => Ok(Some(flags.clone())),
            Some(GgufValue::Array(_)) => {
                Ok(self.metadata.get_u32s(&path)?.map(|flags| flags.iter().map(|flag| *flag != 0).collect()))
            }
            _ => Ok(None),
        }
    }

    /// A required size between 1 and `max`.
    pub fn size(&self, name: &str, max: u32) -> Result<u32> {
        let path = self.path(name);
        let value = self.u32(name)?.ok_or_else(|| Error::format(format!("the file lacks the key {path}")))?;
        in_range(&path, value, max)
    }

    /// A size between 1 and `max`, or the default.
    pub fn size_or(&self, name: &str, default: u32, max: u32) -> Result<u32> {
        in_range(&self.path(name), self.u32(name)?.unwrap_or(default), max)
    }

    /// A size for each layer: from an array, in which 0 means that the layer has none, or one value for all layers.
    pub fn sizes_or(&self, name: &str, default: u32, max: u32, layers: u32) -> Result<Vec<u32>> {
        let path = self.path(name);
        let mut sizes = self.metadata.get_u32s(&path)?.unwrap_or(vec![default]);
        if sizes.len() == 1 {
            sizes = vec![in_range(&path, sizes[0], max)?; layers as usize];
        }
        if sizes.len() < layers as usize {
            return Err(Error::format(format!("{path} has {} entries for {layers} layers", sizes.len())));
        }
        for size in sizes.iter().filter(|size| **size > 0) {
            in_range(&path, *size, max)?;
        }
        Ok(sizes)
    }
}

/// The value that all layers of an array share; 0 means that a layer has none.
fn common<T: Copy + Default + PartialEq + std::fmt::Display>(key: &str, values: &[T]) -> Result<T> {
    let mut said = values.iter().copied().filter(|value| *value != T::default());
    let first = said.next().unwrap_or_default();
    match said.find(|value| *value != first) {
        None => Ok(first),
        Some(other) => Err(Error::Unsupported(format!("{key} is {first} in one layer and {other} in another"))),
    }
}

/// Checks a value of a key.
pub(super) fn in_range(key: &str, value: u32, max: u32) -> Result<u32> {
    if value == 0 || value > max {
        return Err(Error::format(format!("{key} is {value}, which is not between 1 and {max}")));
    }
    Ok(value)
}
