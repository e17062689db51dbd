//! Runs open-weight language models on any GPU: WGSL kernels on wgpu, natively and in the browser.
//!
//! ```no_run
//! use firelight::{Event, Gpu, GpuOptions, Model, Request, Result, Session};
//! use firelight::template::TemplateInput;
//!
//! async fn answer(question: &str) -> Result<String> {
//!     let gpu = Gpu::open(&GpuOptions::default()).await?;
//!     let model = Model::open("qwen3-0.6b-q4_0.gguf".as_ref()).await?;
//!     let mut session = Session::builder(&gpu, &model).context(4096).load().await?;
//!
//!     let messages = vec![serde_json::json!({ "role": "user", "content": question })];
//!     let input = TemplateInput::new(messages);
//!     let request = Request::new(model.encode_chat(input)?).max_tokens(200);
//!     let (mut events, mut text) = (session.generate(request)?, String::new());
//!     while let Some(event) = events.next().await? {
//!         if let Event::Text(piece) = event {
//!             text += &piece;
//!         }
//!     }
//!     Ok(text)
//! }
//! # fn main() {}
//! ```
//!
//! * [`Gpu`] is a device; [`Model`] a file's header, tokenizer and chat template; [`Session`] the model on the device.
//!   Opening a session plans memory, compiles kernels and loads the weights.
//! * A session answers many [`Request`]s at once (continuous batching) and reuses common prefixes:
//!   [`Session::submit`](session::Session::submit) and [`Session::next`](session::Session::next). It also embeds text.
//! * [`engine`] and [`conversation`] add what applications need: messages to prompts, answers to reasoning, content and
//!   tool calls, JSON schemas, recovery from a lost device, one engine for many threads.
//! * [`checkpoint`] opens GGUF files and Hugging Face folders from files, memory, or any other byte source.
//!
//! Everything that waits is async and needs no runtime: `pollster::block_on` works, and so does the event loop of a
//! page. Whatever does not fit, is cut off or has to be guessed is an [`Error`] or a warning
//! ([`Model::notices`](model::Model::notices), [`Session::notices`](session::Session::notices)).
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `huggingface` (default) | Hugging Face folders; GGUF files need no feature |
//! | `grammar` | answers that follow a JSON schema, a regular expression or a grammar |
//! | `hub` | downloads models by name (native only) |
//! | `demo` | a small built-in model, 5.4 MiB |
//! | `simulate` | a simulator of kernels, for tests and profiles |
//! | `cli` | the program, with its OpenAI-compatible server: `cargo install firelight --features cli` |
//! | `chat` | the chat window |

#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod checkpoint;
pub mod conversation;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dtype;
pub mod engine;
mod error;
pub mod gpu;
#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
pub mod hub;
pub mod memory_plan;
pub mod model;
pub mod sampler;
pub mod send;
pub mod session;
mod setters;
pub mod template;
pub mod tokenizer;

// Internals: public for the program, the tests and the benchmarks. They may change in any release.
#[doc(hidden)]
pub mod caps;
#[cfg(feature = "chat")]
#[doc(hidden)]
pub mod chat;
#[doc(hidden)]
pub mod executor;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod kv_cache;
#[doc(hidden)]
pub mod ops;
#[cfg(all(any(feature = "cli", feature = "chat"), not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod output;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod quant_recipe;
#[doc(hidden)]
pub mod shader;
#[cfg(feature = "simulate")]
#[doc(hidden)]
pub mod sim;
#[doc(hidden)]
pub mod synth;
#[doc(hidden)]
pub mod text;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
#[doc(hidden)]
pub mod web;

pub use checkpoint::{Checkpoint, Source};
pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions, Tier};
pub use model::Model;
pub use ops::KvType;
pub use sampler::Sampling;
pub use session::{Event, Request, Session, SessionOptions};
pub use tokenizer::Tokenizer;

/// Compiles the README's Rust as doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
