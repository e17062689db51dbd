//! The GPU: which adapter, what it can do, buffers, writing and reading them, and how it fails.
//!
//! Besides `plan` the only module that names wgpu, and besides the front ends the only one that may ask for the
//! target architecture: `native` and `web` hold what differs. It knows nothing of graphs or models.

mod caps;
mod layout;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
use native as platform;
#[cfg(target_arch = "wasm32")]
use web as platform;

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::{Error, Result};
pub use caps::{Caps, Tier};
pub use layout::{Layout, Outcome, Verdict};

/// A buffer on the GPU.
pub type Buffer = wgpu::Buffer;

/// Something submitted, to be waited for.
pub(crate) type Submission = wgpu::SubmissionIndex;

/// One adapter, as `firelight devices` prints it.
#[derive(Clone, Debug)]
pub struct Card {
    /// The adapter's name.
    pub name: String,
    /// Vulkan, Metal, Dx12, Gl or BrowserWebGpu.
    pub backend: String,
    /// Discrete, integrated, virtual, software or unknown.
    pub kind: &'static str,
    /// Driver name and version.
    pub driver: String,
    /// What it can do.
    pub caps: Caps,
    /// Why its highest exact tier is not a higher one; empty if it is the highest.
    pub why_not_higher: String,
    /// What measuring found, if it was measured.
    pub verdict: Option<Verdict>,
    /// Why it cannot be used at all, if so.
    pub unusable: Option<String>,
}

impl Card {
    /// Whether it is worth the time to measure this adapter: it is a real GPU, and what is found can be kept.
    pub(crate) fn worth_measuring(&self) -> bool {
        !self.caps.software && platform::keeps()
    }

    /// What was kept for this adapter and driver, under this tier and by this version.
    pub(crate) fn recall(&self) -> Option<String> {
        platform::recall(&self.key())
    }

    /// Keeps something for them, if it can be kept.
    pub(crate) fn keep(&self, text: &str) {
        platform::keep(&self.key(), text);
    }

    /// Takes what measuring found: the layout, and no subgroup operations where those of the exact tier computed what they
    /// should not.
    pub(crate) fn found(&mut self, verdict: Verdict) {
        let Card { caps, why_not_higher, .. } = self;
        // A lower tier that was asked for says nothing of subgroups.
        if verdict.tier < Tier::Subgroups && caps.subgroups() {
            (caps.subgroup, caps.cooperative) = ((0, 0), 0);
            if caps.lacks(caps.tier).is_some() {
                caps.tier = verdict.tier;
            }
            *why_not_higher = "subgroups: their kernels computed wrong results when this adapter was measured".into();
        }
        (caps.measured, self.verdict) = (Some(verdict.layout), Some(verdict));
    }

    fn key(&self) -> String {
        let Card { name, backend, driver, caps, .. } = self;
        // Of a lower exact tier that is asked for nothing else is tried; what rounds is tried with the highest.
        let tier = caps.tier.min(caps.exact_tier());
        format!("{name}, {backend}, {driver}, {tier}, {}", env!("CARGO_PKG_VERSION"))
    }
}

pub use platform::Clock;
pub(crate) use platform::processors;
#[cfg(all(target_arch = "wasm32", feature = "web"))]
pub(crate) use web::{kept, pause, remember};

/// How to open a [`Gpu`]. The default is the best adapter and its highest exact tier.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Part of an adapter's name (any case) or its index in [`Gpu::list`].
    pub device: Option<String>,
    /// A lower tier than the adapter's highest exact one, or one that is not exact.
    pub tier: Option<Tier>,
}

/// An opened device. Clones share it.
#[derive(Clone)]
pub struct Gpu {
    card: Card,
    device: wgpu::Device,
    queue: wgpu::Queue,
    compiled: Option<wgpu::PipelineCache>,
    lost: Arc<OnceLock<String>>,
    made: Arc<AtomicU64>,
}

/// What every kernel needs of an adapter (WebGPU's own default limits).
const NEEDED_STORAGE_BUFFERS: u32 = 8;
const NEEDED_WORKGROUP_BYTES: u32 = 16 << 10;
const NEEDED_INVOCATIONS: u32 = 256;
/// What most GPUs have; kernels that round use it where it is there.
const MOST_WORKGROUP_BYTES: u32 = 32 << 10;

fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle().with_env();
    descriptor.backends = backends;
    wgpu::Instance::new(descriptor)
}

/// An adapter, and what wgpu says of it on one platform but not on another.
struct Found {
    adapter: wgpu::Adapter,
    name: String,
    software: bool,
    subgroups: bool,
    /// See [`Caps::cooperative`].
    cooperative: u32,
    memory: Option<u64>,
    /// The browser's own object.
    #[cfg(target_arch = "wasm32")]
    theirs: wasm_bindgen::JsValue,
}

fn card(found: &Found) -> Card {
    let adapter = &found.adapter;
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let mut caps = Caps {
        tier: Tier::Baseline,
        subgroup: if found.subgroups { (info.subgroup_min_size, info.subgroup_max_size) } else { (0, 0) },
        halves: features.contains(wgpu::Features::SHADER_F16),
        cooperative: found.cooperative,
        software: found.software,
        measured: None,
        workgroup_bytes: limits.max_compute_workgroup_storage_size.min(MOST_WORKGROUP_BYTES),
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        memory: found.memory,
    };
    caps.tier = caps.exact_tier();
    // Four subgroups make a workgroup, and more memory is needed than everyone has.
    if caps.workgroup_bytes < MOST_WORKGROUP_BYTES || !(1..=NEEDED_INVOCATIONS / 4).contains(&caps.subgroup.1) {
        caps.cooperative = 0;
    }
    let compute = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS);
    let unusable = if !compute {
        Some("it has no compute shaders".to_string())
    } else if limits.max_storage_buffers_per_shader_stage < NEEDED_STORAGE_BUFFERS {
        let have = limits.max_storage_buffers_per_shader_stage;
        Some(format!("it allows {have} storage buffers in a shader, {NEEDED_STORAGE_BUFFERS} are needed"))
    } else if limits.max_compute_workgroup_storage_size < NEEDED_WORKGROUP_BYTES {
        Some(format!("it has less than {NEEDED_WORKGROUP_BYTES} bytes of workgroup memory"))
    } else if limits.max_compute_invocations_per_workgroup < NEEDED_INVOCATIONS {
        Some(format!("it allows fewer than {NEEDED_INVOCATIONS} invocations in a workgroup"))
    } else {
        None
    };
    Card {
        name: found.name.clone(),
        backend: format!("{:?}", info.backend),
        kind: match info.device_type {
            _ if found.software => "software",
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "unknown",
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        why_not_higher: caps.lacks(Tier::Subgroups).map(|why| format!("subgroups: {why}")).unwrap_or_default(),
        caps,
        verdict: None,
        unusable,
    }
}

/// Features to ask of an adapter that has them.
fn wishes(caps: &Caps) -> (wgpu::Features, wgpu::ExperimentalFeatures) {
    let usual = wgpu::Features::SUBGROUP
        | wgpu::Features::SHADER_F16
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::PIPELINE_CACHE;
    if caps.cooperative == 0 {
        return (usual, wgpu::ExperimentalFeatures::disabled());
    }
    // SAFETY: wgpu calls features experimental whose misuse it does not yet catch everywhere. Of them only
    // cooperative matrices are asked for, which three kernels use (`shaders/*_cooperative.wgsl`): within their own arrays, at
    // constant strides, where all threads of a subgroup meet; `tests/ops.rs` runs them at the edges of their tiles.
    let experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
    (usual | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, experimental)
}

impl Gpu {
    /// Every adapter, best first. `WGPU_BACKEND` narrows the list.
    pub async fn list() -> Vec<Card> {
        platform::adapters(true).await.iter().map(card).collect()
    }

    /// Opens the adapter that `options` name, else the one that `WGPU_ADAPTER_NAME` names, else the best.
    ///
    /// # Errors
    /// [`Error::Gpu`] if there is no usable adapter, if none matches, or if the device is refused;
    /// [`Error::Usage`] if a tier is asked for that the adapter does not have.
    pub async fn open(options: &GpuOptions) -> Result<Self> {
        let by_index = options.device.as_ref().is_some_and(|d| d.parse::<usize>().is_ok());
        let adapters = platform::adapters(by_index).await;
        let cards: Vec<Card> = adapters.iter().map(card).collect();
        let wanted = options.device.clone().or_else(|| std::env::var("WGPU_ADAPTER_NAME").ok());
        let index = choose(&cards, wanted.as_deref())?;
        let (found, mut card) = (&adapters[index], cards[index].clone());
        if let Some(tier) = options.tier {
            if let Some(why) = card.caps.lacks(tier) {
                let name = &card.name;
                return Err(Error::Usage(format!("{name} cannot run the tier {tier}: {why}; leave --tier out")));
            }
            card.caps.tier = tier;
        }
        let (features, experimental_features) = wishes(&card.caps);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("firelight"),
            required_features: found.adapter.features() & features,
            required_limits: found.adapter.limits(),
            experimental_features,
            ..Default::default()
        };
        let (device, queue) = platform::request_device(found, &descriptor)
            .await
            .map_err(|e| Error::Gpu(format!("{} refused to open: {e}", card.name)))?;
        let lost = Arc::new(OnceLock::new());
        let flag = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = flag.set(format!("{reason:?}: {message}"));
        });
        let compiled = platform::compiled(found, &device);
        Ok(Gpu { card, device, queue, compiled, lost, made: Arc::default() })
    }

    /// The same device, treated as a processor that only pretends to be a GPU; for adapters that hide what they are.
    pub fn as_software(mut self) -> Self {
        (self.card.kind, self.card.caps.software) = ("software", true);
        self
    }

    /// The same device, as [`Card::found`].
    pub(crate) fn found(mut self, verdict: Verdict) -> Self {
        self.card.found(verdict);
        self
    }

    /// The same device, in another tier that it has.
    pub fn in_tier(mut self, tier: Tier) -> Self {
        self.card.caps.tier = tier;
        self
    }

    /// The adapter and what it can do.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// What the adapter can do.
    pub fn caps(&self) -> &Caps {
        &self.card.caps
    }

    /// The device, to make one thing that stays; see [`Gpu::made`].
    pub(crate) fn maker(&self) -> &wgpu::Device {
        self.made.fetch_add(1, Ordering::Relaxed);
        &self.device
    }

    /// How many buffers, pipelines and bindings were made on this device so far. A step whose tokens are chosen on the GPU
    /// makes none.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Does a job on a thread of its own. It has begun; what it gives is waited for. It is done here and now in a browser,
    /// which has one thread, and on OpenGL, whose one context threads would have to wait for.
    pub(crate) fn apart<T, J>(&self, job: J) -> impl Future<Output = T> + use<T, J>
    where
        T: wgpu::WasmNotSend + 'static,
        J: FnOnce() -> T + wgpu::WasmNotSend + 'static,
    {
        let (tell, told) = futures_channel::oneshot::channel();
        let job = move || {
            let _ = tell.send(job());
        };
        if self.card.backend == "Gl" {
            job()
        } else {
            platform::spawn(job)
        }
        async { told.await.expect("a job tells, or has panicked") }
    }

    /// What the driver has compiled, in this run and earlier ones; where it can be kept.
    pub(crate) fn compiled(&self) -> Option<&wgpu::PipelineCache> {
        self.compiled.as_ref()
    }

    /// Keeps it for the runs that come.
    pub(crate) fn keep_compiled(&self) {
        if let Some(bytes) = self.compiled().and_then(wgpu::PipelineCache::get_data) {
            platform::keep_compiled(&self.device, &bytes);
        }
    }

    /// Records commands for one submit.
    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// A zeroed storage buffer of `bytes` bytes, rounded up to 16. Wrap calls in [`Gpu::watch`] to learn of failure.
    pub fn buffer(&self, label: &str, bytes: u64) -> Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.make(label, bytes, usage)
    }

    /// A uniform buffer of `bytes` bytes.
    pub(crate) fn uniform(&self, label: &str, bytes: u64) -> Buffer {
        self.make(label, bytes, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
    }

    fn make(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Buffer {
        let size = bytes.max(16).next_multiple_of(16);
        self.maker().create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Starts watching for errors; end it with [`Watch::finish`].
    pub fn watch(&self) -> Watch {
        Watch {
            memory: self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory),
            validation: self.device.push_error_scope(wgpu::ErrorFilter::Validation),
            internal: self.device.push_error_scope(wgpu::ErrorFilter::Internal),
        }
    }

    /// Writes `data` (its length a multiple of 4) at `offset`, in order with later submits.
    pub fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) {
        self.queue.write_buffer(buffer, offset, data);
    }

    /// Hands everything written so far to the device. Who waits for what this gives waits until the device has taken it, and
    /// has given staging memory back.
    pub fn flush(&self) -> impl Future<Output = Result<()>> {
        self.wait(self.queue.submit([]))
    }

    /// Who waits for what this gives waits until everything that was submitted is complete, the last of it `index`.
    pub(crate) fn wait(&self, index: Submission) -> impl Future<Output = Result<()>> {
        let (tell, told) = futures_channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = tell.send(());
        });
        async move {
            platform::told(self, index, told).await.ok_or_else(|| self.lost_error("the device went away"))?;
            self.check()
        }
    }

    /// Reads `range` (offsets in bytes, multiples of 4) of a buffer back.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device was lost.
    pub async fn read(&self, buffer: &Buffer, range: Range<u64>) -> Result<Vec<u8>> {
        let size = range.end - range.start;
        let staging = self.staging(size);
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, range.start, &staging, 0, size);
        let index = self.queue.submit([encoder.finish()]);
        let mut bytes = self.read_staging(&staging, index).bytes(self).await?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// A buffer that a submission copies to and [`Gpu::read_staging`] reads.
    pub(crate) fn staging(&self, bytes: u64) -> Buffer {
        self.make("staging", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    /// Asks for a staging buffer that submission `index` copies to; [`Reading::bytes`] waits for it.
    pub(crate) fn read_staging(&self, staging: &Buffer, index: Submission) -> Reading {
        let (tell, told) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = tell.send(result);
        });
        Reading { staging: staging.clone(), index, told }
    }

    /// Bytes that are allocated on the device now, where its allocator tells (Vulkan and DX12).
    pub fn allocated(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// An error once the device was lost.
    pub fn check(&self) -> Result<()> {
        match self.lost.get() {
            Some(_) => Err(self.lost_error("the device was lost")),
            None => Ok(()),
        }
    }

    /// Gives the device and all of its memory back; whoever still waits for it gets an error.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    fn lost_error(&self, what: &str) -> Error {
        let why = self.lost.get().map(|w| format!(" ({w})")).unwrap_or_default();
        let name = &self.card.name;
        Error::Gpu(format!("{name}: {what}{why}; open the model again, with a smaller --context if it happens again"))
    }
}

/// A staging buffer on its way back. Several may be: asked for at once, they come at once.
pub(crate) struct Reading {
    staging: Buffer,
    index: Submission,
    told: futures_channel::oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Reading {
    /// Waits for the buffer, reads it whole and unmaps it.
    pub(crate) async fn bytes(self, gpu: &Gpu) -> Result<Vec<u8>> {
        let Some(Ok(())) = platform::told(gpu, self.index, self.told).await else {
            return Err(gpu.lost_error("a result could not be read back"));
        };
        let view = self.staging.get_mapped_range(..).map_err(|_| gpu.lost_error("a result could not be read"))?;
        let bytes = view.to_vec();
        drop(view);
        self.staging.unmap();
        Ok(bytes)
    }
}

/// Open error scopes; see [`Gpu::watch`].
pub struct Watch {
    memory: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
    internal: wgpu::ErrorScopeGuard,
}

impl Watch {
    /// Ends the watch, on the thread where it began; what came of it may be waited for elsewhere.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device had not enough memory; [`Error::Gpu`] if its driver could not do its part. What the
    /// device calls invalid is our bug: it panics.
    pub fn finish(self) -> impl Future<Output = Result<()>> + wgpu::WasmNotSend {
        let (internal, validation, memory) = (self.internal.pop(), self.validation.pop(), self.memory.pop());
        async move {
            if let Some(error) = memory.await {
                return Err(Error::Memory(format!("the GPU has not enough free memory ({error})")));
            }
            if let Some(error) = validation.await {
                panic!("the device refused what Firelight asked of it: {error}");
            }
            if let Some(error) = internal.await {
                return Err(Error::Gpu(format!(
                    "the driver failed ({error}); update it, or choose another GPU with --device"
                )));
            }
            Ok(())
        }
    }
}

/// The index of the adapter to open.
fn choose(cards: &[Card], wanted: Option<&str>) -> Result<usize> {
    let names = || cards.iter().enumerate().map(|(i, c)| format!("{i}: {}", c.name)).collect::<Vec<_>>().join(", ");
    if cards.is_empty() {
        return Err(Error::Gpu(platform::NO_ADAPTER.into()));
    }
    let index = match wanted {
        None => cards.iter().position(|c| c.unusable.is_none()).unwrap_or(0),
        Some(wanted) => {
            let by_index = wanted.parse::<usize>().ok().filter(|i| *i < cards.len());
            let lower = wanted.to_lowercase();
            by_index
                .or_else(|| cards.iter().position(|c| c.name.to_lowercase().contains(&lower)))
                .ok_or_else(|| Error::Gpu(format!("no adapter is called {wanted:?}; there are {}", names())))?
        }
    };
    match &cards[index].unusable {
        Some(why) => Err(Error::Gpu(format!("{} cannot be used: {why}", cards[index].name))),
        None => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, unusable: Option<&str>) -> Card {
        Card {
            name: name.into(),
            backend: "Vulkan".into(),
            kind: "software",
            driver: String::new(),
            caps: Caps::baseline(),
            why_not_higher: String::new(),
            verdict: None,
            unusable: unusable.map(str::to_string),
        }
    }

    #[test]
    fn adapters_are_chosen_by_index_by_name_or_best() {
        let cards = [card("Old GL", Some("no compute")), card("Vulkan One", None), card("Vulkan Two", None)];
        assert_eq!(choose(&cards, None).unwrap(), 1);
        assert_eq!(choose(&cards, Some("2")).unwrap(), 2);
        assert_eq!(choose(&cards, Some("two")).unwrap(), 2);
        assert!(choose(&cards, Some("0")).unwrap_err().to_string().contains("no compute"));
        assert!(choose(&cards, Some("metal")).unwrap_err().to_string().contains("1: Vulkan One"));
        assert!(choose(&[], None).unwrap_err().to_string().contains("mesa-vulkan-drivers"));
    }

    #[test]
    fn a_tier_that_computes_wrong_results_is_dropped_and_told() {
        let layout = Layout::usual(false);
        for (tier, exact, left, dropped) in [
            (Tier::Subgroups, Tier::Subgroups, Tier::Subgroups, false),
            (Tier::Subgroups, Tier::Baseline, Tier::Baseline, true),
            (Tier::Int8, Tier::Baseline, Tier::Int8, true),
            (Tier::F16, Tier::Baseline, Tier::F16, true),
            (Tier::Cooperative, Tier::Baseline, Tier::Baseline, true),
            // Asked for, so that nothing else was tried.
            (Tier::Baseline, Tier::Baseline, Tier::Baseline, false),
        ] {
            let mut card = card("One", None);
            card.caps = Caps { tier, subgroup: (32, 32), cooperative: 16, halves: true, ..card.caps };
            let (halves, matrices) = (Outcome::None, Outcome::None);
            card.found(Verdict { tier: exact, layout, halves, matrices });
            assert_eq!((card.caps.tier, card.caps.measured), (left, Some(layout)));
            assert_eq!((card.caps.subgroup == (0, 0), card.caps.cooperative == 0), (dropped, dropped));
            assert_eq!(card.why_not_higher.contains("wrong results"), dropped);
        }
    }
}
