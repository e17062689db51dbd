//! The model that is loaded and the answers that it is giving: started, handed out event by event, cancelled when the
//! client disconnects.
//!
//! It knows neither the queue nor which model is loaded when.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use firelight::conversation::{AnswerEnd, AnswerEvent, Prepared, Prompt, ResponseFormat};
use firelight::engine::{AnswerId, AnswerJob, Engine};
use pollster::block_on;
use tokio::sync::mpsc::UnboundedSender;

use super::batch::{Batch, Reply, Texts};
use super::http_error::HttpError;
use super::metrics::{Metrics, add};
use super::protocol::{AnswerHead, AnswerMessage, AnswerSender, Ticket};
use super::request::AnswerRequest;

/// The bytes of text for which a token of a vocabulary of short tokens may stand, such as one for unknown text.
const SHORTEST: usize = 16;

/// An answer that is being generated.
struct Job {
    choice: usize,
    events: UnboundedSender<AnswerMessage>,
    logprobs: bool,
    /// The other answers to the same prompt: they start when this one's prompt is read, and share its cache.
    siblings: Vec<Start>,
    ticket: Arc<Ticket>,
}

/// The first answer to a prompt, and its siblings, which share the prompt.
type Group = (Start, Vec<Start>);

/// An answer to be started.
struct Start {
    choice: usize,
    job: AnswerJob,
}

/// The model that is loaded.
pub struct Worker {
    pub index: usize,
    pub engine: Engine,
    /// Bytes of the longest token.
    longest: usize,
    jobs: HashMap<AnswerId, Job>,
    batches: Vec<Batch>,
    /// Since when it has been idle, and how long it may be.
    pub idle: Instant,
    pub keep: Option<Duration>,
}

impl Worker {
    /// A model that has just been loaded. After `keep` without work it may be unloaded.
    pub fn new(index: usize, engine: Engine, keep: Option<Duration>) -> Self {
        let tokenizer = &engine.model().tokenizer;
        let vocab = 0..tokenizer.vocab_size() as u32;
        let longest = vocab.map(|id| tokenizer.bytes(id, true).len()).max().unwrap_or(0).max(SHORTEST);
        let (jobs, batches) = (HashMap::new(), Vec::new());
        Worker { index, engine, longest, jobs, batches, idle: Instant::now(), keep }
    }

    /// Whether there is anything to do.
    pub fn busy(&self) -> bool {
        !self.jobs.is_empty() || !self.batches.is_empty()
    }

    /// Starts all answers of a request, or refuses it.
    pub fn begin(&mut self, request: AnswerRequest, reply: AnswerSender, ticket: Ticket, load_seconds: f64) {
        match self.accept(&request, load_seconds) {
            Err(failure) => reply.refuse(failure),
            Ok((head, starts)) => {
                let (events, ticket) = (reply.start(head), Arc::new(ticket));
                for (start, siblings) in starts {
                    if let Err(failure) = self.start(start, siblings, &events, &ticket) {
                        let _ = events.send(Err(failure));
                        return;
                    }
                }
            }
        }
    }

    /// Prepares the answers of a request: the first to each prompt, and the others to it.
    fn accept(&mut self, request: &AnswerRequest, load_seconds: f64) -> Result<(AnswerHead, Vec<Group>), HttpError> {
        let prompts: Vec<Prepared> =
            request.prompts.iter().map(|prompt| self.prepare(prompt, &request.format)).collect::<Result<_, _>>()?;
        for prompt in &prompts {
            self.check_length(prompt.tokens.len())?;
        }
        // All prompts of a request have the same rules.
        let rules = prompts.first().and_then(|prompt| prompt.rules.as_ref());
        let invalid = |error| HttpError { param: request.format.field(), ..HttpError::from(error) };
        let grammar = rules.map(|rules| self.engine.compile(rules)).transpose().map_err(invalid)?;
        let head = AnswerHead {
            prompt_tokens: prompts.iter().map(|prompt| prompt.tokens.len()).collect(),
            unenforced: grammar.as_ref().map(|grammar| grammar.unenforced.clone()).unwrap_or_default(),
            changes: prompts.iter().flat_map(|prompt| prompt.changes.clone()).collect(),
            load_seconds,
        };
        let start = |(choice, seed): (usize, u64), prompt: &Prepared| {
            let mut sampling = request.sampling.clone();
            sampling.seed = sampling.seed.wrapping_add(seed);
            let (stop, max_tokens, grammar) = (request.stop.clone(), request.max_tokens, grammar.clone());
            let prompt = prompt.clone();
            Start {
                choice,
                job: AnswerJob::new(prompt).sampling(sampling).stop(stop).max_tokens(max_tokens).grammar(grammar),
            }
        };
        let choices = request.choices;
        let starts = prompts.iter().enumerate().map(|(i, prompt)| {
            let mut group: Vec<Start> = (0..choices).map(|j| start((i * choices + j, j as u64), prompt)).collect();
            (group.remove(0), group)
        });
        Ok((head, starts.collect()))
    }

    /// Prepares a prompt. One that cannot fit even at the longest token length is refused before it is tokenized, which
    /// would delay other requests.
    pub fn prepare(&self, prompt: &Prompt, format: &ResponseFormat) -> Result<Prepared, HttpError> {
        let context = self.context();
        let fits = |text: &str| match text.len() / self.longest {
            least if least < context => Ok(()),
            least => Err(too_long("at least ", least, context)),
        };
        let dated = match prompt {
            Prompt::Conversation(chat) => Prompt::Conversation(chat.clone().date(crate::server::today())),
            other => other.clone(),
        };
        dated.prepare(self.engine.model(), format, fits)
    }

    fn context(&self) -> usize {
        self.engine.session().map_or(0, |session| session.context())
    }

    fn check_length(&self, len: usize) -> Result<(), HttpError> {
        let context = self.context();
        if len < context { Ok(()) } else { Err(too_long("", len, context)) }
    }

    fn start(
        &mut self,
        start: Start,
        siblings: Vec<Start>,
        events: &UnboundedSender<AnswerMessage>,
        ticket: &Arc<Ticket>,
    ) -> Result<(), HttpError> {
        let logprobs = start.job.sampling.logprobs.is_some();
        let id = self.engine.submit(start.job)?;
        let (choice, events, ticket) = (start.choice, events.clone(), ticket.clone());
        self.jobs.insert(id, Job { choice, events, logprobs, siblings, ticket });
        Ok(())
    }

    /// Cancels the requests whose clients have disconnected.
    pub fn cancel_abandoned(&mut self, metrics: &Metrics) {
        let gone: Vec<AnswerId> =
            self.jobs.iter().filter(|(_, job)| job.events.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.engine.cancel(id);
            self.jobs.remove(&id);
            add(&metrics.cancelled, 1);
        }
        for mut batch in self.batches.extract_if(.., |batch| batch.abandoned()) {
            batch.cancel(&mut self.engine);
            add(&metrics.cancelled, 1);
        }
    }

    /// Ends every request with a failure.
    pub fn fail_all(&mut self, failure: &HttpError) {
        for (_, job) in self.jobs.drain() {
            let _ = job.events.send(Err(failure.clone()));
        }
        self.batches.drain(..).for_each(|batch| batch.fail(failure.clone()));
    }

    /// Runs one step, and hands out what came of it.
    pub fn step(&mut self, metrics: &Metrics) -> firelight::Result<()> {
        if self.busy() {
            self.feed();
            block_on(self.engine.step())?;
            self.idle = Instant::now();
        }
        while let Some((id, event)) = self.engine.try_next() {
            self.hand_out(id, event, metrics);
        }
        while let Some((id, vector)) = self.engine.next_embedding() {
            self.batches.iter_mut().for_each(|batch| batch.take(id, &vector));
        }
        for batch in self.batches.extract_if(.., |batch| batch.over()) {
            add(&metrics.prompt_tokens, batch.tokens() as u64);
            batch.finish();
        }
        metrics.running.store(self.jobs.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn hand_out(&mut self, id: AnswerId, event: firelight::Result<AnswerEvent>, metrics: &Metrics) {
        // Cancelled answers have events, too.
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (choice, events, ticket) = (job.choice, job.events.clone(), job.ticket.clone());
        let over = matches!(event, Ok(AnswerEvent::Finished(_)) | Err(_));
        let is_token = matches!(event, Ok(AnswerEvent::Token { .. }));
        let siblings = if over || is_token { std::mem::take(&mut job.siblings) } else { Vec::new() };
        if let Ok(AnswerEvent::Finished(end)) = &event {
            count(end, metrics);
        }
        if !is_token || job.logprobs {
            // A client that has disconnected is found by `cancel_abandoned`.
            let _ = events.send(event.map(|event| (choice, event)).map_err(HttpError::from));
        }
        if over {
            self.jobs.remove(&id);
        }
        for start in siblings {
            if let Err(failure) = self.start(start, Vec::new(), &events, &ticket) {
                let _ = events.send(Err(failure));
            }
        }
    }

    /// Starts to embed texts.
    pub fn embed(&mut self, texts: &Texts, reply: Reply, ticket: Ticket, load_seconds: f64) {
        let read = |(i, prompt): (usize, &Prompt)| {
            let tokens = self.text(prompt, texts.truncate);
            tokens.map_err(|failure| match failure.status {
                StatusCode::BAD_REQUEST => HttpError::field(format!("input[{i}]"), failure.message),
                _ => failure,
            })
        };
        match texts.prompts.iter().enumerate().map(read).collect() {
            Ok(tokens) => self.batches.push(Batch::new(tokens, reply, ticket, load_seconds)),
            // A client that has disconnected need not be told.
            Err(failure) => drop(reply.send(Err(failure))),
        }
    }

    /// The tokens of a text to be embedded.
    fn text(&self, prompt: &Prompt, truncate: bool) -> Result<Vec<u32>, HttpError> {
        let context = self.context();
        let mut tokens = match prompt {
            // What is cut is not tokenized, either.
            Prompt::Text(text) if truncate => {
                let end = text.floor_char_boundary(self.longest.saturating_mul(context + 1));
                self.prepare(&Prompt::Text(text[..end].into()), &ResponseFormat::Text)?.tokens
            }
            prompt => self.prepare(prompt, &ResponseFormat::Text)?.tokens,
        };
        if truncate {
            tokens.truncate(context);
        }
        match tokens.len() {
            0 => Err(HttpError::bad("it is empty")),
            len if len > context => Err(too_long("", len, context)),
            _ => Ok(tokens),
        }
    }

    /// Hands texts to the session: half of its sequences at most, so that an answer that starts finds one, and
    /// conversations keep their cache.
    fn feed(&mut self) {
        let sequences = self.engine.session().map_or(1, |session| session.plan().dispatch_list().capacity.sequences);
        let most = (sequences as usize / 2).max(1);
        let mut at = 0;
        while at < self.batches.len() {
            match self.batches[at].feed(&mut self.engine, most) {
                Ok(()) => at += 1,
                Err(failure) => {
                    let mut batch = self.batches.remove(at);
                    batch.cancel(&mut self.engine);
                    batch.fail(failure);
                }
            }
        }
    }
}

fn count(end: &AnswerEnd, metrics: &Metrics) {
    let timings = &end.timings;
    add(&metrics.prompt_tokens, timings.prompt_tokens as u64);
    add(&metrics.reused_tokens, timings.reused_tokens as u64);
    add(&metrics.generated_tokens, timings.generated_tokens as u64);
    add(&metrics.prompt_microseconds, (timings.prompt_seconds * 1e6) as u64);
    add(&metrics.decode_microseconds, (timings.decode_seconds * 1e6) as u64);
}

fn too_long(how: &str, len: usize, context: usize) -> HttpError {
    let message = format!(
        "the prompt has {how}{len} tokens; the context of this server holds {context} with the answer. Shorten the \
         prompt, or start the server with a larger --context"
    );
    HttpError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message)
}
