//! The thread that owns the engine. Requests come in through a channel, and the events of each go back through its own;
//! a request whose receiver was dropped is cancelled before the next step.
//!
//! Requests start in the order in which they came. One model is loaded at a time: when the next request is for another,
//! the running ones are finished first, and none starts meanwhile.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use firelight::conversation::{Prompt, ResponseFormat};
use firelight::engine::{Engine, EngineOptions, Status};
use firelight::gpu::{AdapterInfo, Gpu, GpuOptions};
use firelight::model::Model;
use firelight::session::SessionOptions;
use pollster::block_on;
use tokio::sync::oneshot;

use super::batch::{Embedded, Reply, Texts};
use super::http_error::HttpError;
use super::metrics::{Metrics, add};
use super::protocol::{AnswerReceiver, AnswerSender, Ticket, channel, stopped};
use super::registry::Registry;
use super::request::AnswerRequest;
use super::worker::Worker;

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

enum Work {
    Answer(AnswerRequest, AnswerSender),
    Embed(String, Texts, Reply),
    /// Count a prompt's tokens.
    Count(String, Prompt, oneshot::Sender<Result<usize, HttpError>>),
    /// Load a model and keep it for this long; unload it if that is zero.
    Keep(String, Option<Duration>, oneshot::Sender<Result<(), HttpError>>),
}

impl Work {
    fn model(&self) -> &str {
        match self {
            Work::Answer(request, _) => &request.model,
            Work::Embed(model, ..) | Work::Count(model, ..) | Work::Keep(model, ..) => model,
        }
    }

    fn abandoned(&self) -> bool {
        match self {
            Work::Answer(_, reply) => reply.is_closed(),
            Work::Embed(_, _, reply) => reply.is_closed(),
            Work::Count(_, _, reply) => reply.is_closed(),
            Work::Keep(_, _, reply) => reply.is_closed(),
        }
    }

    fn fail(self, failure: HttpError) {
        // A client that has disconnected need not be told.
        match self {
            Work::Answer(_, reply) => reply.refuse(failure),
            Work::Embed(_, _, reply) => drop(reply.send(Err(failure))),
            Work::Count(_, _, reply) => drop(reply.send(Err(failure))),
            Work::Keep(_, _, reply) => drop(reply.send(Err(failure))),
        }
    }
}

/// The model that is loaded.
#[derive(Clone, Debug)]
pub struct Resident {
    /// Its index in the registry.
    pub index: usize,
    pub gpu_bytes: u64,
    pub context: usize,
    /// When it is unloaded without further requests; `None` for never.
    pub until: Option<SystemTime>,
}

/// Sends requests to the engine's thread.
#[derive(Clone)]
pub struct EngineHandle {
    work: Sender<(Work, Ticket)>,
    metrics: Arc<Metrics>,
    resident: Arc<Mutex<Option<Resident>>>,
    room: usize,
}

impl EngineHandle {
    /// Starts the thread, which loads the first model at once. The first receiver gets the result. The sender of the
    /// second is dropped when the thread ends, which only a bug can cause.
    pub fn start(
        registry: Registry,
        setup: Setup,
        metrics: Arc<Metrics>,
    ) -> (Self, oneshot::Receiver<Result<(), HttpError>>, oneshot::Receiver<()>) {
        let (work, works) = std::sync::mpsc::channel();
        let resident = Arc::new(Mutex::new(None));
        let room = setup.session.sequences as usize + setup.queue;
        let engine = EngineHandle { work, metrics: metrics.clone(), resident: resident.clone(), room };
        let (tell, ready) = oneshot::channel();
        // The channel is open and empty.
        let _ = engine.send(Work::Keep(String::new(), None, tell));
        let (alive, gone) = oneshot::channel();
        let run = move || {
            let queue = VecDeque::new();
            Thread { registry, setup, metrics, resident, works, queue, gpu: None, loaded: None }.run();
            drop(alive);
        };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(STACK);
        if let Err(error) = thread.spawn(run) {
            // Those who wait get the error of a stopped engine.
            tracing::error!("the engine's thread cannot be started: {error}");
        }
        (engine, ready, gone)
    }

    fn send(&self, work: Work) -> Result<(), HttpError> {
        let (ticket, pending) = Ticket::take(&self.metrics);
        if pending >= self.room {
            let message = format!("{pending} requests are being answered or wait already; try again later");
            let failure = HttpError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
            return Err(HttpError { retry_after: Some(1), ..failure });
        }
        self.work.send((work, ticket)).map_err(|_| stopped())
    }

    /// Requests answers.
    pub fn answer(&self, request: AnswerRequest) -> Result<AnswerReceiver, HttpError> {
        request.check()?;
        let (reply, receiver) = channel();
        self.send(Work::Answer(request, reply))?;
        Ok(receiver)
    }

    /// Embeds texts.
    pub async fn embed(&self, model: String, texts: Texts) -> Result<Embedded, HttpError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Work::Embed(model, texts, reply))?;
        receiver.await.map_err(|_| stopped())?
    }

    /// Counts the tokens of a prompt.
    pub async fn count(&self, model: String, prompt: Prompt) -> Result<usize, HttpError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Work::Count(model, prompt, reply))?;
        receiver.await.map_err(|_| stopped())?
    }

    /// Loads a model and keeps it for `time`, or unloads it if that is zero.
    pub async fn keep(&self, model: String, time: Option<Duration>) -> Result<(), HttpError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Work::Keep(model, time, reply))?;
        receiver.await.map_err(|_| stopped())?
    }

    /// The model that is loaded.
    pub fn resident(&self) -> Option<Resident> {
        self.resident.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// A step of texts to be embedded has as many rows as have logits in this many bytes: they share the buffer.
const EMBEDDED_BYTES: u32 = 16 << 20;
/// The fewest rows of such a step.
const LEAST_EMBEDDED: u32 = 16;

/// The stack's size: the templates and schemas of requests may be deep.
const STACK: usize = 16 << 20;

struct Thread {
    registry: Registry,
    setup: Setup,
    metrics: Arc<Metrics>,
    resident: Arc<Mutex<Option<Resident>>>,
    works: Receiver<(Work, Ticket)>,
    queue: VecDeque<(Work, Ticket)>,
    gpu: Option<Gpu>,
    loaded: Option<Worker>,
}

impl Thread {
    fn run(mut self) {
        while self.receive() {
            self.queue.retain(|(work, _)| !work.abandoned());
            while self.begin_next() {}
            let Some(loaded) = &mut self.loaded else { continue };
            let busy = loaded.busy();
            loaded.cancel_abandoned(&self.metrics);
            let stepped = loaded.step(&self.metrics);
            let done = busy && !loaded.busy();
            if let Err(error) = stepped {
                tracing::error!("{error}");
                loaded.fail_all(&HttpError::internal(error.to_string()));
                // The device may be broken: the next request opens it again.
                self.unload();
                self.gpu = None;
            } else if done {
                // The idle time starts now.
                self.tell_resident();
            }
        }
    }

    /// Takes the requests that have arrived; waits for one if there is nothing to do. Returns false when the server has
    /// ended.
    fn receive(&mut self) -> bool {
        if !self.queue.is_empty() || self.loaded.as_ref().is_some_and(Worker::busy) {
            self.queue.extend(self.works.try_iter());
            return true;
        }
        let left = self.loaded.as_ref().and_then(|l| Some(l.keep?.saturating_sub(l.idle.elapsed())));
        let got = match left {
            Some(left) => self.works.recv_timeout(left),
            None => self.works.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match got {
            Ok(work) => self.queue.push_back(work),
            Err(RecvTimeoutError::Timeout) => self.unload(),
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    fn unload(&mut self) {
        self.loaded = None;
        self.tell_resident();
        if let Some(gpu) = &self.gpu {
            // Buffers are freed at the next poll; a lost device is noticed later.
            let _ = block_on(gpu.flush());
        }
    }

    fn tell_resident(&self) {
        let resident = self.loaded.as_ref().and_then(|l| {
            let session = l.engine.session().ok()?;
            Some(Resident {
                index: l.index,
                gpu_bytes: session.plan().dispatch_list().bytes().total(),
                context: session.context(),
                until: l.keep.map(|keep| SystemTime::now() + keep),
            })
        });
        self.metrics.gpu_bytes.store(resident.as_ref().map_or(0, |r| r.gpu_bytes), Ordering::Relaxed);
        *self.resident.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = resident;
    }

    /// Starts the first request of the queue, if it can start now.
    fn begin_next(&mut self) -> bool {
        let Some((work, _)) = self.queue.front() else { return false };
        let index = self.registry.find(work.model());
        let busy = self.loaded.as_ref().is_some_and(Worker::busy);
        let other = self.loaded.as_ref().is_none_or(|l| Ok(l.index) != index.as_ref().map(|i| *i).map_err(|_| ()));
        if busy && (other || matches!(work, Work::Keep(..))) {
            return false;
        }
        let Some((work, ticket)) = self.queue.pop_front() else { return false };
        let (begun, usual) = (Instant::now(), self.setup.keep_alive);
        let loaded = match index.and_then(|index| self.load(index)) {
            Ok(loaded) => loaded,
            Err(failure) => {
                work.fail(failure);
                return true;
            }
        };
        let load_seconds = begun.elapsed().as_secs_f64();
        loaded.idle = Instant::now();
        match work {
            Work::Answer(request, reply) => {
                loaded.keep = request.keep_alive.or(usual);
                loaded.begin(request, reply, ticket, load_seconds);
                self.tell_resident();
            }
            Work::Embed(_, texts, reply) => {
                loaded.keep = texts.keep_alive.or(usual);
                loaded.embed(&texts, reply, ticket, load_seconds);
                self.tell_resident();
            }
            Work::Count(_, prompt, reply) => {
                let _ = reply.send(loaded.prepare(&prompt, &ResponseFormat::Text).map(|p| p.tokens.len()));
            }
            Work::Keep(_, time, reply) => {
                loaded.keep = time.or(usual);
                match time {
                    Some(Duration::ZERO) => self.unload(),
                    _ => self.tell_resident(),
                }
                // Its place in the queue is free before the client hears of it.
                drop(ticket);
                let _ = reply.send(Ok(()));
            }
        }
        true
    }

    /// Loads a model, unless it is loaded.
    fn load(&mut self, index: usize) -> Result<&mut Worker, HttpError> {
        if self.loaded.as_ref().is_none_or(|l| l.index != index) {
            self.unload();
            let entry = &self.registry.entries()[index];
            let name = entry.name.clone();
            let unavailable = |e: firelight::Error| {
                let message = format!("cannot load the model {name:?}: {e}");
                HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "model_not_loaded", message)
            };
            let gpu = match &self.gpu {
                Some(gpu) => gpu,
                None => {
                    let gpu = block_on(Gpu::open(&self.setup.gpu)).map_err(unavailable)?;
                    (self.setup.on_device)(gpu.adapter());
                    self.gpu.insert(gpu)
                }
            };
            let model = block_on(async { Model::from_checkpoint(entry.model.open().await?).await });
            let model = Arc::new(model.map_err(unavailable)?);
            let logits =
                (EMBEDDED_BYTES / 4 / model.spec.vocab_size.max(1)).clamp(LEAST_EMBEDDED, self.setup.session.chunk);
            let session = self.setup.session.clone().logits(logits);
            let options = EngineOptions::default().gpu(self.setup.gpu.clone()).session(session);
            let on_warning = self.setup.on_warning;
            let report = Box::new(move |status| {
                if let Status::Warning(warning) = status {
                    on_warning(&warning);
                }
            });
            let engine = block_on(Engine::load(gpu.clone(), model.clone(), options, report)).map_err(unavailable)?;
            for warning in model.notices.iter().chain(engine.session().map_err(unavailable)?.notices()) {
                on_warning(&format!("{name}: {warning}"));
            }
            add(&self.metrics.loads, 1);
            self.loaded = Some(Worker::new(index, engine, self.setup.keep_alive));
            self.tell_resident();
        }
        self.loaded.as_mut().ok_or_else(|| HttpError::internal("the model is not there"))
    }
}
