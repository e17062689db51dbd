//! The GPU: adapters and their capabilities, the opened device, its buffers, and its errors.
//!
//! Apart from `plan` the only module that names wgpu, and apart from the front ends the only one that may ask for the
//! target architecture: `native` and `web` hold the differences. It does not depend on graphs or models.

mod adapter;
mod device;
mod error_scope;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod pipelines;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
use native as platform;
#[cfg(target_arch = "wasm32")]
use web as platform;

pub use crate::caps::{Caps, Tier, TuneConfig, TuneOutcome, TuneResult};
pub use adapter::AdapterInfo;
pub(crate) use device::PendingRead;
pub use device::{Gpu, GpuOptions, Tuning};
pub(crate) use pipelines::{Lookup, Pipeline, Vacancy};
#[cfg(not(target_arch = "wasm32"))]
pub use platform::cache_folder;
pub use platform::{Clock, NO_ADAPTER};
pub(crate) use platform::{pause, processors};
#[cfg(all(target_arch = "wasm32", feature = "web"))]
pub(crate) use web::{cached_entries, restore_cache};

/// wgpu, whose types [`Gpu::from_device`] takes.
pub use wgpu;

/// A buffer on the GPU.
pub(crate) type Buffer = wgpu::Buffer;

/// A submission, to be waited for.
pub(crate) type Submission = wgpu::SubmissionIndex;
