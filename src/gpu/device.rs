//! An opened device: its buffers, submissions and read-backs, and how it is lost.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_channel::oneshot;

use super::adapter::{Adapter, AdapterInfo, choose};
use super::pipelines::Pipelines;
use super::{Buffer, Caps, Submission, Tier, TuneResult, platform};
use crate::setters::setters;
use crate::{Error, Result};

/// How to open a [`Gpu`]. The default is the best adapter and its highest exact tier.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Part of an adapter's name (any case) or its index in [`Gpu::list`].
    pub device: Option<String>,
    /// A lower tier than the adapter's highest exact one, or one that is not exact.
    pub tier: Option<Tier>,
    /// Whether the kernels are tuned for the adapter.
    pub tuning: Tuning,
}

setters!(GpuOptions {
    device: impl Into<Option<String>>,
    tier: impl Into<Option<Tier>>,
    tuning: Tuning,
});

/// Whether opening a device tunes it: finds the kernel parameters that are correct and fastest on it, and caches them
/// in the user's cache folder (in browsers: where the page keeps them) for the adapter, its driver and this version of
/// Firelight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tuning {
    /// Apply the cached result. A GPU (not a CPU driver) without one is tuned now, which takes a second or two.
    #[default]
    Auto,
    /// Apply the cached result. Any adapter without one is tuned now.
    Always,
    /// Apply the cached result, and measure nothing.
    Cached,
    /// Use the default parameters.
    Off,
}

/// An opened device. Clones share it.
#[derive(Clone)]
pub struct Gpu {
    pub(super) adapter: AdapterInfo,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pipeline_cache: Option<wgpu::PipelineCache>,
    pipelines: Pipelines,
    lost: Arc<OnceLock<String>>,
    resources_created: Arc<AtomicU64>,
}

/// The features to request of an adapter that has them.
fn wanted_features(caps: &Caps) -> (wgpu::Features, wgpu::ExperimentalFeatures) {
    let usual = wgpu::Features::SUBGROUP
        | wgpu::Features::SHADER_F16
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::PIPELINE_CACHE;
    if caps.cooperative == 0 {
        return (usual, wgpu::ExperimentalFeatures::disabled());
    }
    // SAFETY: wgpu calls features experimental if it does not yet catch all misuse of them. Firelight only requests
    // cooperative matrices, which three kernels use (`shaders/*_cooperative.wgsl`): within their own arrays, at
    // constant strides, in uniform control flow of a subgroup; `tests/ops.rs` runs them at the edges of their tiles.
    let experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
    (usual | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, experimental)
}

impl Gpu {
    /// Describes every adapter, best first.
    pub(crate) async fn adapters() -> Vec<AdapterInfo> {
        platform::adapters(true).await.iter().map(Adapter::info).collect()
    }

    /// Opens a device as [`Gpu::open`] does, untuned.
    pub(crate) async fn open_device(options: &GpuOptions) -> Result<Self> {
        let by_index = options.device.as_ref().is_some_and(|d| d.parse::<usize>().is_ok());
        let adapters = platform::adapters(by_index).await;
        let infos: Vec<AdapterInfo> = adapters.iter().map(Adapter::info).collect();
        let wanted = options.device.clone().or_else(|| std::env::var("WGPU_ADAPTER_NAME").ok());
        let index = choose(&infos, wanted.as_deref())?;
        let (adapter, info) = (&adapters[index], infos[index].clone().in_tier(options.tier)?);
        let (features, experimental_features) = wanted_features(&info.caps);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("firelight"),
            required_features: adapter.adapter.features() & features,
            required_limits: adapter.adapter.limits(),
            experimental_features,
            ..Default::default()
        };
        let (device, queue) = platform::request_device(adapter, &descriptor)
            .await
            .map_err(|e| Error::Gpu(format!("{} refused to open: {e}", info.name)))?;
        let gpu = Gpu::new(adapter, info, device, queue);
        let own = gpu.lost.clone();
        gpu.device.set_device_lost_callback(move |reason, message| {
            let _ = own.set(format!("{reason:?}: {message}"));
        });
        Ok(gpu)
    }

    /// Uses a device that the caller has opened, as [`Gpu::from_device`] does, untuned.
    pub(crate) fn with_device(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        tier: Option<Tier>,
    ) -> Result<Self> {
        let adapter = platform::describe(adapter.clone());
        let info = adapter.info_with(device.features(), &device.limits());
        if let Some(why) = &info.unusable {
            let (name, advice) = (&info.name, "request the device with the limits of its adapter");
            return Err(Error::Gpu(format!("this device of {name} cannot be used: {why}; {advice}")));
        }
        Ok(Gpu::new(&adapter, info.in_tier(tier)?, device, queue))
    }

    fn new(adapter: &Adapter, info: AdapterInfo, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let pipeline_cache = platform::load_pipeline_cache(adapter, &device);
        Gpu {
            adapter: info,
            device,
            queue,
            pipeline_cache,
            pipelines: Pipelines::default(),
            lost: Arc::default(),
            resources_created: Arc::default(),
        }
    }

    /// The same device, treated as a CPU driver; for adapters that hide what they are.
    pub(crate) fn into_software(mut self) -> Self {
        (self.adapter.kind, self.adapter.caps.software) = ("software", true);
        self
    }

    /// The same device with a tuning result applied; see [`AdapterInfo::apply_tuning`].
    pub(crate) fn apply_tuning(mut self, result: TuneResult) -> Self {
        self.adapter.apply_tuning(result);
        self
    }

    /// The same device, in another tier that it has.
    pub fn in_tier(mut self, tier: Tier) -> Self {
        self.adapter.caps.tier = tier;
        self
    }

    /// The adapter and what it can do.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.adapter
    }

    /// The adapter's capabilities.
    pub fn caps(&self) -> &Caps {
        &self.adapter.caps
    }

    /// The device, to create one resource, which is counted; see [`Gpu::resources_created`].
    pub(crate) fn counted_device(&self) -> &wgpu::Device {
        self.resources_created.fetch_add(1, Ordering::Relaxed);
        &self.device
    }

    /// How many buffers, pipelines and bind groups were created on this device so far. A step that samples on the GPU
    /// creates none.
    #[doc(hidden)]
    pub fn resources_created(&self) -> u64 {
        self.resources_created.load(Ordering::Relaxed)
    }

    /// The pipelines that were compiled on this device.
    pub(crate) fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// How many pipelines had to be compiled on this device so far, including those that are being compiled.
    #[doc(hidden)]
    pub fn pipelines_requested(&self) -> u64 {
        self.pipelines.requested()
    }

    /// How many pipelines were compiled on this device so far. A second session of a model compiles none.
    #[doc(hidden)]
    pub fn pipelines_compiled(&self) -> u64 {
        self.pipelines.compiled()
    }

    /// Runs `job` on a new thread, and returns a future of its result. In browsers, which have one thread, and on
    /// OpenGL, whose single context threads would have to wait for, it runs inline.
    pub(crate) fn spawn_blocking<T, J>(&self, job: J) -> impl Future<Output = T> + use<T, J>
    where
        T: wgpu::WasmNotSend + 'static,
        J: FnOnce() -> T + wgpu::WasmNotSend + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job = move || {
            let _ = sender.send(job());
        };
        if self.adapter.backend == "Gl" {
            job()
        } else {
            platform::spawn(job)
        }
        async { receiver.await.expect("a job sends its result, or has panicked") }
    }

    /// The driver's cache of compiled pipelines, from this run and earlier ones, where the driver exposes it.
    pub(crate) fn pipeline_cache(&self) -> Option<&wgpu::PipelineCache> {
        self.pipeline_cache.as_ref()
    }

    /// Saves the driver's cache for later runs.
    pub(crate) fn save_pipeline_cache(&self) {
        if let Some(bytes) = self.pipeline_cache().and_then(wgpu::PipelineCache::get_data) {
            platform::save_pipeline_cache(&self.device, &bytes);
        }
    }

    /// Records commands for one submit.
    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// A zeroed storage buffer of `bytes` bytes, rounded up to 16. Open a [`Gpu::error_scope`] around calls to learn of
    /// failure.
    pub(crate) fn buffer(&self, label: &str, bytes: u64) -> Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.create_buffer(label, bytes, usage)
    }

    /// A uniform buffer of `bytes` bytes.
    pub(crate) fn uniform(&self, label: &str, bytes: u64) -> Buffer {
        self.create_buffer(label, bytes, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
    }

    /// A buffer that a submission copies to and [`Gpu::map_staging`] reads.
    pub(crate) fn staging(&self, bytes: u64) -> Buffer {
        self.create_buffer("staging", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    fn create_buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Buffer {
        let size = bytes.max(16).next_multiple_of(16);
        self.counted_device().create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Writes `data` (its length a multiple of 4) at `offset`, in order with later submits.
    pub(crate) fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) {
        self.queue.write_buffer(buffer, offset, data);
    }

    /// Flushes pending writes. The future resolves once the GPU has consumed them and the staging memory is freed.
    pub fn flush(&self) -> impl Future<Output = Result<()>> {
        self.wait(self.queue.submit([]))
    }

    /// The future resolves once all work submitted so far is complete, the last of it `index`.
    pub(crate) fn wait(&self, index: Submission) -> impl Future<Output = Result<()>> {
        let (sender, receiver) = oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        async move {
            platform::poll_until(self, index, receiver).await.ok_or_else(|| self.lost_error("the device went away"))?;
            self.check()
        }
    }

    /// Reads `range` (offsets in bytes, multiples of 4) of a buffer back.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device was lost.
    pub(crate) async fn read(&self, buffer: &Buffer, range: Range<u64>) -> Result<Vec<u8>> {
        let size = range.end - range.start;
        let staging = self.staging(size);
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, range.start, &staging, 0, size);
        let index = self.queue.submit([encoder.finish()]);
        let mut bytes = self.map_staging(&staging, index).bytes(self).await?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// Maps a staging buffer that submission `index` copies to; [`PendingRead::bytes`] waits for it.
    pub(crate) fn map_staging(&self, staging: &Buffer, index: Submission) -> PendingRead {
        let (sender, mapped) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result);
        });
        PendingRead { staging: staging.clone(), index, mapped }
    }

    /// Bytes that are allocated on the device now, where its allocator reports them (Vulkan and DX12).
    pub fn allocated(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// An error once the device was lost.
    pub fn check(&self) -> Result<()> {
        // Natively, wgpu reports a lost device only when it is polled.
        let _ = self.device.poll(wgpu::PollType::Poll);
        match self.lost.get() {
            Some(_) => Err(self.lost_error("the device was lost")),
            None => Ok(()),
        }
    }

    /// Says that a device that was opened by the caller was lost, and why; see [`Gpu::from_device`]. From now on
    /// [`Gpu::check`] and what waits for the device return an error.
    pub fn mark_lost(&self, why: &str) {
        let _ = self.lost.set(why.into());
    }

    /// Destroys the device and frees all of its memory; pending waits end with an error.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    fn lost_error(&self, what: &str) -> Error {
        let why = self.lost.get().map(|w| format!(" ({w})")).unwrap_or_default();
        let name = &self.adapter.name;
        Error::Gpu(format!("{name}: {what}{why}; open the model again, with a smaller --context if it happens again"))
    }
}

/// A staging buffer that is being mapped. Several may be at once, and are then read together.
pub(crate) struct PendingRead {
    staging: Buffer,
    index: Submission,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl PendingRead {
    /// Waits for the buffer, reads it whole and unmaps it.
    pub(crate) async fn bytes(self, gpu: &Gpu) -> Result<Vec<u8>> {
        let Some(Ok(())) = platform::poll_until(gpu, self.index, self.mapped).await else {
            return Err(gpu.lost_error("a result could not be read back"));
        };
        let view = self.staging.get_mapped_range(..).map_err(|_| gpu.lost_error("a result could not be read"))?;
        let bytes = view.to_vec();
        drop(view);
        self.staging.unmap();
        Ok(bytes)
    }
}
