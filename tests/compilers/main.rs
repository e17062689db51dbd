//! The compilers of GPUs and platforms that are not here take every kernel.

#[path = "../engine/mod.rs"]
mod engine;
mod gpus;
mod table;
mod translators;
