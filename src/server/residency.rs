//! The loaded model. There is one at a time: when the next request is for another, the running ones are finished first,
//! and none starts meanwhile. A model that is idle for long is unloaded.
//!
//! The library's engine runs one model; the server switches between several, of which one is on the GPU.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use firelight::engine::{Engine, EngineOptions, Status};
use firelight::gpu::{AdapterInfo, Gpu, GpuOptions};
use firelight::model::Model;
use firelight::session::SessionOptions;
use pollster::block_on;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;

use super::http_error::HttpError;
use super::metrics::{Metrics, add};
use super::prepare::LoadedModel;
use super::registry::Registry;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub gpu: GpuOptions,
    pub session: SessionOptions,
    /// Requests that may wait while others are answered.
    pub queue: usize,
    /// How long an idle model stays loaded; `None` for ever.
    pub keep_alive: Option<Duration>,
    /// Called with the device that was opened.
    pub on_device: fn(&AdapterInfo),
    /// Called with messages for the user.
    pub on_warning: fn(&str),
}

/// The information for clients about the loaded model.
#[derive(Clone, Debug)]
pub struct Resident {
    /// Its index in the registry.
    pub index: usize,
    pub gpu_bytes: u64,
    pub context: usize,
    /// When it is unloaded without further requests; `None` for never.
    pub until: Option<SystemTime>,
    /// How long it stays after the last request, and the time of that request.
    keep: Option<Duration>,
    used: Instant,
}

impl Resident {
    fn touch(&mut self) {
        self.used = Instant::now();
        self.until = self.keep.map(|keep| SystemTime::now() + keep);
    }
}

/// The contents of the GPU.
#[derive(Default)]
struct Slot {
    /// A device without a model; that of a loaded one is its engine's.
    gpu: Option<Gpu>,
    model: Option<LoadedModel>,
    thread: Option<JoinHandle<()>>,
}

impl Slot {
    fn has(&self, index: usize) -> bool {
        self.model.as_ref().is_some_and(|model| model.index == index && !model.engine.has_ended())
    }
}

/// Loads and unloads models.
pub struct Residency {
    registry: Registry,
    setup: Setup,
    metrics: Arc<Metrics>,
    /// Held by the request whose turn it is to get its model.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Read by the requests that use the model.
    slot: Arc<RwLock<Slot>>,
    resident: Mutex<Option<Resident>>,
    /// Notified when the use of a model begins or ends.
    used: Notify,
}

/// The loaded model, which stays until this is dropped.
pub struct Lease {
    slot: OwnedRwLockReadGuard<Slot, LoadedModel>,
    /// Seconds that loading it took, if it was not there.
    pub load_seconds: f64,
    // Dropped after the guard, so that the lock is free when the notification arrives.
    touch: Touch,
}

struct Touch(Arc<Residency>);

impl Deref for Lease {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.slot
    }
}

impl Lease {
    /// How long the model stays loaded afterwards; by default the server's setting.
    pub fn keep(&self, time: Option<Duration>) {
        let residency = &self.touch.0;
        if let Some(resident) = &mut *residency.resident_mut() {
            resident.keep = time.or(residency.setup.keep_alive);
            resident.touch();
        }
        residency.used.notify_one();
    }
}

impl Drop for Touch {
    fn drop(&mut self) {
        self.0.resident_mut().iter_mut().for_each(Resident::touch);
        self.0.used.notify_one();
    }
}

/// The bytes of logits that decide how many rows a step for embeddings has: hidden states and logits share a buffer.
const EMBEDDED_BYTES: u32 = 16 << 20;
/// The fewest rows of such a step.
const LEAST_EMBEDDED: u32 = 16;

impl Residency {
    pub fn new(registry: Registry, setup: Setup, metrics: Arc<Metrics>) -> Arc<Self> {
        let (turn, slot, resident, used) = Default::default();
        Arc::new(Residency { registry, setup, metrics, turn, slot, resident, used })
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The model that is loaded.
    pub fn resident(&self) -> Option<Resident> {
        self.resident_mut().clone()
    }

    /// Loses the device as a crashed driver would. Blocks, so not for tasks.
    #[cfg(test)]
    pub fn lose_device(&self) {
        let slot = self.slot.blocking_read();
        slot.model.as_ref().expect("a model").engine.control().lose_device();
    }

    fn resident_mut(&self) -> MutexGuard<'_, Option<Resident>> {
        self.resident.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a model; loads it, unless it is loaded.
    pub async fn lease(self: &Arc<Self>, name: &str) -> Result<Lease, HttpError> {
        let index = self.registry.find(name)?;
        let turn = self.turn.clone().lock_owned().await;
        let slot = self.slot.clone().read_owned().await;
        if slot.has(index) {
            return self.lend(slot, 0.0);
        }
        drop(slot);
        let (mut slot, this) = (self.slot.clone().write_owned().await, self.clone());
        // A client that disconnects does not interrupt it: the next one may want the same model.
        blocking(move || {
            let _turn = turn;
            let begun = Instant::now();
            this.load(&mut slot, index)?;
            this.lend(slot.downgrade(), begun.elapsed().as_secs_f64())
        })
        .await?
    }

    fn lend(self: &Arc<Self>, slot: OwnedRwLockReadGuard<Slot>, load_seconds: f64) -> Result<Lease, HttpError> {
        let slot = OwnedRwLockReadGuard::try_map(slot, |slot| slot.model.as_ref());
        let slot = slot.map_err(|_| HttpError::internal("the model is not there"))?;
        Ok(Lease { slot, load_seconds, touch: Touch(self.clone()) })
    }

    /// Unloads a model, if it is loaded, when its requests are finished.
    pub async fn unload(self: &Arc<Self>, name: &str) -> Result<(), HttpError> {
        let index = self.registry.find(name)?;
        let _turn = self.turn.lock().await;
        let slot = self.slot.clone().write_owned().await;
        if slot.has(index) { self.empty(slot).await } else { Ok(()) }
    }

    /// Unloads models that have been idle for long. Never ends.
    pub async fn unload_idle(self: Arc<Self>) {
        loop {
            match self.resident().and_then(|r| Some(r.keep?.saturating_sub(r.used.elapsed()))) {
                None => self.used.notified().await,
                Some(Duration::ZERO) => match self.slot.clone().try_write_owned() {
                    Ok(slot) => drop(self.empty(slot).await),
                    // It is in use.
                    Err(_) => self.used.notified().await,
                },
                Some(left) => drop(timeout(left, self.used.notified()).await),
            }
        }
    }

    async fn empty(self: &Arc<Self>, mut slot: OwnedRwLockWriteGuard<Slot>) -> Result<(), HttpError> {
        let this = self.clone();
        blocking(move || this.clear(&mut slot)).await
    }

    /// Frees the model's memory.
    fn clear(&self, slot: &mut Slot) {
        *self.resident_mut() = None;
        self.metrics.gpu_bytes.store(0, Ordering::Relaxed);
        let Some(model) = slot.model.take() else { return };
        // After a failure the device may be broken: the next request opens another one.
        slot.gpu = (!model.engine.has_ended()).then(|| model.engine.gpu());
        // The engine's loop ends with its last handle.
        drop(model);
        if slot.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the engine's thread panicked");
        }
        if let Some(gpu) = &slot.gpu {
            // Buffers are freed at the next poll; a lost device is noticed later.
            let _ = block_on(gpu.flush());
        }
    }

    fn load(&self, slot: &mut Slot, index: usize) -> Result<(), HttpError> {
        self.clear(slot);
        let name = &self.registry.entries()[index].name;
        let engine = block_on(self.open(slot, index)).map_err(|e| {
            let message = format!("cannot load the model {name:?}: {e}");
            HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "model_not_loaded", message)
        })?;
        let session = engine.session()?;
        for warning in engine.model().notices.iter().chain(session.notices()) {
            (self.setup.on_warning)(&format!("{name}: {warning}"));
        }
        let gpu_bytes = session.plan().dispatch_list().bytes().total();
        let (keep, used) = (self.setup.keep_alive, Instant::now());
        let mut resident = Resident { index, gpu_bytes, context: session.context(), until: None, keep, used };
        resident.touch();
        let (handle, engine_loop) = engine.into_loop()?;
        let run = move || {
            if let Err(error) = block_on(engine_loop.run()) {
                tracing::error!("{error}");
            }
        };
        let thread = Builder::new().name("engine".into()).spawn(run);
        slot.thread = Some(thread.map_err(|e| HttpError::internal(format!("the engine cannot be started: {e}")))?);
        (slot.gpu, slot.model) = (None, Some(LoadedModel::new(index, handle)));
        *self.resident_mut() = Some(resident);
        self.metrics.gpu_bytes.store(gpu_bytes, Ordering::Relaxed);
        add(&self.metrics.loads, 1);
        Ok(())
    }

    /// Opens a model on the device, and the device, if there is none.
    async fn open(&self, slot: &mut Slot, index: usize) -> firelight::Result<Engine> {
        let setup = &self.setup;
        let gpu = match slot.gpu.take().filter(|gpu| gpu.check().is_ok()) {
            Some(gpu) => gpu,
            None => {
                let gpu = Gpu::open(&setup.gpu).await?;
                (setup.on_device)(gpu.adapter());
                gpu
            }
        };
        // Kept if the model cannot be loaded.
        slot.gpu = Some(gpu.clone());
        let checkpoint = self.registry.entries()[index].model.open().await?;
        let model = Arc::new(Model::from_checkpoint(checkpoint).await?);
        let logits = (EMBEDDED_BYTES / 4 / model.spec.vocab_size.max(1)).clamp(LEAST_EMBEDDED, setup.session.chunk);
        let options = EngineOptions::default().gpu(setup.gpu.clone()).session(setup.session.clone().logits(logits));
        let on_warning = setup.on_warning;
        let report = move |status| {
            if let Status::Warning(warning) = status {
                on_warning(&warning);
            }
        };
        Engine::load(gpu, model, options, Box::new(report)).await
    }
}

/// Runs CPU-bound work on a thread where it delays neither HTTP nor the engine.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, HttpError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| HttpError::internal(format!("the request failed: {error}")))
}
