//! Model metadata: GGUF keys and typed values, in the order of the file.
//!
//! Files disagree about integer widths (`u32`, `u64`, `i32`), so a getter accepts any integer that fits the requested
//! type. A key with a value of the wrong type is an error; it is never treated as missing.

use crate::{Error, Result};
use indexmap::IndexMap;

/// A metadata value of one of GGUF's types.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Invalid UTF-8 was replaced by U+FFFD.
    String(String),
    Array(GgufArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<GgufArray>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Metadata keys and values, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(IndexMap<String, GgufValue>);

impl Metadata {
    /// Empty metadata.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key and returns its previous value.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<GgufValue>) -> Option<GgufValue> {
        self.0.insert(key.into(), value.into())
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<GgufValue> {
        self.0.shift_remove(key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.0.get(key)
    }

    /// Iterates over keys and values, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &GgufValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A non-negative integer of any width.
    ///
    /// # Errors
    /// Like all getters, if the key is set but its value has another type or does not fit.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a whole number below 2^32", |value| value.integer()?.try_into().ok())
    }

    /// A non-negative integer of any width.
    pub fn get_u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number", |value| value.integer()?.try_into().ok())
    }

    /// An integer of any width.
    pub fn get_i32(&self, key: &str) -> Result<Option<i32>> {
        self.typed(key, "a whole number within 32 bits", |value| value.integer()?.try_into().ok())
    }

    /// A number; integers and doubles are rounded to the nearest `f32`.
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", GgufValue::float)
    }

    /// A Boolean.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| if let GgufValue::Bool(b) = value { Some(*b) } else { None })
    }

    /// A string.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| if let GgufValue::String(s) = value { Some(s.as_str()) } else { None })
    }

    /// An array of strings.
    pub fn get_strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of texts", |value| match value {
            GgufValue::Array(GgufArray::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// An array of numbers; a single number counts as an array of one, because files give per-layer values either way.
    pub fn get_f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.typed(key, "an array of numbers", |value| match value {
            GgufValue::Array(array) => array.floats(),
            one => Some(vec![one.float()?]),
        })
    }

    /// An array of non-negative integers; a single one counts as an array of one.
    pub fn get_u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.typed(key, "an array of whole numbers below 2^32", GgufValue::integers)
    }

    /// An array of integers; a single one counts as an array of one.
    pub fn get_i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.typed(key, "an array of whole numbers within 32 bits", GgufValue::integers)
    }

    /// An array of Booleans; a single one counts as an array of one.
    pub fn get_bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.typed(key, "an array of true or false", |value| match value {
            GgufValue::Bool(one) => Some(vec![*one]),
            GgufValue::Array(GgufArray::Bool(many)) => Some(many.clone()),
            _ => None,
        })
    }

    fn typed<'a, T>(&'a self, key: &str, want: &str, read: impl Fn(&'a GgufValue) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let unfit = || Error::format(format!("the metadata key {key} is {}; it must be {want}", value.describe()));
        read(value).map(Some).ok_or_else(unfit)
    }
}

impl GgufValue {
    /// The value if it is an integer of any width.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            GgufValue::U8(n) => n.into(),
            GgufValue::I8(n) => n.into(),
            GgufValue::U16(n) => n.into(),
            GgufValue::I16(n) => n.into(),
            GgufValue::U32(n) => n.into(),
            GgufValue::I32(n) => n.into(),
            GgufValue::U64(n) => n.into(),
            GgufValue::I64(n) => n.into(),
            _ => return None,
        })
    }

    fn float(&self) -> Option<f32> {
        match *self {
            GgufValue::F32(x) => Some(x),
            GgufValue::F64(x) => Some(x as f32),
            _ => self.integer().map(|n| n as f32),
        }
    }

    fn integers<T: TryFrom<i128>>(&self) -> Option<Vec<T>> {
        match self {
            GgufValue::Array(array) => array.integers(),
            one => Some(vec![one.integer()?.try_into().ok()?]),
        }
    }

    /// A short description for error messages.
    fn describe(&self) -> String {
        match self {
            GgufValue::String(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
            GgufValue::Array(array) => format!("an array of {}", array.len()),
            GgufValue::Bool(b) => b.to_string(),
            GgufValue::F32(x) => x.to_string(),
            GgufValue::F64(x) => x.to_string(),
            whole => whole.integer().map(|n| n.to_string()).unwrap_or_default(),
        }
    }
}

/// Evaluates `$body` with `$v` bound to the vector inside an [`Array`] of any kind in the list.
macro_rules! vectors {
    ($array:expr, [$($kind:ident),*], $v:ident => $body:expr, _ => $other:expr) => {
        match $array { $(GgufArray::$kind($v) => $body,)* #[allow(unreachable_patterns)] _ => $other }
    };
}

impl GgufArray {
    /// Number of elements.
    pub fn len(&self) -> usize {
        vectors!(self, [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64], v => v.len(), _ => 0)
    }

    /// Whether the array is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn integers<T: TryFrom<i128>>(&self) -> Option<Vec<T>> {
        vectors!(self, [U8, I8, U16, I16, U32, I32, U64, I64],
            v => v.iter().map(|&n| i128::from(n).try_into().ok()).collect(), _ => None)
    }

    #[allow(clippy::unnecessary_cast)] // one body for all kinds, `f32` among them
    fn floats(&self) -> Option<Vec<f32>> {
        vectors!(self, [U8, I8, U16, I16, U32, I32, F32, U64, I64, F64],
            v => Some(v.iter().map(|&n| n as f32).collect()), _ => None)
    }
}

macro_rules! value_from {
    ($($kind:ident $type:ty),*) => { $(
        impl From<$type> for GgufValue {
            fn from(value: $type) -> Self { GgufValue::$kind(value) }
        }
        impl From<Vec<$type>> for GgufValue {
            fn from(values: Vec<$type>) -> Self { GgufValue::Array(GgufArray::$kind(values)) }
        }
    )* };
}
value_from!(
    U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, F32 f32, Bool bool, String String, Array GgufArray, U64 u64,
    I64 i64, F64 f64
);

impl From<&str> for GgufValue {
    fn from(text: &str) -> Self {
        GgufValue::String(text.to_owned())
    }
}
