//! A model's metadata: GGUF keys and typed values, in the file's order.
//!
//! Files disagree about integer widths (one writes `u32`, another `u64` or `i32`), so the getters go by what a caller
//! needs: any integer that fits is taken. A key that is there with an unfit value is an error, never "not there".

use crate::{Error, Result};
use indexmap::IndexMap;

/// One value, of the kinds GGUF has.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Bytes that are not UTF-8 were replaced by U+FFFD.
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Keys and values in the file's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(IndexMap<String, Value>);

impl Metadata {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key; returns the value it had.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(key.into(), value.into())
    }

    /// Takes a key out; returns the value it had.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.0.shift_remove(key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A non-negative integer of any width.
    ///
    /// # Errors
    /// As all getters: if the key is there, but its value is of another kind or does not fit.
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
        self.typed(key, "a number", Value::float)
    }

    /// A truth value.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| if let Value::Bool(b) = value { Some(*b) } else { None })
    }

    /// A text.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| if let Value::String(s) = value { Some(s.as_str()) } else { None })
    }

    /// An array of texts.
    pub fn get_strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of texts", |value| match value {
            Value::Array(Array::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// An array of numbers; a single number is an array of one (files give per-layer values either way).
    pub fn get_f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.typed(key, "an array of numbers", |value| match value {
            Value::Array(array) => array.floats(),
            one => Some(vec![one.float()?]),
        })
    }

    /// An array of non-negative integers; a single one is an array of one.
    pub fn get_u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.typed(key, "an array of whole numbers below 2^32", Value::integers)
    }

    /// An array of integers; a single one is an array of one.
    pub fn get_i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.typed(key, "an array of whole numbers within 32 bits", Value::integers)
    }

    /// An array of truth values; a single one is an array of one.
    pub fn get_bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.typed(key, "an array of true or false", |value| match value {
            Value::Bool(one) => Some(vec![*one]),
            Value::Array(Array::Bool(many)) => Some(many.clone()),
            _ => None,
        })
    }

    fn typed<'a, T>(&'a self, key: &str, want: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let unfit = || Error::Format(format!("the metadata key {key} is {}; it must be {want}", value.describe()));
        read(value).map(Some).ok_or_else(unfit)
    }
}

impl Value {
    /// The value if it is an integer of any width.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(n) => n.into(),
            Value::I8(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U64(n) => n.into(),
            Value::I64(n) => n.into(),
            _ => return None,
        })
    }

    fn float(&self) -> Option<f32> {
        match *self {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => self.integer().map(|n| n as f32),
        }
    }

    fn integers<T: TryFrom<i128>>(&self) -> Option<Vec<T>> {
        match self {
            Value::Array(array) => array.integers(),
            one => Some(vec![one.integer()?.try_into().ok()?]),
        }
    }

    /// The value in a few words, for messages.
    fn describe(&self) -> String {
        match self {
            Value::String(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
            Value::Array(array) => format!("an array of {}", array.len()),
            Value::Bool(b) => b.to_string(),
            Value::F32(x) => x.to_string(),
            Value::F64(x) => x.to_string(),
            whole => whole.integer().map(|n| n.to_string()).unwrap_or_default(),
        }
    }
}

/// Evaluates `$body` with `$v` bound to the vector inside an [`Array`] of any kind in the list.
macro_rules! vectors {
    ($array:expr, [$($kind:ident),*], $v:ident => $body:expr, _ => $other:expr) => {
        match $array { $(Array::$kind($v) => $body,)* #[allow(unreachable_patterns)] _ => $other }
    };
}

impl Array {
    /// How many values it holds.
    pub fn len(&self) -> usize {
        vectors!(self, [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64], v => v.len(), _ => 0)
    }

    /// Whether it holds none.
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
        impl From<$type> for Value {
            fn from(value: $type) -> Self { Value::$kind(value) }
        }
        impl From<Vec<$type>> for Value {
            fn from(values: Vec<$type>) -> Self { Value::Array(Array::$kind(values)) }
        }
    )* };
}
value_from!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, F32 f32, Bool bool, String String, Array Array, U64 u64, I64 i64, F64 f64);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}
