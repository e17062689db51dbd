//! The engine: a device, a model on it, and answers. Every front end uses this module.
//!
//! [`Engine`] adds the common parts of front ends to a [`Session`]: it parses answers into [`AnswerEvent`]s, compiles
//! their grammars, and recovers from a lost device: it opens the device again, loads the weights, and resumes each
//! answer after the tokens that it has emitted. There are three ways to use it:
//!
//! * [`Engine::answer`] generates one answer, for a caller that owns the engine.
//! * [`Engine::into_loop`] is for many callers: each has an [`EngineHandle`], and a thread or a page awaits the
//!   [`EngineLoop`].
//! * [`Engine::submit`], [`Engine::step`] and [`Engine::try_next`] are the parts of both.
//!
//! [`EngineControl`] acts on an engine from elsewhere while it works.

mod answer;
mod control;
mod device;
mod grammars;
mod handle;
#[cfg(feature = "demo")]
mod model_ref;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[cfg(feature = "grammar")]
use crate::conversation::grammar::ConstraintError;
use crate::conversation::{AnswerEvent, AnswerReader, OutputRules, Prepared};
use crate::gpu::{Clock, Gpu, GpuOptions};
use crate::model::Model;
use crate::model::load::Progress;
use crate::sampler::Sampling;
use crate::send::BoxFnMut;
use crate::session::{Constraint, Event, Request, RequestId, Session, SessionOptions};
use crate::setters::setters;
use crate::{Error, Result};

pub use answer::AnswerSteps;
pub use control::EngineControl;
pub use grammars::Grammar;
use grammars::Grammars;
pub use handle::{AnswerStream, EngineHandle, EngineLoop};
#[cfg(feature = "demo")]
pub use model_ref::ModelRef;

/// A device that is lost again within this many seconds is not opened again.
const LOST_AGAIN: f64 = 30.0;

/// The number of an answer or an embedding.
pub type AnswerId = u64;

/// How an engine is set up.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// How the device is opened, also after it was lost.
    pub gpu: GpuOptions,
    /// The session's options.
    pub session: SessionOptions,
}

setters!(EngineOptions { gpu: GpuOptions, session: SessionOptions });

/// The progress of an engine that loads a model, at first or after a lost device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// The kernels are being compiled.
    Compiling,
    /// How many bytes of the weights are loaded.
    Loading(Progress),
    /// A message for the user.
    Warning(String),
}

/// Receives the reports of an engine.
pub type Report = BoxFnMut<'static, Status, ()>;

/// An answer to be generated.
#[derive(Clone)]
#[non_exhaustive]
pub struct AnswerJob {
    /// The prompt.
    pub prompt: Prepared,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Most tokens to generate.
    pub max_tokens: Option<usize>,
    /// Go on after the model says that it has finished.
    pub ignore_end: bool,
    /// The constraint of the answer; see [`Engine::compile`].
    pub grammar: Option<Grammar>,
}

impl AnswerJob {
    /// An answer to this prompt, sampled by default, as long as the context allows.
    pub fn new(prompt: Prepared) -> Self {
        AnswerJob {
            prompt,
            sampling: Sampling::default(),
            stop: Vec::new(),
            max_tokens: None,
            ignore_end: false,
            grammar: None,
        }
    }
}

setters!(AnswerJob {
    sampling: Sampling,
    stop: Vec<String>,
    max_tokens: impl Into<Option<usize>>,
    ignore_end: bool,
    grammar: impl Into<Option<Grammar>>,
});

/// See the module.
pub struct Engine {
    model: Arc<Model>,
    options: EngineOptions,
    report: Report,
    control: EngineControl,
    /// `None` after a failure.
    session: Option<Session>,
    grammars: Grammars,
    jobs: BTreeMap<AnswerId, Job>,
    last_id: AnswerId,
    events: VecDeque<(AnswerId, Result<AnswerEvent>)>,
    embeddings: VecDeque<(AnswerId, Vec<f32>)>,
    lost: Option<Clock>,
}

/// A request that is not finished.
struct Job {
    /// Its number in the session.
    at: RequestId,
    kind: JobKind,
}

enum JobKind {
    Answer(Box<RunningAnswer>),
    Embedding(Vec<u32>),
}

struct RunningAnswer {
    /// The request, with the tokens that have been generated.
    request: Request,
    reader: AnswerReader,
    grammar: Option<Grammar>,
    #[cfg(feature = "grammar")]
    failed: Option<ConstraintError>,
}

impl Engine {
    /// Loads a model onto a device that `options.gpu` has opened.
    ///
    /// # Errors
    /// As [`SessionBuilder::load`](crate::session::SessionBuilder::load).
    pub async fn load(gpu: Gpu, model: Arc<Model>, options: EngineOptions, mut report: Report) -> Result<Self> {
        let (control, grammars) = (EngineControl::new(gpu.clone()), Grammars::new(model.clone()));
        let session = load(&gpu, &model, &options, &mut report).await?;
        Ok(Engine {
            model,
            options,
            report,
            control,
            session: Some(session),
            grammars,
            jobs: BTreeMap::new(),
            last_id: 0,
            events: VecDeque::new(),
            embeddings: VecDeque::new(),
            lost: None,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The device; another one after it was lost.
    pub fn gpu(&self) -> Gpu {
        self.control.gpu()
    }

    /// The session.
    ///
    /// # Errors
    /// [`Error::Gpu`] once a lost device could not be replaced.
    pub fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or_else(gone)
    }

    /// The session, to profile it.
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub fn session_mut(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(gone)
    }

    /// Acts on the engine while [`Engine::step`] waits.
    pub fn control(&self) -> EngineControl {
        self.control.clone()
    }

    /// Whether there is anything to do.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Compiles an answer's constraint. The first call reads the vocabulary, which takes up to a second.
    ///
    /// # Errors
    /// [`Error::Usage`] if a schema or an expression is invalid, or no text fits it; [`Error::Unsupported`] without the
    /// feature `grammar`.
    pub fn compile(&self, rules: &OutputRules) -> Result<Grammar> {
        self.grammars.compile(rules)
    }

    /// Queues an answer. Its events come from [`Engine::try_next`].
    ///
    /// # Errors
    /// As [`Session::submit`].
    pub fn submit(&mut self, job: AnswerJob) -> Result<AnswerId> {
        let Prepared { tokens, parser, prefill, .. } = job.prompt;
        let request = Request {
            tokens,
            answered: 0,
            special: parser.needs_special(),
            sampling: job.sampling,
            stop: job.stop,
            max_tokens: job.max_tokens,
            ignore_end: job.ignore_end,
        };
        let parser = parser.with_seed(request.sampling.seed);
        let reader = AnswerReader::new(parser);
        let mut answer = Box::new(RunningAnswer {
            request,
            reader,
            grammar: job.grammar,
            #[cfg(feature = "grammar")]
            failed: None,
        });
        let at = self.start(&mut answer)?;
        let prefill = answer.reader.prefill(&prefill);
        let id = self.add(at, JobKind::Answer(answer));
        self.events.extend(prefill.into_iter().map(|event| (id, Ok(event))));
        Ok(id)
    }

    /// Queues a text to be embedded. Its vector comes from [`Engine::next_embedding`].
    ///
    /// # Errors
    /// As [`Session::submit_embedding`].
    pub fn embed(&mut self, tokens: Vec<u32>) -> Result<AnswerId> {
        let at = self.session_mut()?.submit_embedding(tokens.clone())?;
        Ok(self.add(at, JobKind::Embedding(tokens)))
    }

    fn add(&mut self, at: RequestId, kind: JobKind) -> AnswerId {
        self.last_id += 1;
        self.jobs.insert(self.last_id, Job { at, kind });
        self.last_id
    }

    /// Submits an answer to the session, from its beginning or after a lost device.
    fn start(&mut self, answer: &mut RunningAnswer) -> Result<RequestId> {
        let constraint = answer.constraint();
        self.session_mut()?.submit_constrained(answer.request.clone(), constraint)
    }

    /// Ends an answer or an embedding; an answer's last event says so.
    pub fn cancel(&mut self, id: AnswerId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (at, embeds) = (job.at, matches!(job.kind, JobKind::Embedding(_)));
        if let Some(session) = &mut self.session {
            session.cancel(at);
        }
        if embeds {
            self.jobs.remove(&id);
        }
        self.gather();
    }

    /// The next event of any answer that needs no waiting. An error ends its answer.
    pub fn try_next(&mut self) -> Option<(AnswerId, Result<AnswerEvent>)> {
        self.events.pop_front()
    }

    /// The next vector that needs no waiting.
    pub fn next_embedding(&mut self) -> Option<(AnswerId, Vec<f32>)> {
        self.embeddings.pop_front()
    }

    /// Waits for one step of the session. Returns whether there is anything left to do. A lost device is replaced, and
    /// the answers resumed.
    ///
    /// # Errors
    /// If the device is lost and cannot be replaced, or a step fails otherwise. The engine cannot be used after that.
    pub async fn step(&mut self) -> Result<bool> {
        let stepped = self.session_mut()?.step().await;
        if self.control.is_closed() {
            return Ok(false);
        }
        self.gather();
        match stepped {
            Ok(more) => Ok(more || !self.events.is_empty() || !self.embeddings.is_empty()),
            Err(error) => {
                self.session = None;
                self.recover(error).await?;
                Ok(true)
            }
        }
    }

    /// Reads the session's events, and records the tokens.
    fn gather(&mut self) {
        let Some(session) = &mut self.session else { return };
        while let Some((at, event)) = session.try_next() {
            let Some((id, job)) = self.jobs.iter_mut().find(|(_, job)| job.at == at) else { continue };
            let id = *id;
            let over = matches!(event, Event::Finished { .. } | Event::Embedding(_));
            match (&mut job.kind, event) {
                (_, Event::Embedding(vector)) => self.embeddings.push_back((id, vector)),
                (JobKind::Embedding(_), _) => {}
                (JobKind::Answer(answer), event) => {
                    let events = answer.read(event, &self.model);
                    self.events.extend(events.into_iter().map(|event| (id, event)));
                }
            }
            if over {
                self.jobs.remove(&id);
            }
        }
    }

    /// After a lost device: opens it again, loads the weights once more, and resumes every answer.
    async fn recover(&mut self, error: Error) -> Result<()> {
        if !device::is_lost(&self.gpu()).await || self.lost.is_some_and(|lost| lost.seconds() < LOST_AGAIN) {
            return Err(error);
        }
        self.lost = Some(Clock::now());
        let warning = "the GPU was lost; the model is loaded again, and the answers are resumed then";
        (self.report)(Status::Warning(warning.into()));
        let gpu = device::reopen(&self.options.gpu).await.map_err(|_| error)?;
        self.control.replace(gpu.clone());
        self.session = Some(load(&gpu, &self.model, &self.options, &mut self.report).await?);
        let mut jobs = std::mem::take(&mut self.jobs);
        for job in jobs.values_mut() {
            job.at = match &mut job.kind {
                JobKind::Answer(answer) => self.start(answer)?,
                JobKind::Embedding(tokens) => self.session_mut()?.submit_embedding(tokens.clone())?,
            };
        }
        self.jobs = jobs;
        Ok(())
    }
}

impl RunningAnswer {
    #[cfg(feature = "grammar")]
    fn constraint(&mut self) -> Option<Constraint> {
        let (constraint, failed) = self.grammar.as_ref().map(|grammar| grammar.constraint()).unzip();
        self.failed = failed;
        constraint
    }

    #[cfg(not(feature = "grammar"))]
    fn constraint(&mut self) -> Option<Constraint> {
        self.grammar.map(|never| match never {})
    }

    fn read(&mut self, event: Event, model: &Model) -> Vec<Result<AnswerEvent>> {
        match &event {
            // It was reported before the device was lost.
            Event::Begun { .. } if self.request.answered > 0 => return Vec::new(),
            Event::Token { id, .. } => {
                self.request.tokens.push(*id);
                self.request.answered += 1;
            }
            #[cfg(feature = "grammar")]
            Event::Finished { .. } => {
                if let Some(why) = self.failed.take().and_then(|failed| failed.get().cloned()) {
                    return vec![Err(Error::Unsupported(format!("the answer could not be constrained: {why}")))];
                }
            }
            _ => {}
        }
        self.reader.read(event, &model.tokenizer).into_iter().map(Ok).collect()
    }
}

async fn load(gpu: &Gpu, model: &Model, options: &EngineOptions, report: &mut Report) -> Result<Session> {
    report(Status::Compiling);
    let progress = |progress| report(Status::Loading(progress));
    Session::builder(gpu, model).options(&options.session).on_progress(progress).load().await
}

fn gone() -> Error {
    Error::Gpu("the device was lost and could not be replaced; open the model again".into())
}
