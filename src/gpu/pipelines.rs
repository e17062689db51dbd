//! The compute pipelines of a device, which its plans share: two models with the same kernels compile them once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;

/// The number of pipelines to keep for later plans. A model has about 60, most of which its family shares.
const CAPACITY: usize = 1024;

/// A compute pipeline, and how its buffers are bound.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The pipelines of a device by the source that they were compiled from. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Pipelines {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    requested: Arc<AtomicU64>,
    compiled: Arc<AtomicU64>,
    /// Counts uses, to evict the least recently used pipeline.
    clock: Arc<AtomicU64>,
}

enum Entry {
    /// Callers that wait while it is compiled.
    Compiling(Vec<oneshot::Sender<Pipeline>>),
    /// The pipeline, and when it was last used.
    Ready(Pipeline, u64),
}

/// The result of a lookup.
pub(crate) enum Lookup {
    Ready(Pipeline),
    /// Another plan compiles it. The receiver is cancelled if that fails.
    Compiling(oneshot::Receiver<Pipeline>),
    /// The caller has to compile it.
    Missing(Vacancy),
}

/// The obligation to compile a pipeline. Dropping it cancels the receivers of waiting callers.
pub(crate) struct Vacancy {
    pipelines: Pipelines,
    /// `None` once filled.
    key: Option<String>,
}

impl Pipelines {
    /// Looks up the pipeline of a source. If it is missing, other callers wait from now on until the [`Vacancy`] is
    /// filled.
    pub fn lookup(&self, key: &str) -> Lookup {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.lock();
        match entries.get_mut(key) {
            Some(Entry::Ready(pipeline, used)) => {
                *used = now;
                Lookup::Ready(pipeline.clone())
            }
            Some(Entry::Compiling(waiting)) => {
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                Lookup::Compiling(receiver)
            }
            None => {
                entries.insert(key.into(), Entry::Compiling(Vec::new()));
                self.requested.fetch_add(1, Ordering::Relaxed);
                Lookup::Missing(Vacancy { pipelines: self.clone(), key: Some(key.into()) })
            }
        }
    }

    /// How many pipelines had to be compiled so far, including those that are being compiled.
    pub fn requested(&self) -> u64 {
        self.requested.load(Ordering::Relaxed)
    }

    /// How many pipelines were compiled so far.
    pub fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // No invariant spans two entries, so the map is still valid after a panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vacancy {
    /// Shares the pipeline, once it is known that the device accepted it.
    pub fn fill(mut self, pipeline: &Pipeline) {
        let Some(key) = self.key.take() else { return };
        let now = self.pipelines.clock.fetch_add(1, Ordering::Relaxed);
        self.pipelines.compiled.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.pipelines.lock();
        if let Some(Entry::Compiling(waiting)) = entries.insert(key, Entry::Ready(pipeline.clone(), now)) {
            waiting.into_iter().for_each(|sender| drop(sender.send(pipeline.clone())));
        }
        if entries.len() > CAPACITY {
            evict(&mut entries);
        }
    }
}

impl Drop for Vacancy {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.pipelines.lock().remove(&key);
        }
    }
}

/// Removes the least recently used pipeline. Plans that use it keep it.
fn evict(entries: &mut HashMap<String, Entry>) {
    let used = |(key, entry): (&String, &Entry)| match entry {
        Entry::Ready(_, used) => Some((*used, key.clone())),
        Entry::Compiling(_) => None,
    };
    if let Some((_, key)) = entries.iter().filter_map(used).min() {
        entries.remove(&key);
    }
}
