//! Controls an engine from another task while it works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::gpu::Gpu;

/// A handle to an engine that another task drives.
#[derive(Clone)]
pub struct EngineControl(Arc<Shared>);

struct Shared {
    gpu: Mutex<Gpu>,
    closed: AtomicBool,
}

impl EngineControl {
    pub(super) fn new(gpu: Gpu) -> Self {
        EngineControl(Arc::new(Shared { gpu: Mutex::new(gpu), closed: AtomicBool::new(false) }))
    }

    pub(super) fn gpu(&self) -> Gpu {
        self.0.gpu.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Takes the device that replaces a lost one; destroys it if the engine was closed meanwhile.
    pub(super) fn replace(&self, gpu: Gpu) {
        *self.0.gpu.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = gpu.clone();
        if self.is_closed() {
            gpu.destroy();
        }
    }

    /// Whether [`EngineControl::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Whether the device was lost, and not replaced.
    pub fn is_lost(&self) -> bool {
        self.gpu().check().is_err()
    }

    /// Destroys the device, which frees its memory. A step that waits ends without events.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.gpu().destroy();
    }

    /// Destroys the device as a crashed driver would, for tests: the engine replaces it.
    #[doc(hidden)]
    pub fn lose_device(&self) {
        self.gpu().destroy();
    }
}
