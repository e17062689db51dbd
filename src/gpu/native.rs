//! The native platform: adapters of every graphics API, cache files, threads, a clock, and devices that must be polled.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use futures_channel::oneshot::Receiver;

use super::adapter::Adapter;
use super::{Gpu, Submission};

/// The error if there is no adapter.
pub const NO_ADAPTER: &str = "no GPU adapter found: install a Vulkan driver (on Debian or Ubuntu without a GPU: \
                              mesa-vulkan-drivers), or unset WGPU_BACKEND";

/// Whether data is cached from one run to the next: it is, in the user's cache folder.
pub fn has_cache() -> bool {
    true
}

/// The text that was cached under a key.
pub fn load_cached(key: &str) -> Option<String> {
    cached(&cache_file()?).remove(key)
}

/// Caches a text under a key. Failures are ignored: the text is then computed again in the next run.
pub fn store_cached(key: &str, text: &str) {
    let Some(file) = cache_file() else { return };
    let mut all = cached(&file);
    all.insert(key.into(), text.into());
    replace(&file, &serde_json::to_vec_pretty(&all).expect("text"));
}

/// The folder of tuning results and compiled pipelines: `~/.cache/firelight` on Linux, and the usual place elsewhere.
pub fn cache_folder() -> Option<PathBuf> {
    Some(choose_native_strategy().ok()?.cache_dir().join("firelight"))
}

fn cache_file() -> Option<PathBuf> {
    Some(cache_folder()?.join("devices.json"))
}

/// Replaces a file atomically, so that no process ever reads half of it.
fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder.and_then(|()| std::fs::write(&new, bytes)).and_then(|()| std::fs::rename(&new, file));
    if let Err(error) = written {
        tracing::debug!("{} cannot be written: {error}", file.display());
    }
}

/// The file of an adapter's compiled pipelines.
fn pipeline_cache_file(info: &wgpu::AdapterInfo) -> Option<PathBuf> {
    Some(cache_folder()?.join("pipelines").join(wgpu::util::pipeline_cache_key(info)?))
}

/// A cache with the pipelines that the driver compiled in earlier runs, to which it adds those of this one; where
/// drivers support it.
pub fn load_pipeline_cache(adapter: &Adapter, device: &wgpu::Device) -> Option<wgpu::PipelineCache> {
    let file = pipeline_cache_file(&adapter.adapter.get_info())?;
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    let data = std::fs::read(file).ok();
    let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
    // SAFETY: `save_pipeline_cache` wrote the file, whole. wgpu accepts it only if its header names this adapter and
    // driver and its length is the one that the header states.
    Some(unsafe { device.create_pipeline_cache(&descriptor) })
}

/// Saves the cache's bytes for later runs, if it has grown.
pub fn save_pipeline_cache(device: &wgpu::Device, bytes: &[u8]) {
    let Some(file) = pipeline_cache_file(&device.adapter_info()) else { return };
    if std::fs::metadata(&file).is_ok_and(|before| before.len() == bytes.len() as u64) {
        return;
    }
    replace(&file, bytes);
}

fn cached(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Runs `job` on a new thread.
pub fn spawn(job: impl FnOnce() + Send + 'static) {
    std::thread::spawn(job);
}

/// How many jobs run at once.
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

fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle().with_env();
    descriptor.backends = backends;
    wgpu::Instance::new(descriptor)
}

/// The adapters of the platform's primary graphics APIs. OpenGL, which is slow to enumerate and noisy without a
/// display, is asked only if there are none, or if `WGPU_BACKEND` or `all` demands it.
pub async fn adapters(all: bool) -> Vec<Adapter> {
    let primary = wgpu::Backends::PRIMARY;
    let backends = wgpu::Backends::from_env().unwrap_or(if all { wgpu::Backends::all() } else { primary });
    let mut found = instance(backends).enumerate_adapters(backends).await;
    if found.is_empty() && backends == primary {
        found = instance(wgpu::Backends::GL).enumerate_adapters(wgpu::Backends::GL).await;
    }
    found.sort_by_key(|a| rank(&a.get_info()));
    found.into_iter().map(describe).collect()
}

/// Orders adapters, best first: real before software, primary APIs before OpenGL, and of software adapters lavapipe
/// (which decodes faster) before SwiftShader, the newest lavapipe first.
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

/// 2603 for `Mesa 26.3.1-devel`; `None` for another driver.
fn mesa_version(driver: &str) -> Option<u32> {
    let mut numbers = driver.strip_prefix("Mesa ")?.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some(numbers.next()?.ok()? * 100 + numbers.next()?.ok()?)
}

/// Describes an adapter.
pub fn describe(adapter: wgpu::Adapter) -> Adapter {
    let info = adapter.get_info();
    let software = info.device_type == wgpu::DeviceType::Cpu || info.name.to_lowercase().contains("llvmpipe");
    let subgroups = adapter.features().contains(wgpu::Features::SUBGROUP);
    let memory = if software { host_memory() } else { vulkan_memory(&adapter) };
    let cooperative = cooperative(&adapter);
    Adapter { adapter, name: info.name, software, subgroups, cooperative, memory }
}

/// Side of the square f16 matrices whose products are summed in f32; 0 if there are none.
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

/// Memory that Linux could provide without swapping; see proc(5).
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Free bytes of a Vulkan adapter's device-local memory, as its driver reports (`VK_EXT_memory_budget`); nine tenths of
/// that memory where it does not. wgpu does not query it.
#[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
fn vulkan_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    use ash::vk;
    // SAFETY: the adapter is only queried; nothing of it is kept, changed or destroyed.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance();
    if instance.instance_api_version() < vk::API_VERSION_1_1 {
        return None;
    }
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut properties = vk::PhysicalDeviceMemoryProperties2::default();
    let reports_budget = adapter.physical_device_capabilities().supports_extension(ash::ext::memory_budget::NAME);
    if reports_budget {
        properties = properties.push_next(&mut budget);
    }
    // SAFETY: both handles live as long as the adapter, the instance has Vulkan 1.1, to which the function belongs, and
    // the device has the extension that fills the chained structure.
    unsafe {
        instance.raw_instance().get_physical_device_memory_properties2(adapter.raw_physical_device(), &mut properties)
    };
    let memory = properties.memory_properties;
    let own = |i: &usize| memory.memory_heaps[*i].flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let heap = (0..memory.memory_heap_count as usize).filter(own).max_by_key(|i| memory.memory_heaps[*i].size)?;
    Some(match reports_budget {
        true => budget.heap_budget[heap].saturating_sub(budget.heap_usage[heap]),
        false => memory.memory_heaps[heap].size / 10 * 9,
    })
}

/// Not known on other systems.
#[cfg(not(any(target_os = "linux", target_os = "windows", target_os = "android")))]
fn vulkan_memory(_adapter: &wgpu::Adapter) -> Option<u64> {
    None
}

/// Requests a device.
pub async fn request_device(
    adapter: &Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    adapter.adapter.request_device(descriptor).await
}

/// Polls the device until the callback of a submission has sent its value; `None` if it never will.
pub async fn poll_until<T>(gpu: &Gpu, index: Submission, mut receiver: Receiver<T>) -> Option<T> {
    // Writes from other threads in the meantime may be a separate submission, with which the callback then runs.
    for submission_index in [Some(index), None] {
        gpu.device.poll(wgpu::PollType::Wait { submission_index, timeout: None }).ok()?;
        if let Some(value) = receiver.try_recv().ok()? {
            return Some(value);
        }
    }
    receiver.await.ok()
}

/// Sleeps for this many milliseconds, on the caller's thread.
pub async fn pause(milliseconds: i32) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds.unsigned_abs().into()));
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

    /// Every Vulkan driver reports how much memory it has; software ones report the machine's.
    #[test]
    fn vulkan_adapters_report_their_memory() {
        let backends = wgpu::Backends::VULKAN;
        for adapter in pollster::block_on(instance(backends).enumerate_adapters(backends)) {
            let memory = vulkan_memory(&adapter);
            assert!(memory.is_some_and(|bytes| bytes > 64 << 20), "{:?}: {memory:?}", adapter.get_info());
        }
    }

    /// Writes between a submission and the wait for it become a separate submission, with which the callback runs.
    #[test]
    fn waits_end_whatever_is_written_meanwhile() {
        let gpu = pollster::block_on(Gpu::open_device(&Default::default())).expect("a GPU or a software adapter");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (buffer, bytes) = (gpu.buffer("written", 64 << 20), vec![1; 64 << 20]);
            for _ in 0..4 {
                let index = gpu.queue.submit([]);
                gpu.write(&buffer, 0, &bytes);
                pollster::block_on(gpu.wait(index)).expect("the device is there");
            }
            sender.send(())
        });
        receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("the waits end in time");
    }
}
