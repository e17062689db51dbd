//! Firelight runs open-weight language models on any GPU.

pub mod checkpoint;
pub mod dtype;
mod error;
pub mod synth;
pub mod template;
pub mod tokenizer;

pub use error::{Error, Result};
