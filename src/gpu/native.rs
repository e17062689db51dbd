//! What a GPU is on a desktop: every adapter of every interface, a clock, and a device that someone has to drive.

use futures_channel::oneshot::Receiver;

use super::{Found, Gpu, Submission, instance};

/// What to say where there is nothing.
pub const NO_ADAPTER: &str = "no GPU adapter found: install a Vulkan driver (on Debian or Ubuntu without a GPU: \
                              mesa-vulkan-drivers), or unset WGPU_BACKEND";

/// A point in time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// Now.
    pub fn now() -> Self {
        Clock(std::time::Instant::now())
    }

    /// Seconds since then.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// The adapters of the platform's own interfaces; OpenGL is asked (it is slow, and noisy without a display) where
/// there are none, or where `WGPU_BACKEND` or `all` wants it.
pub async fn adapters(all: bool) -> Vec<Found> {
    let primary = wgpu::Backends::PRIMARY;
    let backends = wgpu::Backends::from_env().unwrap_or(if all { wgpu::Backends::all() } else { primary });
    let mut found = instance(backends).enumerate_adapters(backends).await;
    if found.is_empty() && backends == primary {
        found = instance(wgpu::Backends::GL).enumerate_adapters(wgpu::Backends::GL).await;
    }
    found.sort_by_key(|a| rank(&a.get_info()));
    found.into_iter().map(describe).collect()
}

/// Better adapters first: real before software, the platform's own interface before OpenGL.
fn rank(info: &wgpu::AdapterInfo) -> (u32, u32) {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let backend = match info.backend {
        wgpu::Backend::Vulkan | wgpu::Backend::Metal | wgpu::Backend::BrowserWebGpu => 0,
        wgpu::Backend::Dx12 => 1,
        wgpu::Backend::Gl => 2,
        wgpu::Backend::Noop => 3,
    };
    (kind, backend)
}

fn describe(adapter: wgpu::Adapter) -> Found {
    let info = adapter.get_info();
    let software = info.device_type == wgpu::DeviceType::Cpu || info.name.to_lowercase().contains("llvmpipe");
    let subgroups = adapter.features().contains(wgpu::Features::SUBGROUP);
    let memory = if software { host_memory() } else { None };
    Found { adapter, name: info.name, software, subgroups, memory }
}

/// What Linux says it could give without swapping; see proc(5).
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Opens the device.
pub async fn request_device(
    found: &Found,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    found.adapter.request_device(descriptor).await
}

/// Waits for what a submission's completion tells; `None` if nothing will be told any more.
pub async fn told<T>(gpu: &Gpu, index: Submission, told: Receiver<T>) -> Option<T> {
    let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
    gpu.device.poll(wait).ok()?;
    told.await.ok()
}
