//! What a GPU is on a desktop: every adapter of every interface, a clock, and a device that someone has to drive.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use futures_channel::oneshot::Receiver;

use super::{Found, Gpu, Submission, instance};

/// What to say where there is nothing.
pub const NO_ADAPTER: &str = "no GPU adapter found: install a Vulkan driver (on Debian or Ubuntu without a GPU: \
                              mesa-vulkan-drivers), or unset WGPU_BACKEND";

/// Whether anything is kept from one run to the next: it is, in the user's cache folder.
pub fn keeps() -> bool {
    true
}

/// The text that was kept under a key.
pub fn recall(key: &str) -> Option<String> {
    kept(&file()?).remove(key)
}

/// Keeps a text under a key. That it cannot be kept is no failure: it is found again.
pub fn keep(key: &str, text: &str) {
    let Some(file) = file() else { return };
    let mut all = kept(&file);
    all.insert(key.into(), text.into());
    replace(&file, &serde_json::to_vec_pretty(&all).expect("text"));
}

/// `~/.cache/firelight` on Linux, and what is usual elsewhere.
fn folder() -> Option<PathBuf> {
    Some(choose_native_strategy().ok()?.cache_dir().join("firelight"))
}

fn file() -> Option<PathBuf> {
    Some(folder()?.join("devices.json"))
}

/// Replaces a file, so that nobody ever reads half of it.
fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder.and_then(|()| std::fs::write(&new, bytes)).and_then(|()| std::fs::rename(&new, file));
    if let Err(error) = written {
        tracing::debug!("{} cannot be kept: {error}", file.display());
    }
}

/// Where what was compiled for an adapter is kept.
fn compiled_file(info: &wgpu::AdapterInfo) -> Option<PathBuf> {
    Some(folder()?.join("pipelines").join(wgpu::util::pipeline_cache_key(info)?))
}

/// What the driver compiled in earlier runs, and takes what it compiles in this one; where it gives it away.
pub fn compiled(found: &Found, device: &wgpu::Device) -> Option<wgpu::PipelineCache> {
    let file = compiled_file(&found.adapter.get_info())?;
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    let data = std::fs::read(file).ok();
    let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
    // SAFETY: the file is one that `keep_compiled` wrote, whole. wgpu takes it only if it is of this adapter and driver, and
    // as long as it says.
    Some(unsafe { device.create_pipeline_cache(&descriptor) })
}

/// Keeps that for later runs, if there is more than before.
pub fn keep_compiled(device: &wgpu::Device, bytes: &[u8]) {
    let Some(file) = compiled_file(&device.adapter_info()) else { return };
    if std::fs::metadata(&file).is_ok_and(|before| before.len() == bytes.len() as u64) {
        return;
    }
    replace(&file, bytes);
}

fn kept(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Does a job on a thread of its own.
pub fn spawn(job: impl FnOnce() + Send + 'static) {
    std::thread::spawn(job);
}

/// Jobs that run at once.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

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

/// Better adapters first: real before software, the platform's own interface before OpenGL, and of software adapters
/// lavapipe, which decodes faster than SwiftShader, the newest first.
fn rank(info: &wgpu::AdapterInfo) -> (u32, u32, Reverse<Option<u32>>) {
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
    let software = info.device_type == wgpu::DeviceType::Cpu;
    (kind, backend, Reverse(software.then(|| mesa_version(&info.driver_info)).flatten()))
}

/// 2603 of `Mesa 26.3.1-devel`; `None` of another driver.
fn mesa_version(driver: &str) -> Option<u32> {
    let mut numbers = driver.strip_prefix("Mesa ")?.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some(numbers.next()?.ok()? * 100 + numbers.next()?.ok()?)
}

fn describe(adapter: wgpu::Adapter) -> Found {
    let info = adapter.get_info();
    let software = info.device_type == wgpu::DeviceType::Cpu || info.name.to_lowercase().contains("llvmpipe");
    let subgroups = adapter.features().contains(wgpu::Features::SUBGROUP);
    let memory = if software { host_memory() } else { vulkan_memory(&adapter) };
    let cooperative = cooperative(&adapter);
    Found { adapter, name: info.name, software, subgroups, cooperative, memory }
}

/// Side of the square matrices of halves whose product is summed in 32 bits.
fn cooperative(adapter: &wgpu::Adapter) -> u32 {
    use wgpu::CooperativeScalarType::{F16, F32};
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    if !adapter.features().contains(needed) {
        return 0;
    }
    let square = |p: &wgpu::CooperativeMatrixProperties| (p.m_size, p.k_size) == (p.n_size, p.n_size);
    let offered = adapter.cooperative_matrix_properties().into_iter();
    let fitting = offered.filter(|p| square(p) && (p.ab_type, p.cr_type) == (F16, F32));
    fitting.map(|p| p.n_size).max().unwrap_or(0)
}

/// What Linux says it could give without swapping; see proc(5).
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes that a Vulkan adapter's own memory could give now, as its driver tells (`VK_EXT_memory_budget`); nine tenths of
/// the memory where it does not. wgpu does not ask.
#[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
fn vulkan_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    use ash::vk;
    // SAFETY: the adapter is only asked; nothing of it is kept, changed or destroyed.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance();
    if instance.instance_api_version() < vk::API_VERSION_1_1 {
        return None;
    }
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut properties = vk::PhysicalDeviceMemoryProperties2::default();
    let tells = adapter.physical_device_capabilities().supports_extension(ash::ext::memory_budget::NAME);
    if tells {
        properties = properties.push_next(&mut budget);
    }
    // SAFETY: both handles live as long as the adapter, the instance has Vulkan 1.1, to which the function belongs, and
    // the chained structure is one that the device's extension fills.
    unsafe {
        instance.raw_instance().get_physical_device_memory_properties2(adapter.raw_physical_device(), &mut properties)
    };
    let memory = properties.memory_properties;
    let own = |i: &usize| memory.memory_heaps[*i].flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let heap = (0..memory.memory_heap_count as usize).filter(own).max_by_key(|i| memory.memory_heaps[*i].size)?;
    Some(match tells {
        true => budget.heap_budget[heap].saturating_sub(budget.heap_usage[heap]),
        false => memory.memory_heaps[heap].size / 10 * 9,
    })
}

/// Not known on other systems.
#[cfg(not(any(target_os = "linux", target_os = "windows", target_os = "android")))]
fn vulkan_memory(_adapter: &wgpu::Adapter) -> Option<u64> {
    None
}

/// Opens the device.
pub async fn request_device(
    found: &Found,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    found.adapter.request_device(descriptor).await
}

/// Waits for what a submission's completion tells; `None` if nothing will be told any more.
pub async fn told<T>(gpu: &Gpu, index: Submission, mut told: Receiver<T>) -> Option<T> {
    // What other threads wrote in the meantime may be a submission of its own, which then is the one that tells.
    for submission_index in [Some(index), None] {
        gpu.device.poll(wgpu::PollType::Wait { submission_index, timeout: None }).ok()?;
        if let Some(told) = told.try_recv().ok()? {
            return Some(told);
        }
    }
    told.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_mesas_are_greater() {
        assert_eq!(mesa_version("Mesa 22.3.6"), Some(2203));
        assert_eq!(mesa_version("Mesa 26.1.6-1~bpo13+1 (LLVM 19)"), Some(2601));
        assert_eq!(mesa_version("5.0.0"), None);
        assert!(mesa_version("Mesa 9.2") < mesa_version("Mesa 22.3") && None < mesa_version("Mesa 9.2"));
    }

    /// Every Vulkan driver tells how much memory it has; software ones have the machine's.
    #[test]
    fn vulkan_adapters_tell_their_memory() {
        let backends = wgpu::Backends::VULKAN;
        for adapter in pollster::block_on(instance(backends).enumerate_adapters(backends)) {
            let memory = vulkan_memory(&adapter);
            assert!(memory.is_some_and(|bytes| bytes > 64 << 20), "{:?}: {memory:?}", adapter.get_info());
        }
    }

    /// What is written between the two becomes a submission of its own, and that is the one that tells.
    #[test]
    fn who_waits_is_told_whatever_is_written_meanwhile() {
        let gpu = pollster::block_on(Gpu::open(&Default::default())).expect("a GPU or a software adapter");
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (buffer, bytes) = (gpu.buffer("written", 64 << 20), vec![1; 64 << 20]);
            for _ in 0..4 {
                let index = gpu.queue.submit([]);
                gpu.write(&buffer, 0, &bytes);
                pollster::block_on(gpu.wait(index)).expect("the device is there");
            }
            tell.send(())
        });
        told.recv_timeout(std::time::Duration::from_secs(30)).expect("told in time");
    }
}
