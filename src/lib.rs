//! Firelight runs open-weight language models on any GPU.

pub mod checkpoint;
pub mod dtype;
mod error;
pub mod fit;
pub mod gpu;
pub mod graph;
pub mod model;
pub mod ops;
pub mod plan;
pub mod sampler;
pub mod session;
pub mod shader;
pub mod synth;
pub mod template;
pub mod tokenizer;

pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use model::Model;
pub use sampler::Sampling;
pub use session::{Event, Options, Request, Session};
