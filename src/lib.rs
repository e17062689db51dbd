//! Firelight runs open-weight language models on any GPU: WGSL kernels on wgpu, natively and in the browser.
//!
//! [`Gpu::open`] takes the best adapter, [`Model::open`] reads a file's header, [`Session::builder`] compiles the model for
//! the device and loads its weights, and [`Session::generate`] answers a [`Request`] with [`Event`]s. Everything that
//! waits is async and needs no runtime: `pollster::block_on` will do, and in a browser the page's own loop does.
//!
//! Nothing is silent: what does not fit, what was cut short and what had to be guessed is an [`Error`] or a notice
//! ([`Model::notices`](model::Model::notices), [`Session::notices`]). Layers and invariants are in `ARCHITECTURE.md`.

#![warn(missing_docs)]

pub mod caps;
#[cfg(feature = "chat")]
pub mod chat;
pub mod checkpoint;
pub mod conversation;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dtype;
pub mod engine;
mod error;
pub mod executor;
pub mod gpu;
pub mod graph;
#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
pub mod hub;
pub mod kv_cache;
pub mod memory_plan;
pub mod model;
pub mod ops;
#[cfg(all(any(feature = "cli", feature = "chat"), not(target_arch = "wasm32")))]
pub mod output;
pub mod plan;
pub mod quant_recipe;
pub mod sampler;
pub mod send;
pub mod session;
pub mod shader;
pub mod synth;
pub mod template;
pub mod text;
pub mod tokenizer;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
pub mod web;

pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use model::Model;
pub use sampler::Sampling;
pub use session::{Event, Request, Session, SessionOptions};

/// The README's Rust is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
