//! Firelight runs open-weight language models on any GPU.

pub mod checkpoint;
pub mod dtype;
mod error;
pub mod gpu;
pub mod graph;
pub mod ops;
pub mod plan;
pub mod sampler;
pub mod shader;
pub mod template;
pub mod tokenizer;

pub use error::{Error, Result};
