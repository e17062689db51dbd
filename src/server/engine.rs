//! The thread that owns the GPU, the model and the session. Work comes in through a channel, events go back through one a
//! request; whoever drops his end is cancelled before the next step.
//!
//! Requests are begun in the order they came. One model is loaded at a time: when the next request wants another, what
//! runs is finished first, and nothing is begun meanwhile. Embeddings have the session for themselves in the same way.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use firelight::gpu::{Gpu, GpuOptions};
use firelight::model::Model;
use firelight::session::{self, Finish, Options, Request, RequestId, Session, Timings};
use pollster::block_on;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::ask::{Ask, Form, Prompt};
use super::failure::Failure;
use super::grammar::{Broken, Grammars};
use super::metrics::{Metrics, add};
use super::prompt::{Prepared, prepare};
use super::registry::Registry;
use super::reply::Format;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub gpu: GpuOptions,
    pub options: Options,
    /// Requests that may wait behind those that are answered.
    pub queue: usize,
    /// How long an idle model stays loaded; `None` for ever.
    pub keep_alive: Option<Duration>,
}

/// What happens to a request's answers.
#[derive(Debug)]
pub enum Event {
    /// All prompts are accepted: how many tokens each has, how replies are to be read, and whether they begin within
    /// their reasoning.
    Started { prompt_tokens: Vec<usize>, format: Format, thinking: bool, load_seconds: f64 },
    /// More of answer `choice`.
    Text { choice: usize, text: String },
    /// The token behind the text, if log-probabilities were asked for.
    Token { choice: usize, token: Token, top: Vec<Token> },
    /// Answer `choice` is complete; `stop` is the stop string that ended it.
    Finished { choice: usize, reason: Finish, stop: Option<String>, timings: Timings },
    /// There will be no more.
    Failed(Failure),
}

/// A token with its log-probability.
#[derive(Clone, Debug)]
pub struct Token {
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

/// A token and the likeliest in its place.
pub type Logprobs = (Token, Vec<Token>);

/// Vectors, and how many tokens were read for them.
pub type Embedded = (Vec<Vec<f32>>, usize);

enum Work {
    Answer(Ask, mpsc::UnboundedSender<Event>),
    Embed(String, Vec<Prompt>, oneshot::Sender<Result<Embedded, Failure>>),
    /// How many tokens a prompt has.
    Count(String, Prompt, oneshot::Sender<Result<usize, Failure>>),
    /// Load a model, or unload it if it is to be kept for no time.
    Keep(String, Option<Duration>, oneshot::Sender<Result<(), Failure>>),
}

impl Work {
    fn model(&self) -> &str {
        match self {
            Work::Answer(ask, _) => &ask.model,
            Work::Embed(model, ..) | Work::Count(model, ..) | Work::Keep(model, ..) => model,
        }
    }

    fn abandoned(&self) -> bool {
        match self {
            Work::Answer(_, events) => events.is_closed(),
            Work::Embed(_, _, reply) => reply.is_closed(),
            Work::Count(_, _, reply) => reply.is_closed(),
            Work::Keep(_, _, reply) => reply.is_closed(),
        }
    }

    fn fail(self, failure: Failure) {
        // Whoever does not listen any more need not be told.
        match self {
            Work::Answer(_, events) => drop(events.send(Event::Failed(failure))),
            Work::Embed(_, _, reply) => drop(reply.send(Err(failure))),
            Work::Count(_, _, reply) => drop(reply.send(Err(failure))),
            Work::Keep(_, _, reply) => drop(reply.send(Err(failure))),
        }
    }
}

/// The model that is loaded.
#[derive(Clone, Debug)]
pub struct Resident {
    /// Its place in the registry.
    pub index: usize,
    pub gpu_bytes: u64,
    pub context: usize,
    /// When it will be unloaded if nobody asks for it; `None` for never.
    pub until: Option<SystemTime>,
}

/// A place in the queue; it is given back when this is dropped.
struct Ticket(Arc<Metrics>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The engine, seen from other threads.
#[derive(Clone)]
pub struct Engine {
    work: Sender<(Work, Ticket)>,
    metrics: Arc<Metrics>,
    resident: Arc<Mutex<Option<Resident>>>,
    room: usize,
}

impl Engine {
    /// Starts the thread. The first model is loaded at once; the first receiver is told when it is, or why not. The
    /// second one's sender is dropped when the thread ends, which it does only if it fails.
    pub fn start(
        registry: Registry,
        setup: Setup,
        metrics: Arc<Metrics>,
    ) -> (Self, oneshot::Receiver<Result<(), Failure>>, oneshot::Receiver<()>) {
        let (work, works) = channel();
        let resident = Arc::new(Mutex::new(None));
        let room = setup.options.sequences as usize + setup.queue;
        let engine = Engine { work, metrics: metrics.clone(), resident: resident.clone(), room };
        let (tell, ready) = oneshot::channel();
        // A channel of our own that has just been made takes it.
        let _ = engine.send(Work::Keep(String::new(), None, tell));
        let (alive, gone) = oneshot::channel();
        let run = move || {
            let queue = VecDeque::new();
            Thread { registry, setup, metrics, resident, works, queue, gpu: None, loaded: None }.run();
            drop(alive);
        };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(STACK);
        if let Err(error) = thread.spawn(run) {
            // What waits for it is told that it has stopped.
            tracing::error!("the engine's thread cannot be started: {error}");
        }
        (engine, ready, gone)
    }

    fn send(&self, work: Work) -> Result<(), Failure> {
        let pending = self.metrics.pending.fetch_add(1, Ordering::Relaxed) as usize;
        let ticket = Ticket(self.metrics.clone());
        if pending >= self.room {
            let message = format!("{pending} requests are being answered or wait already; try again later");
            let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
            return Err(Failure { retry_after: Some(1), ..failure });
        }
        self.work.send((work, ticket)).map_err(|_| stopped())
    }

    /// Asks for answers.
    pub fn answer(&self, ask: Ask) -> Result<mpsc::UnboundedReceiver<Event>, Failure> {
        ask.check()?;
        let (events, receiver) = mpsc::unbounded_channel();
        self.send(Work::Answer(ask, events))?;
        Ok(receiver)
    }

    /// Asks for a vector for each text: its last hidden states, their mean, made as long as 1.
    pub async fn embed(&self, model: String, prompts: Vec<Prompt>) -> Result<Embedded, Failure> {
        let (reply, receiver) = oneshot::channel();
        self.send(Work::Embed(model, prompts, reply))?;
        receiver.await.map_err(|_| stopped())?
    }

    /// Counts the tokens of a prompt.
    pub async fn count(&self, model: String, prompt: Prompt) -> Result<usize, Failure> {
        let (reply, receiver) = oneshot::channel();
        self.send(Work::Count(model, prompt, reply))?;
        receiver.await.map_err(|_| stopped())?
    }

    /// Loads a model and keeps it for a time, or unloads it if that is no time at all.
    pub async fn keep(&self, model: String, time: Option<Duration>) -> Result<(), Failure> {
        let (reply, receiver) = oneshot::channel();
        self.send(Work::Keep(model, time, reply))?;
        receiver.await.map_err(|_| stopped())?
    }

    /// What is loaded.
    pub fn resident(&self) -> Option<Resident> {
        self.resident.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// What is said when the thread is gone.
pub fn stopped() -> Failure {
    Failure::internal("the engine has stopped; restart the server")
}

/// A token that stands for what the vocabulary cannot say may stand for a few bytes.
const SHORTEST: usize = 16;

/// Templates and schemas of requests may be deep.
const STACK: usize = 16 << 20;

/// An answer that is being generated.
struct Job {
    choice: usize,
    events: mpsc::UnboundedSender<Event>,
    ids: Vec<u32>,
    /// Bytes of text given out.
    given: usize,
    stops: Vec<String>,
    broken: Option<Broken>,
    /// The other answers to the same prompt: they begin when this one's prompt is read, and share it.
    siblings: Vec<Start>,
    ticket: Arc<Ticket>,
}

/// An answer to be begun.
struct Start {
    choice: usize,
    request: Request,
    schema: Option<Value>,
}

struct Loaded {
    index: usize,
    model: Model,
    session: Session,
    /// Bytes of the longest token.
    longest: usize,
    grammars: Option<Grammars>,
    jobs: HashMap<RequestId, Job>,
    /// Since when nothing was asked, and how long that may be.
    idle: Instant,
    keep: Option<Duration>,
}

struct Thread {
    registry: Registry,
    setup: Setup,
    metrics: Arc<Metrics>,
    resident: Arc<Mutex<Option<Resident>>>,
    works: Receiver<(Work, Ticket)>,
    queue: VecDeque<(Work, Ticket)>,
    gpu: Option<Gpu>,
    loaded: Option<Loaded>,
}

impl Thread {
    fn run(mut self) {
        while self.receive() {
            self.queue.retain(|(work, _)| !work.abandoned());
            while self.begin_next() {}
            let Some(loaded) = &mut self.loaded else { continue };
            let busy = !loaded.jobs.is_empty();
            loaded.cancel_abandoned(&self.metrics);
            let stepped = loaded.step(&self.metrics);
            let done = busy && loaded.jobs.is_empty();
            if let Err(error) = stepped {
                tracing::error!("{error}");
                loaded.fail_all(&Failure::internal(error.to_string()));
                // What happened to the device is not known: the next request opens it again.
                self.unload();
                self.gpu = None;
            } else if done {
                // From now on it is idle.
                self.tell_resident();
            }
        }
    }

    /// Takes in what has come; waits for something if there is nothing to do. False when the server is gone.
    fn receive(&mut self) -> bool {
        if !self.queue.is_empty() || self.loaded.as_ref().is_some_and(|l| !l.jobs.is_empty()) {
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
            // Buffers are given back when the device is asked again; that it is lost will be seen later.
            let _ = block_on(gpu.flush());
        }
    }

    fn tell_resident(&self) {
        let resident = self.loaded.as_ref().map(|l| Resident {
            index: l.index,
            gpu_bytes: l.session.plan().listing().bytes().total(),
            context: l.session.context(),
            until: l.keep.map(|keep| SystemTime::now() + keep),
        });
        self.metrics.gpu_bytes.store(resident.as_ref().map_or(0, |r| r.gpu_bytes), Ordering::Relaxed);
        *self.resident.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = resident;
    }

    /// Begins the first of the queue, if it can be begun now.
    fn begin_next(&mut self) -> bool {
        let Some((work, _)) = self.queue.front() else { return false };
        let index = self.registry.find(work.model());
        let busy = self.loaded.as_ref().is_some_and(|l| !l.jobs.is_empty());
        let other = self.loaded.as_ref().is_none_or(|l| Ok(l.index) != index.as_ref().map(|i| *i).map_err(|_| ()));
        if busy && (other || !matches!(work, Work::Answer(..) | Work::Count(..))) {
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
            Work::Answer(ask, events) => {
                loaded.keep = ask.keep_alive.or(usual);
                if let Err(failure) = loaded.begin(ask, &events, ticket, load_seconds) {
                    let _ = events.send(Event::Failed(failure));
                }
                self.tell_resident();
            }
            Work::Embed(_, prompts, reply) => {
                let _ = reply.send(loaded.embed(&prompts));
            }
            Work::Count(_, prompt, reply) => {
                let _ = reply.send(loaded.prepare(&prompt, &Form::Free).map(|p| p.tokens.len()));
            }
            Work::Keep(_, time, reply) => {
                loaded.keep = time.or(usual);
                match time {
                    Some(Duration::ZERO) => self.unload(),
                    _ => self.tell_resident(),
                }
                let _ = reply.send(Ok(()));
            }
        }
        true
    }

    /// Loads a model, unless it is there.
    fn load(&mut self, index: usize) -> Result<&mut Loaded, Failure> {
        if self.loaded.as_ref().is_none_or(|l| l.index != index) {
            self.unload();
            let entry = &self.registry.entries()[index];
            let name = entry.name.clone();
            let unavailable = |e: firelight::Error| {
                let message = format!("the model {name:?} cannot be loaded: {e}");
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "model_not_loaded", message)
            };
            let gpu = match &self.gpu {
                Some(gpu) => gpu,
                None => self.gpu.insert(block_on(Gpu::open(&self.setup.gpu)).map_err(unavailable)?),
            };
            let model =
                block_on(async { Model::from_checkpoint(entry.place.open().await?).await }).map_err(unavailable)?;
            let session = block_on(Session::new(gpu, &model, &self.setup.options, |_| {})).map_err(unavailable)?;
            for notice in model.notices.iter().chain(session.notices()) {
                crate::cli::note(&format!("{name}: {notice}"));
            }
            let vocab = 0..model.tokenizer.vocab_size() as u32;
            let longest = vocab.map(|id| model.tokenizer.bytes(id, true).len()).max().unwrap_or(0).max(SHORTEST);
            add(&self.metrics.loads, 1);
            let (jobs, idle, keep) = (HashMap::new(), Instant::now(), self.setup.keep_alive);
            self.loaded = Some(Loaded { index, model, session, longest, grammars: None, jobs, idle, keep });
            self.tell_resident();
        }
        self.loaded.as_mut().ok_or_else(|| Failure::internal("the model is not there"))
    }
}

impl Loaded {
    /// Begins all answers of a request, or none.
    fn begin(
        &mut self,
        ask: Ask,
        events: &mpsc::UnboundedSender<Event>,
        ticket: Ticket,
        load_seconds: f64,
    ) -> Result<(), Failure> {
        let (mut format, mut thinking) = (Format::Text, false);
        let mut prompts = Vec::new();
        for prompt in &ask.prompts {
            let prepared = self.prepare(prompt, &ask.form)?;
            (format, thinking) = (prepared.format, prepared.thinking);
            self.check_length("", prepared.tokens.len())?;
            prompts.push(prepared);
        }
        // A schema that cannot be held to is an error before anything is said.
        let mut held = match prompts.iter().find_map(|p| p.schema.as_ref()) {
            Some(schema) => Some(self.constraint(schema)?),
            None => None,
        };
        let prompt_tokens = prompts.iter().map(|p| p.tokens.len()).collect();
        let ticket = Arc::new(ticket);
        let mut starts = Vec::new();
        for (i, prompt) in prompts.into_iter().enumerate() {
            let mut group: Vec<Start> = (0..ask.choices)
                .map(|j| {
                    let mut sampling = ask.sampling.clone();
                    sampling.seed = sampling.seed.wrapping_add(j as u64);
                    let request = Request {
                        answered: 0,
                        tokens: prompt.tokens.clone(),
                        sampling,
                        stop: ask.stop.clone(),
                        max_tokens: ask.max_tokens,
                        ignore_end: false,
                        special: !matches!(format, Format::Text | Format::Chat),
                    };
                    Start { choice: i * ask.choices + j, request, schema: prompt.schema.clone() }
                })
                .collect();
            let first = group.remove(0);
            starts.push((first, group));
        }
        let _ = events.send(Event::Started { prompt_tokens, format, thinking, load_seconds });
        for (start, siblings) in starts {
            let held = match (held.take(), &start.schema) {
                (None, Some(schema)) => Some(self.constraint(schema)?),
                (held, _) => held,
            };
            self.start(start, held, siblings, events, &ticket)?;
        }
        Ok(())
    }

    /// Makes a prompt ready. A text that is too long in any case is not even read: that would hold everybody up.
    fn prepare(&self, prompt: &Prompt, form: &Form) -> Result<Prepared, Failure> {
        let fits = |text: &str| self.check_length("at least ", text.len() / self.longest);
        prepare(&self.model, prompt, form, fits)
    }

    fn check_length(&self, how: &str, len: usize) -> Result<(), Failure> {
        let context = self.session.context();
        if len < context {
            return Ok(());
        }
        let message = format!(
            "the prompt has {how}{len} tokens; the context of this server holds {context} with the answer. Shorten the \
             prompt, or start the server with a larger --context"
        );
        Err(Failure::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message))
    }

    fn start(
        &mut self,
        start: Start,
        held: Option<(session::Constraint, Broken)>,
        siblings: Vec<Start>,
        events: &mpsc::UnboundedSender<Event>,
        ticket: &Arc<Ticket>,
    ) -> Result<(), Failure> {
        let (constraint, broken) = held.unzip();
        let stops = start.request.stop.clone();
        let id = self.session.submit_within(start.request, constraint).map_err(|e| Failure::refused(&e))?;
        let (choice, events, ticket) = (start.choice, events.clone(), ticket.clone());
        self.jobs.insert(id, Job { choice, events, ids: Vec::new(), given: 0, stops, broken, siblings, ticket });
        Ok(())
    }

    fn constraint(&mut self, schema: &Value) -> Result<(session::Constraint, Broken), Failure> {
        let grammars = match &mut self.grammars {
            Some(grammars) => grammars,
            none => none.insert(Grammars::new(&self.model.tokenizer).map_err(Failure::internal)?),
        };
        grammars.constraint(schema).map_err(|e| Failure::bad(format!("the JSON schema cannot be held to: {e}")))
    }

    /// Ends what nobody waits for any more.
    fn cancel_abandoned(&mut self, metrics: &Metrics) {
        let gone: Vec<RequestId> =
            self.jobs.iter().filter(|(_, job)| job.events.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.session.cancel(id);
            self.jobs.remove(&id);
            add(&metrics.cancelled, 1);
        }
    }

    fn fail_all(&mut self, failure: &Failure) {
        for (_, job) in self.jobs.drain() {
            let _ = job.events.send(Event::Failed(failure.clone()));
        }
    }

    /// Lets the session read one step, and hands out what came of it.
    fn step(&mut self, metrics: &Metrics) -> firelight::Result<()> {
        if !self.jobs.is_empty() {
            block_on(self.session.turn())?;
            self.idle = Instant::now();
        }
        while let Some((id, event)) = self.session.ready() {
            self.hand_out(id, event, metrics);
        }
        metrics.running.store(self.jobs.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn hand_out(&mut self, id: RequestId, event: session::Event, metrics: &Metrics) {
        // Cancelled requests say something, too.
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let choice = job.choice;
        // Who does not listen is found by `cancel_abandoned`.
        match event {
            session::Event::Text(text) => {
                job.given += text.len();
                let _ = job.events.send(Event::Text { choice, text });
            }
            session::Event::Token { id: token, logprobs } => {
                job.ids.push(token);
                if let Some((logprob, top)) = logprobs {
                    let tokenizer = &self.model.tokenizer;
                    let token = |(id, logprob)| Token { bytes: tokenizer.bytes(id, true), logprob };
                    let top = top.into_iter().map(token).collect();
                    let token = Token { bytes: tokenizer.bytes(job.ids[job.ids.len() - 1], true), logprob };
                    let _ = job.events.send(Event::Token { choice, token, top });
                }
                self.start_siblings(id);
            }
            session::Event::Finished { reason, timings } => {
                self.start_siblings(id);
                self.finish(id, reason, timings, metrics);
            }
        }
    }

    fn start_siblings(&mut self, id: RequestId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.siblings.is_empty()) else { return };
        let (siblings, events, ticket) = (std::mem::take(&mut job.siblings), job.events.clone(), job.ticket.clone());
        for start in siblings {
            let held = start.schema.as_ref().map(|schema| self.constraint(schema)).transpose();
            let begun = held.and_then(|held| self.start(start, held, Vec::new(), &events, &ticket));
            if let Err(failure) = begun {
                let _ = events.send(Event::Failed(failure));
            }
        }
    }

    fn finish(&mut self, id: RequestId, reason: Finish, timings: Timings, metrics: &Metrics) {
        let Some(job) = self.jobs.remove(&id) else { return };
        add(&metrics.prompt_tokens, timings.prompt_tokens as u64);
        add(&metrics.reused_tokens, timings.reused_tokens as u64);
        add(&metrics.generated_tokens, timings.generated_tokens as u64);
        add(&metrics.prompt_microseconds, (timings.prompt_seconds * 1e6) as u64);
        add(&metrics.decode_microseconds, (timings.decode_seconds * 1e6) as u64);
        let stop = (reason == Finish::StopString).then(|| self.stop_string(&job)).flatten();
        let broken = job.broken.and_then(|broken| broken.take());
        let _ = job.events.send(match broken {
            Some(why) => Event::Failed(Failure::internal(format!("the JSON schema could not be held to: {why}"))),
            None => Event::Finished { choice: job.choice, reason, stop, timings },
        });
    }

    /// The stop string behind the text that was given out.
    fn stop_string(&self, job: &Job) -> Option<String> {
        let mut stream = self.model.tokenizer.stream().continuing();
        let mut text: String = job.ids.iter().map(|id| stream.push(*id)).collect();
        text += &stream.finish();
        let behind = text.get(job.given..)?;
        job.stops.iter().find(|stop| !stop.is_empty() && behind.starts_with(stop.as_str())).cloned()
    }

    fn embed(&mut self, prompts: &[Prompt]) -> Result<Embedded, Failure> {
        let (mut vectors, mut read) = (Vec::new(), 0);
        for prompt in prompts {
            let tokens = self.prepare(prompt, &Form::Free)?.tokens;
            read += tokens.len();
            vectors.push(block_on(self.session.embed(&tokens)).map_err(|e| Failure::refused(&e))?);
        }
        Ok((vectors, read))
    }
}
