//! Opening a device: it is tuned before it is used, unless the options say otherwise.

use super::{copy_bandwidth, tune};
use crate::Result;
use crate::gpu::{AdapterInfo, Gpu, GpuOptions, Tuning};

/// Not every browser says that its adapter is a CPU driver (Firefox does not): GB/s of a copy, below which it must be
/// one, and the bytes of that copy.
const SLOWEST_GPU: f64 = 2.5;
const PROBE_BYTES: u64 = 4 << 20;

impl Gpu {
    /// Every adapter, best first, with its cached tuning result applied. `WGPU_BACKEND` narrows the list.
    pub async fn list() -> Vec<AdapterInfo> {
        let mut adapters = Gpu::adapters().await;
        for adapter in &mut adapters {
            if let Some(result) = adapter.load_tuning() {
                adapter.apply_tuning(result);
            }
        }
        adapters
    }

    /// Opens the adapter that `options` name, else the one that `WGPU_ADAPTER_NAME` names, else the best, and tunes it:
    /// see [`Tuning`].
    ///
    /// # Errors
    /// [`Error::Gpu`] if there is no usable adapter, if none matches, if the device is refused, or if no kernel
    /// computes correct results on it; [`Error::Usage`] if a tier is asked for that the adapter does not have.
    ///
    /// [`Error::Gpu`]: crate::Error::Gpu
    /// [`Error::Usage`]: crate::Error::Usage
    pub async fn open(options: &GpuOptions) -> Result<Self> {
        let mut gpu = Gpu::open_device(options).await?;
        let in_browser = gpu.adapter().backend == "BrowserWebGpu";
        if in_browser && !gpu.caps().software && copy_bandwidth(&gpu, PROBE_BYTES).await? < SLOWEST_GPU {
            gpu = gpu.into_software();
        }
        tuned(gpu, options).await
    }

    /// Uses a device that the caller has opened, such as the one that draws a window (egui, Bevy), and tunes it as
    /// [`Gpu::open`] does. [`GpuOptions::device`] is ignored.
    ///
    /// Kernels run with WebGPU's default limits and no features. They run faster, and models may be larger, if the
    /// device was requested with `adapter.limits()` and with those of the features `SUBGROUP`, `SHADER_F16`,
    /// `TIMESTAMP_QUERY` and `PIPELINE_CACHE` that the adapter has. Use the types of [`gpu::wgpu`](crate::gpu::wgpu),
    /// so that their version is the one that Firelight was built with.
    ///
    /// The device's callbacks stay the caller's: pass the loss of the device on to [`Gpu::mark_lost`]. Work is
    /// submitted from the thread that polls a session's futures, and shares the queue with the caller's.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device lacks a limit that kernels need, or if no kernel computes correct results on it;
    /// [`Error::Usage`] if a tier is asked for that the device does not have.
    ///
    /// [`Error::Gpu`]: crate::Error::Gpu
    /// [`Error::Usage`]: crate::Error::Usage
    pub async fn from_device(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
    ) -> Result<Self> {
        tuned(Gpu::with_device(adapter, device, queue, options.tier)?, options).await
    }
}

async fn tuned(gpu: Gpu, options: &GpuOptions) -> Result<Gpu> {
    let measure = match options.tuning {
        Tuning::Auto => gpu.adapter().should_tune(),
        Tuning::Always => true,
        Tuning::Cached => false,
        Tuning::Off => return Ok(gpu),
    };
    tune::tuned(gpu, options.tier, measure).await
}
