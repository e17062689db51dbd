//! The GPU: which adapter, what it can do, buffers, writing and reading them, and how it fails.
//!
//! Besides `plan` the only module that names wgpu, and besides the front ends the only one that may ask for the
//! target architecture: `native` and `web` hold what differs. It knows nothing of graphs or models.

mod layout;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
use native as platform;
#[cfg(target_arch = "wasm32")]
use web as platform;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};
pub use layout::Layout;

/// A buffer on the GPU.
pub type Buffer = wgpu::Buffer;

/// Something submitted, to be waited for.
pub(crate) type Submission = wgpu::SubmissionIndex;

/// Which set of kernels runs. Each tier needs what its adapter must offer and falls back to the one below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// WebGPU's guaranteed features and limits: no subgroups, no f16 arithmetic, 8 storage buffers, 16 KiB of
    /// workgroup memory, 256 invocations.
    Baseline,
    /// Reductions through subgroup operations.
    Subgroups,
    /// Not exact, so it runs only where it is asked for: prompts are read with what weights are multiplied by rounded to
    /// 8 bits. All else is as in the highest exact tier.
    Int8,
}

impl Tier {
    /// Every tier, lowest first.
    pub const ALL: [Tier; 3] = [Tier::Baseline, Tier::Subgroups, Tier::Int8];

    /// The name used by `--tier`.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Baseline => "baseline",
            Tier::Subgroups => "subgroups",
            Tier::Int8 => "int8",
        }
    }

    /// The tier of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an adapter can do, as far as kernels and plans care: plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// The tier whose kernels run.
    pub tier: Tier,
    /// Smallest and largest subgroup of the adapter; 0 where it has no subgroup operations.
    pub subgroup: (u32, u32),
    /// A processor that pretends to be a GPU (lavapipe, SwiftShader, WARP): few, fat threads suit it best.
    pub software: bool,
    /// How products are laid out, if that was measured; see [`Caps::layout`].
    pub measured: Option<Layout>,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Largest number of workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Whether passes can be timed.
    pub timestamps: bool,
    /// Bytes that are free, where that can be known: software adapters live in the host's memory.
    pub memory: Option<u64>,
}

impl Caps {
    /// The smallest device that WebGPU allows; what every kernel must be content with.
    pub fn baseline() -> Self {
        Caps {
            tier: Tier::Baseline,
            subgroup: (0, 0),
            software: false,
            measured: None,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_workgroups: 65535,
            timestamps: false,
            memory: None,
        }
    }

    /// Whether kernels may use subgroup operations.
    pub fn subgroups(&self) -> bool {
        self.tier >= Tier::Subgroups && self.subgroup != (0, 0)
    }

    /// How products are laid out: as measured, or as is usual.
    pub fn layout(&self) -> Layout {
        self.measured.unwrap_or(Layout::usual(self.software))
    }
}

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
    /// Why it has not a higher tier; empty if it has the highest.
    pub why_not_higher: String,
    /// Why it cannot be used at all, if so.
    pub unusable: Option<String>,
}

impl Card {
    /// Whether something can be kept from one run to the next.
    pub(crate) const KEEPS: bool = platform::KEEPS;

    /// What was kept for this adapter and driver, under this tier and by this version.
    pub(crate) fn recall(&self) -> Option<String> {
        platform::recall(&self.key())
    }

    /// Keeps something for them; where nothing can be kept, nothing is.
    pub(crate) fn keep(&self, text: &str) {
        platform::keep(&self.key(), text);
    }

    fn key(&self) -> String {
        let Card { name, backend, driver, caps, .. } = self;
        format!("{name}, {backend}, {driver}, {}, {}", caps.tier, env!("CARGO_PKG_VERSION"))
    }
}

pub use platform::Clock;
#[cfg(all(target_arch = "wasm32", feature = "web"))]
pub(crate) use web::pause;

/// How to open a [`Gpu`]. The default is the best adapter and its highest tier.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Part of an adapter's name (any case) or its index in [`Gpu::list`].
    pub device: Option<String>,
    /// A lower tier than the adapter's highest, or [`Tier::Int8`], which every adapter has.
    pub tier: Option<Tier>,
}

/// An opened device. Clones share it.
#[derive(Clone)]
pub struct Gpu {
    card: Card,
    device: wgpu::Device,
    queue: wgpu::Queue,
    lost: Arc<OnceLock<String>>,
    made: Arc<AtomicU64>,
}

/// What every kernel needs of an adapter (WebGPU's own default limits).
const NEEDED_STORAGE_BUFFERS: u32 = 8;
const NEEDED_WORKGROUP_BYTES: u32 = 16 << 10;
const NEEDED_INVOCATIONS: u32 = 256;

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
    memory: Option<u64>,
    /// The browser's own object.
    #[cfg(target_arch = "wasm32")]
    theirs: wasm_bindgen::JsValue,
}

fn card(found: &Found) -> Card {
    let adapter = &found.adapter;
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let (tier, why_not_higher) = if found.subgroups {
        (Tier::Subgroups, String::new())
    } else {
        (Tier::Baseline, "subgroups: the adapter or its interface does not offer subgroup operations".to_string())
    };
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
        caps: Caps {
            tier,
            subgroup: if found.subgroups { (info.subgroup_min_size, info.subgroup_max_size) } else { (0, 0) },
            software: found.software,
            measured: None,
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            memory: found.memory,
        },
        why_not_higher,
        unusable,
    }
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
            if tier > card.caps.tier && tier != Tier::Int8 {
                let (name, why) = (&card.name, &card.why_not_higher);
                return Err(Error::Usage(format!("{name} cannot run the tier {tier} ({why}); leave --tier out")));
            }
            card.caps.tier = tier;
        }
        let wish = wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("firelight"),
            required_features: found.adapter.features() & wish,
            required_limits: found.adapter.limits(),
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
        Ok(Gpu { card, device, queue, lost, made: Arc::default() })
    }

    /// The same device, treated as a processor that only pretends to be a GPU; for adapters that hide what they are.
    pub fn as_software(mut self) -> Self {
        (self.card.kind, self.card.caps.software) = ("software", true);
        self
    }

    /// The same device, as measuring found it: with this layout, and without subgroup operations where those of the exact
    /// tier computed what they should not.
    pub(crate) fn found(mut self, exact: Tier, layout: Layout) -> Self {
        let Card { caps, why_not_higher, .. } = &mut self.card;
        if exact < Tier::Subgroups && caps.subgroups() {
            (caps.subgroup, caps.tier) = ((0, 0), if caps.tier == Tier::Int8 { Tier::Int8 } else { exact });
            *why_not_higher = "subgroups: their kernels computed wrong results when this adapter was measured".into();
        }
        caps.measured = Some(layout);
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

    /// Starts watching for out-of-memory and validation errors; end it with [`Watch::finish`].
    pub fn watch(&self) -> Watch {
        Watch {
            memory: self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory),
            validation: self.device.push_error_scope(wgpu::ErrorFilter::Validation),
        }
    }

    /// Writes `data` (its length a multiple of 4) at `offset`, in order with later submits.
    pub fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) {
        self.queue.write_buffer(buffer, offset, data);
    }

    /// Hands everything written so far to the device and waits for it, so that staging memory is given back.
    pub async fn flush(&self) -> Result<()> {
        let index = self.queue.submit([]);
        self.wait(index).await
    }

    /// Waits until a submission is complete.
    pub(crate) async fn wait(&self, index: Submission) -> Result<()> {
        let (tell, told) = futures_channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = tell.send(());
        });
        platform::told(self, index, told).await.ok_or_else(|| self.lost_error("the device went away"))?;
        self.check()
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
}

impl Watch {
    /// Ends the watch.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device had not enough memory. What the device calls invalid is our bug: it panics.
    pub async fn finish(self) -> Result<()> {
        let validation = self.validation.pop().await;
        let memory = self.memory.pop().await;
        if let Some(error) = memory {
            return Err(Error::Memory(format!("the GPU has not enough free memory ({error})")));
        }
        if let Some(error) = validation {
            panic!("the device refused what Firelight asked of it: {error}");
        }
        Ok(())
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
}
