//! The loaded model and the answers that it is giving: begun, handed out token by token, given up when nobody listens.
//!
//! It knows nothing of the queue, nor of which model is loaded when.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use firelight::model::Model;
use firelight::session::{self, FinishReason, Request, RequestId, Session, Timings};
use pollster::block_on;
use tokio::sync::mpsc;

use super::ask::{Ask, Form, Prompt};
use super::batch::{Batch, Reply, Texts};
use super::engine::{Event, Ticket, Token};
use super::failure::Failure;
use super::format::Format;
use super::grammar::{Broken, Grammars, Held};
use super::hold::Hold;
use super::metrics::{Metrics, add};
use super::prompt::{Prepared, prepare};

/// A token that stands for what the vocabulary cannot say may stand for a few bytes.
const SHORTEST: usize = 16;

/// An answer that is being generated.
pub struct Job {
    choice: usize,
    events: mpsc::UnboundedSender<Event>,
    /// Tokens generated since the last text was sent.
    unsent: usize,
    broken: Option<Broken>,
    /// The other answers to the same prompt: they begin when this one's prompt is read, and share it.
    siblings: Vec<Start>,
    ticket: Arc<Ticket>,
}

/// An answer to be begun.
struct Start {
    choice: usize,
    request: Request,
    held: Option<Rc<Held>>,
}

/// The loaded model.
pub struct Loaded {
    pub index: usize,
    pub model: Model,
    pub session: Session,
    /// Bytes of the longest token.
    longest: usize,
    grammars: Option<Grammars>,
    jobs: HashMap<RequestId, Job>,
    batches: Vec<Batch>,
    /// Since when nothing was asked, and how long that may be.
    pub idle: Instant,
    pub keep: Option<Duration>,
}

impl Loaded {
    /// A model that has just been loaded. After `keep` without work it may go.
    pub fn new(index: usize, model: Model, session: Session, keep: Option<Duration>) -> Self {
        let vocab = 0..model.tokenizer.vocab_size() as u32;
        let longest = vocab.map(|id| model.tokenizer.bytes(id, true).len()).max().unwrap_or(0).max(SHORTEST);
        let (jobs, batches) = (HashMap::new(), Vec::new());
        Loaded { index, model, session, longest, grammars: None, jobs, batches, idle: Instant::now(), keep }
    }

    /// Whether there is anything to do.
    pub fn busy(&self) -> bool {
        !self.jobs.is_empty() || !self.batches.is_empty()
    }

    /// Begins all answers of a request, or none.
    pub fn begin(
        &mut self,
        ask: Ask,
        events: &mpsc::UnboundedSender<Event>,
        ticket: Ticket,
        load_seconds: f64,
    ) -> Result<(), Failure> {
        let (mut format, mut thinking, mut continues) = (Format::Text, false, false);
        let (mut prompts, mut changes) = (Vec::new(), Vec::new());
        for prompt in &ask.prompts {
            let mut prepared = self.prepare(prompt, &ask.form)?;
            (format, thinking, continues) = (prepared.format, prepared.thinking, prepared.continues);
            changes.append(&mut prepared.changes);
            self.check_length("", prepared.tokens.len())?;
            prompts.push(prepared);
        }
        // What cannot be held to is an error before anything is said. All prompts of a request are held to the same.
        let hold = prompts.first().and_then(|p| p.hold.as_ref());
        let held = hold.map(|hold| self.ready(hold)).transpose()?;
        let (form, tools) = hold.map(Hold::reading).unwrap_or_default();
        let unheld = held.as_ref().map(|held| held.unheld.clone()).unwrap_or_default();
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
                        special: !matches!(format, Format::Text | Format::Chat | Format::Harmony),
                    };
                    Start { choice: i * ask.choices + j, request, held: held.clone() }
                })
                .collect();
            let first = group.remove(0);
            starts.push((first, group));
        }
        let _ = events.send(Event::Started {
            prompt_tokens,
            format,
            thinking,
            continues,
            form,
            tools,
            unheld,
            changes,
            load_seconds,
        });
        for (start, siblings) in starts {
            self.start(start, siblings, events, &ticket)?;
        }
        Ok(())
    }

    /// Makes a prompt ready. A text that is too long in any case is not even read: that would hold everybody up.
    pub fn prepare(&self, prompt: &Prompt, form: &Form) -> Result<Prepared, Failure> {
        let fits = |text: &str| self.check_length("at least ", text.len() / self.longest);
        prepare(&self.model, prompt, form, fits)
    }

    fn check_length(&self, how: &str, len: usize) -> Result<(), Failure> {
        let context = self.session.context();
        if len < context { Ok(()) } else { Err(too_long(how, len, context)) }
    }

    fn start(
        &mut self,
        start: Start,
        siblings: Vec<Start>,
        events: &mpsc::UnboundedSender<Event>,
        ticket: &Arc<Ticket>,
    ) -> Result<(), Failure> {
        let (constraint, broken) = start.held.map(|held| held.constraint()).unzip();
        let id = self.session.submit_constrained(start.request, constraint).map_err(|e| Failure::refused(&e))?;
        let (choice, events, ticket) = (start.choice, events.clone(), ticket.clone());
        self.jobs.insert(id, Job { choice, events, unsent: 0, broken, siblings, ticket });
        Ok(())
    }

    /// Makes ready what answers are held to.
    fn ready(&mut self, hold: &Hold) -> Result<Rc<Held>, Failure> {
        let grammars = match &mut self.grammars {
            Some(grammars) => grammars,
            none => none.insert(Grammars::new(&self.model.tokenizer).map_err(Failure::internal)?),
        };
        hold.ready(grammars).map(Rc::new).map_err(|e| Failure { param: hold.form.field(), ..Failure::bad(e) })
    }

    /// Ends what nobody waits for any more.
    pub fn cancel_abandoned(&mut self, metrics: &Metrics) {
        let gone: Vec<RequestId> =
            self.jobs.iter().filter(|(_, job)| job.events.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.session.cancel(id);
            self.jobs.remove(&id);
            add(&metrics.cancelled, 1);
        }
        for mut batch in self.batches.extract_if(.., |batch| batch.abandoned()) {
            batch.cancel(&mut self.session);
            add(&metrics.cancelled, 1);
        }
    }

    pub fn fail_all(&mut self, failure: &Failure) {
        for (_, job) in self.jobs.drain() {
            let _ = job.events.send(Event::Failed(failure.clone()));
        }
        self.batches.drain(..).for_each(|batch| batch.fail(failure.clone()));
    }

    /// Lets the session read one step, and hands out what came of it.
    pub fn step(&mut self, metrics: &Metrics) -> firelight::Result<()> {
        if self.busy() {
            self.feed();
            block_on(self.session.step())?;
            self.idle = Instant::now();
        }
        while let Some((id, event)) = self.session.try_next() {
            self.hand_out(id, event, metrics);
        }
        for batch in self.batches.extract_if(.., |batch| batch.over()) {
            add(&metrics.prompt_tokens, batch.tokens() as u64);
            batch.finish();
        }
        metrics.running.store(self.jobs.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn hand_out(&mut self, id: RequestId, event: session::Event, metrics: &Metrics) {
        if let session::Event::Embedding(vector) = event {
            return self.batches.iter_mut().for_each(|batch| batch.take(id, &vector));
        }
        // Cancelled requests say something, too.
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let choice = job.choice;
        // Who does not listen is found by `cancel_abandoned`.
        match event {
            session::Event::Text(text) => {
                let tokens = std::mem::take(&mut job.unsent);
                let _ = job.events.send(Event::Text { choice, text, tokens });
            }
            session::Event::Token { id: token, logprobs } => {
                job.unsent += 1;
                if let Some(logprobs) = logprobs {
                    let tokenizer = &self.model.tokenizer;
                    let describe = |(id, logprob)| Token { bytes: tokenizer.bytes(id, true), logprob };
                    let (token, top) =
                        (describe((token, logprobs.logprob)), logprobs.top.into_iter().map(describe).collect());
                    let _ = job.events.send(Event::Token { choice, token, top });
                }
                self.start_siblings(id);
            }
            session::Event::Begun { reused_tokens } => {
                let _ = job.events.send(Event::Begun { choice, reused: reused_tokens });
            }
            session::Event::Finished { reason, timings } => {
                self.start_siblings(id);
                self.finish(id, reason, timings, metrics);
            }
            _ => {}
        }
    }

    fn start_siblings(&mut self, id: RequestId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.siblings.is_empty()) else { return };
        let (siblings, events, ticket) = (std::mem::take(&mut job.siblings), job.events.clone(), job.ticket.clone());
        for start in siblings {
            if let Err(failure) = self.start(start, Vec::new(), &events, &ticket) {
                let _ = events.send(Event::Failed(failure));
            }
        }
    }

    fn finish(&mut self, id: RequestId, reason: FinishReason, timings: Timings, metrics: &Metrics) {
        let Some(job) = self.jobs.remove(&id) else { return };
        add(&metrics.prompt_tokens, timings.prompt_tokens as u64);
        add(&metrics.reused_tokens, timings.reused_tokens as u64);
        add(&metrics.generated_tokens, timings.generated_tokens as u64);
        add(&metrics.prompt_microseconds, (timings.prompt_seconds * 1e6) as u64);
        add(&metrics.decode_microseconds, (timings.decode_seconds * 1e6) as u64);
        let broken = job.broken.and_then(|broken| broken.take());
        let _ = job.events.send(match broken {
            Some(why) => Event::Failed(Failure::internal(format!("the form could not be held to: {why}"))),
            None => Event::Finished { choice: job.choice, reason, timings },
        });
    }

    /// Begins to embed texts.
    pub fn embed(&mut self, texts: &Texts, reply: Reply, ticket: Ticket, load_seconds: f64) {
        let read = |(i, prompt): (usize, &Prompt)| {
            let tokens = self.text(prompt, texts.truncate);
            tokens.map_err(|failure| match failure.status {
                StatusCode::BAD_REQUEST => Failure::field(format!("input[{i}]"), failure.message),
                _ => failure,
            })
        };
        match texts.prompts.iter().enumerate().map(read).collect() {
            Ok(tokens) => self.batches.push(Batch::new(tokens, reply, ticket, load_seconds)),
            // Who does not listen any more need not be told.
            Err(failure) => drop(reply.send(Err(failure))),
        }
    }

    /// The tokens of a text to be embedded.
    fn text(&self, prompt: &Prompt, truncate: bool) -> Result<Vec<u32>, Failure> {
        let context = self.session.context();
        let mut tokens = match prompt {
            // What is cut is not read, either.
            Prompt::Text(text) if truncate => {
                let end = text.floor_char_boundary(self.longest.saturating_mul(context + 1));
                self.prepare(&Prompt::Text(text[..end].into()), &Form::Free)?.tokens
            }
            prompt => self.prepare(prompt, &Form::Free)?.tokens,
        };
        if truncate {
            tokens.truncate(context);
        }
        match tokens.len() {
            0 => Err(Failure::bad("it is empty")),
            len if len > context => Err(too_long("", len, context)),
            _ => Ok(tokens),
        }
    }

    /// Hands texts to the session: half of its sequences at most, so that an answer that begins finds one, and
    /// conversations keep their cache.
    fn feed(&mut self) {
        let most = (self.session.plan().dispatch_list().capacity.sequences as usize / 2).max(1);
        let mut at = 0;
        while at < self.batches.len() {
            match self.batches[at].feed(&mut self.session, most) {
                Ok(()) => at += 1,
                Err(failure) => {
                    let mut batch = self.batches.remove(at);
                    batch.cancel(&mut self.session);
                    batch.fail(failure);
                }
            }
        }
    }
}

fn too_long(how: &str, len: usize, context: usize) -> Failure {
    let message = format!(
        "the prompt has {how}{len} tokens; the context of this server holds {context} with the answer. Shorten the \
         prompt, or start the server with a larger --context"
    );
    Failure::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message)
}
