//! The engine: one model on one device, many sequences. Prefill, decode, stream, stop.
//!
//! A step is a list of rows {token, position, sequence}; a chunk of a prompt and one token of eight conversations are
//! the same thing with other rows. Sampled tokens stay on the GPU, so up to `run_ahead` steps are queued before the
//! first is read; what they wrote behind the end of an answer is dropped by not counting it. Text comes out as
//! [`Event`]s. Everything here is driven by [`Session::next`]; there are no threads and nothing blocks.

mod builder;
mod embedding;
mod event;
mod experts;
mod forward;
mod generation;
mod near;
mod pace;
mod pages;
mod queue;
mod sequence;
mod state;
mod tables;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::gpu::{Buffer, Clock, Gpu, PendingRead, Submission};
use crate::graph::{LAST_SAMPLED, StepInput, TensorId};
use crate::model::{Model, load};
use crate::ops::{MAX_ROLLBACK, StepSizes};
use crate::plan::{Plan, PlanMemory};
use crate::sampler::TokenLogprobs;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result, memory_plan};
use experts::Experts;
use near::Near;
use pace::Pace;
use pages::{Pages, Pools};
use queue::Waiting;
use sequence::{Job, Sequence};
use state::State;
use tables::Row;

pub use crate::memory_plan::SessionOptions;
pub use builder::SessionBuilder;
pub use event::{Constraint, Event, FinishReason, Request, RequestId, Timings};
pub use experts::ExpertReads;
pub use generation::Generation;

/// More steps than this are never queued: behind a slow device they would only delay the end of an answer.
const MOST_AHEAD: u32 = MAX_ROLLBACK;

/// A step on its way.
struct Flight {
    /// The reading of its result; none yet of a step that stops for experts, which runs when it is its turn to be read.
    reading: Option<PendingRead>,
    staging: usize,
    /// Sequence and request of each row of which something is wanted.
    tokens: Vec<(usize, RequestId)>,
    wanted: Wanted,
    sizes: StepSizes,
    submitted: Clock,
}

/// What is read of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Tokens that the GPU chose.
    Tokens,
    /// Logits, because the CPU chooses some token.
    Logits,
    /// Hidden states; the step ends with them.
    Hidden,
}

/// One model on one device. See the module.
pub struct Session {
    plan: Plan,
    tokenizer: Arc<Tokenizer>,
    options: SessionOptions,
    context: usize,
    vocab: usize,
    logits: TensorId,
    hidden: TensorId,
    /// The graph's nodes up to the one that makes the hidden states.
    until_hidden: usize,
    embeds_last: bool,
    sampled: TensorId,
    sequences: Vec<Sequence>,
    pools: Pools,
    experts: Option<Experts>,
    staging: Vec<Buffer>,
    flights: VecDeque<Flight>,
    waiting: VecDeque<Waiting>,
    events: VecDeque<(RequestId, Event)>,
    next_id: RequestId,
    /// Whose prompt the last chunk was of, and whether that was the last step: prompts take turns, with each other and
    /// with the answers.
    last_prefill: usize,
    prefilled: bool,
    pace: Pace,
    /// When the last step was read.
    landed: Option<Clock>,
    notices: Vec<String>,
}

impl Session {
    /// A session of `model` on `gpu`, with the default options unless the builder gets others:
    /// `Session::builder(&gpu, &model).context(8192).load().await`.
    pub fn builder<'a>(gpu: &'a Gpu, model: &'a Model) -> SessionBuilder<'a> {
        SessionBuilder { gpu, model, options: SessionOptions::default(), on_progress: Box::new(|_| {}) }
    }

    async fn load(SessionBuilder { gpu, model, options, on_progress }: SessionBuilder<'_>) -> Result<Self> {
        let fitted = memory_plan::plan_memory(model, gpu.caps(), &options)?;
        let fill = async |memory: &PlanMemory| load::load(memory, &model.checkpoint, on_progress).await;
        let plan = Plan::compile_while(gpu, fitted.dispatch_list, fill).await?;
        let (capacity, recurrent) = (plan.dispatch_list().capacity, plan.dispatch_list().graph.recurrent());
        let near = capacity.sliding.filter(|_| plan.input(StepInput::SlidingPages).is_some());
        let sampled = plan.input(StepInput::Sampled).expect("every decoder samples");
        let nodes = &plan.dispatch_list().graph.nodes;
        let until_hidden = 1 + nodes.iter().position(|n| n.outputs.contains(&fitted.hidden)).expect("it is kept");
        let staging = (0..options.run_ahead.clamp(1, MOST_AHEAD) + 1)
            .map(|_| gpu.staging(u64::from(capacity.sequences) * 4))
            .collect();
        Ok(Session {
            tokenizer: model.tokenizer.clone(),
            context: fitted.context as usize,
            vocab: model.spec.vocab_size as usize,
            logits: fitted.logits,
            hidden: fitted.hidden,
            until_hidden,
            embeds_last: embedding::takes_last(model)?,
            sampled,
            sequences: (0..capacity.sequences)
                .map(|_| Sequence {
                    near: near.map(|near| Near::new(near.window)),
                    state: recurrent.then(State::default),
                    ..Default::default()
                })
                .collect(),
            pools: Pools { all: Pages::new(capacity.pages), near: Pages::new(near.map_or(0, |near| near.pages)) },
            experts: Experts::new(&plan, &model.checkpoint, fitted.offloaded),
            staging,
            flights: VecDeque::new(),
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            next_id: 0,
            last_prefill: 0,
            prefilled: false,
            landed: None,
            pace: Pace {
                flops_a_row: memory_plan::flops_per_row(&plan.dispatch_list().graph),
                rows_a_second: None,
                submit_seconds: options.submit_seconds,
                step_seconds: None,
            },
            notices: fitted.notices,
            options,
            plan,
        })
    }

    /// Positions that a sequence may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The compiled plan: what is dispatched, and where the bytes are.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How often experts had to be read from the file, if there is not room for all.
    pub fn expert_reads(&self) -> Option<ExpertReads> {
        self.experts.as_ref().map(|experts| experts.reads)
    }

    /// What the user should know, such as a context that was made smaller to fit.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Queues a request; [`Session::next`] answers it.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the prompt leaves no room for an answer (a prompt is never truncated); [`Error::Usage`] if it is
    /// empty, holds unknown ids, or the sampling makes no sense.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        self.submit_constrained(request, None)
    }

    /// As [`Session::submit`]; `constraint` has a say in every token. Such tokens are chosen on the CPU.
    ///
    /// # Errors
    /// As [`Session::submit`].
    pub fn submit_constrained(&mut self, request: Request, constraint: Option<Constraint>) -> Result<RequestId> {
        request.sampling.check()?;
        self.check_tokens(&request.tokens)?;
        let len = request.tokens.len();
        if request.answered >= len {
            return Err(Error::Usage(format!("{} tokens of {len} cannot be the answer already", request.answered)));
        }
        // An answer that goes on may have come to the last position.
        if len >= self.context + usize::from(request.answered > 0) {
            return Err(Error::ContextFull { tokens: len, context: self.context });
        }
        self.next_id += 1;
        let nothing = request.max_tokens == Some(0);
        let job = Job::new(self.next_id, request, constraint, self.tokenizer.stream().continuing());
        if nothing {
            let begun = Event::Begun { reused_tokens: 0 };
            let events = [begun].into_iter().chain(job.finish(FinishReason::MaxTokens, 0));
            self.events.extend(events.map(|event| (self.next_id, event)));
        } else {
            self.waiting.push_back(Waiting::Answer(Box::new(job)));
        }
        Ok(self.next_id)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::Usage("the prompt is empty: there is nothing to continue".into()));
        }
        match tokens.iter().find(|t| **t as usize >= self.vocab) {
            Some(t) => Err(Error::Usage(format!("token {t} is not below the vocabulary's size, {}", self.vocab))),
            None => Ok(()),
        }
    }

    /// Ends a request; an answer's last event says so.
    pub fn cancel(&mut self, id: RequestId) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id() == id)
            && let Some(Waiting::Answer(job)) = self.waiting.remove(at)
        {
            self.events.extend(job.finish(FinishReason::Cancelled, 0).into_iter().map(|e| (id, e)));
        }
        if let Some(at) = self.sequences.iter().position(|s| s.embedding.as_ref().is_some_and(|e| e.id == id)) {
            self.stop_embedding(at);
        }
        if let Some(at) = self.sequences.iter().position(|s| s.job.as_ref().is_some_and(|j| j.id == id)) {
            self.finish(at, FinishReason::Cancelled);
        }
    }

    /// The next event of any request; `None` when all are answered.
    ///
    /// # Errors
    /// If the device is lost. The session is then of no more use.
    pub async fn next(&mut self) -> Result<Option<(RequestId, Event)>> {
        loop {
            if let Some(event) = self.try_next() {
                return Ok(Some(event));
            }
            if !self.step().await? {
                return Ok(None);
            }
        }
    }

    /// The next event that is ready now.
    pub fn try_next(&mut self) -> Option<(RequestId, Event)> {
        self.events.pop_front()
    }

    /// Submits the steps that may be queued and waits for one, so that a caller can do other things between the chunks of a
    /// long prompt. Returns whether work is left; [`Session::try_next`] returns the events.
    ///
    /// # Errors
    /// As [`Session::next`].
    pub async fn step(&mut self) -> Result<bool> {
        self.start_waiting()?;
        while self.may_submit() && self.submit_step()? {}
        match self.flights.pop_front() {
            Some(flight) => self.land(flight).await?,
            None => return Ok(!self.events.is_empty() || !self.waiting.is_empty()),
        }
        Ok(true)
    }

    fn write_pages(&self, at: usize) {
        let stride = self.plan.dispatch_list().capacity.pages_per_sequence as usize;
        let (offset, sequence) = ((at * stride * 4) as u64, &self.sequences[at]);
        self.plan.write_input(StepInput::Pages, offset, bytemuck::cast_slice(&sequence.pages));
        if let Some(near) = &sequence.near {
            self.plan.write_input(StepInput::SlidingPages, offset, bytemuck::cast_slice(&near.table()));
        }
    }

    /// Whether another step may be queued. Not behind one of which more than tokens is read: it would overwrite that.
    fn may_submit(&self) -> bool {
        let most = if self.experts.is_some() { 1 } else { self.options.run_ahead.clamp(1, MOST_AHEAD) as usize };
        self.flights.len() < self.pace.depth(most) && self.flights.iter().all(|f| f.wanted == Wanted::Tokens)
    }

    /// Submits the next step, if there is one to be made: a chunk of a prompt, or of texts to be embedded, and a token of
    /// all answers in turn.
    fn submit_step(&mut self) -> Result<bool> {
        if std::mem::take(&mut self.prefilled) && self.step_decode()? {
            return Ok(true);
        }
        let count = self.sequences.len();
        let in_turn = (1..=count).map(|i| (self.last_prefill + i) % count);
        let reads = |s: &Sequence| s.reads_prompt() || s.reads_embedding();
        match in_turn.into_iter().find(|at| reads(&self.sequences[*at])) {
            Some(at) => {
                (self.last_prefill, self.prefilled) = (at, true);
                if self.sequences[at].reads_embedding() { self.step_embedding(at) } else { self.step_prefill(at) }
            }
            None => self.step_decode(),
        }
    }

    /// A chunk of one sequence's prompt.
    fn step_prefill(&mut self, at: usize) -> Result<bool> {
        let chunk = self.options.chunk as usize;
        let start = self.sequences[at].cached;
        let mut end = self.sequences[at].tokens.len().min(start + chunk);
        let stop = State::stop(self.sequences[at].tokens.len());
        let keeps = (start + 1..=end).contains(&stop);
        if keeps && self.sequences[at].state.is_some() {
            end = stop;
        }
        self.reserve(at, start..end)?;
        let sequence = &mut self.sequences[at];
        let rows: Vec<Row> =
            (start..end).map(|p| Row { token: sequence.tokens[p], position: p, sequence: at }).collect();
        sequence.cached = end;
        let last = end == sequence.tokens.len();
        if let (true, Some(job)) = (last, &mut sequence.job) {
            job.ahead += 1;
        }
        let wants = if last { vec![rows.len() - 1] } else { vec![] };
        self.send(&rows, &wants, Wanted::Tokens);
        if keeps {
            self.sequences[at].keep(stop);
        }
        Ok(true)
    }

    /// One token for every sequence that can have one.
    fn step_decode(&mut self) -> Result<bool> {
        let mut rows = Vec::new();
        for at in 0..self.sequences.len() {
            let s = &self.sequences[at];
            let Some(job) = s.job.as_ref().filter(|_| !s.reads_prompt()) else { continue };
            let generated = s.tokens.len() - job.prompt;
            let position = s.tokens.len() + job.ahead;
            let room = position <= self.context
                && job.request.max_tokens.is_none_or(|max| generated + job.ahead < max)
                && !(job.on_cpu && job.ahead > 0);
            // The token at the last position is known, or it is the one sampled last.
            let token = if job.ahead == 0 { s.tokens[position - 1] } else { LAST_SAMPLED };
            if !room {
                continue;
            }
            self.reserve(at, position - 1..position)?;
            let sequence = &mut self.sequences[at];
            sequence.cached = position;
            if let Some(job) = &mut sequence.job {
                job.ahead += 1;
            }
            rows.push(Row { token, position: position - 1, sequence: at });
        }
        if rows.is_empty() {
            return Ok(false);
        }
        let wants: Vec<usize> = (0..rows.len()).collect();
        self.send(&rows, &wants, Wanted::Tokens);
        Ok(true)
    }

    fn reserve(&mut self, at: usize, positions: Range<usize>) -> Result<()> {
        match self.sequences[at].reserve(positions, &mut self.pools) {
            Some(true) => self.write_pages(at),
            Some(false) => {}
            None => {
                return Err(Error::Limit("the KV cache has no free page; use fewer sequences at once".into()));
            }
        }
        Ok(())
    }

    fn decode_rows(&self) -> u32 {
        self.plan.dispatch_list().capacity.decode_rows()
    }

    /// Writes the tables of a step and submits it; the rows `wants` are those of which something is wanted: tokens (or
    /// logits, where a job wants these), or hidden states.
    fn send(&mut self, rows: &[Row], wants: &[usize], wanted: Wanted) {
        let sequences: Vec<usize> = wants.iter().map(|row| rows[*row].sequence).collect();
        let jobs: Vec<&Job> = sequences.iter().filter_map(|at| self.sequences[*at].job.as_ref()).collect();
        let on_gpu = jobs.iter().any(|job| !job.on_cpu);
        let filtered = jobs.iter().any(|job| job.request.sampling.has_filter());
        let wanted = if jobs.iter().any(|job| job.on_cpu) { Wanted::Logits } else { wanted };
        let with_id = |at: usize| self.sequences[at].request_id().map(|id| (at, id));
        let tokens = sequences.iter().filter_map(|at| with_id(*at)).collect();
        let mut sizes = self.write_tables(rows, wants);
        sizes.sampled = on_gpu.into();
        sizes.filtered = (on_gpu && filtered).into();
        let busy: Vec<usize> = self.flights.iter().map(|f| f.staging).collect();
        let staging = (0..self.staging.len()).find(|i| !busy.contains(i)).expect("one more than flights");
        let reading = self.experts.is_none().then(|| {
            let segments = if sizes.rows > self.decode_rows() { self.pace.segments(sizes.rows) } else { 1 };
            let copy = Some((self.sampled, &self.staging[staging]));
            let submission = self.plan.submit_nodes(0..self.end(wanted), &sizes, segments, copy);
            self.plan.gpu().map_staging(&self.staging[staging], submission)
        });
        let submitted = Clock::now();
        self.flights.push_back(Flight { reading, staging, tokens, wanted, sizes, submitted });
    }

    /// Behind the last node of the graph that a step runs.
    fn end(&self, wanted: Wanted) -> usize {
        if wanted == Wanted::Hidden { self.until_hidden } else { usize::MAX }
    }

    /// Runs a step up to node `end` that may have to stop for experts.
    async fn run(&mut self, sizes: &StepSizes, end: usize, copy: Option<(TensorId, &Buffer)>) -> Result<Submission> {
        match &mut self.experts {
            Some(experts) => experts.run(&self.plan, sizes, end, copy).await,
            None => Ok(self.plan.submit_nodes(0..end, sizes, self.pace.segments(sizes.rows), copy)),
        }
    }

    /// Reads a step's tokens.
    async fn land(&mut self, flight: Flight) -> Result<()> {
        let reading = match flight.reading {
            Some(reading) => reading,
            None => {
                let staging = self.staging[flight.staging].clone();
                let end = self.end(flight.wanted);
                let submission = self.run(&flight.sizes, end, Some((self.sampled, &staging))).await?;
                self.plan.gpu().map_staging(&staging, submission)
            }
        };
        let bytes = reading.bytes(self.plan.gpu()).await?;
        let since_last = self.landed.replace(Clock::now()).map_or(f64::MAX, |landed| landed.seconds());
        self.pace.step_seconds = Some(flight.submitted.seconds().min(since_last));
        if flight.sizes.rows > self.decode_rows() {
            let rate = f64::from(flight.sizes.rows) / flight.submitted.seconds().max(1e-6);
            self.pace.rows_a_second = Some(self.pace.rows_a_second.map_or(rate, |old| rate.max(old)));
        }
        if flight.wanted == Wanted::Hidden {
            return self.land_embedding(flight.tokens).await;
        }
        let sampled: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        let logits: Vec<f32> = match flight.wanted == Wanted::Logits {
            true => {
                let size = flight.tokens.len() * self.vocab * 4;
                bytemuck::pod_collect_to_vec(&self.plan.read(self.logits, size as u64).await?)
            }
            false => Vec::new(),
        };
        for (i, (at, id)) in flight.tokens.into_iter().enumerate() {
            let Sequence { tokens, job, .. } = &mut self.sequences[at];
            let Some(job) = job else { continue };
            if job.id != id {
                continue;
            }
            job.ahead -= 1;
            if !job.on_cpu {
                self.accept(at, sampled[at], None);
                continue;
            }
            let row = &logits[i * self.vocab..(i + 1) * self.vocab];
            match job.choose(row, tokens) {
                Some((token, logprobs)) => self.accept(at, token, logprobs),
                None => self.finish(at, FinishReason::End),
            }
        }
        Ok(())
    }

    /// Takes in a sequence's next token.
    fn accept(&mut self, at: usize, token: u32, logprobs: Option<TokenLogprobs>) {
        let sequence = &mut self.sequences[at];
        let Some(job) = &mut sequence.job else { return };
        let id = job.id;
        job.note_token();
        sequence.tokens.push(token);
        if self.tokenizer.is_end(token) && !job.request.ignore_end {
            return self.finish(at, FinishReason::End);
        }
        self.events.push_back((id, Event::Token { id: token, logprobs }));
        let (text, stop) = job.text(token);
        if !text.is_empty() {
            self.events.push_back((id, Event::Text(text)));
        }
        let generated = sequence.tokens.len() - job.prompt;
        let full = if job.request.max_tokens.is_some_and(|max| generated >= max) {
            Some(FinishReason::MaxTokens)
        } else {
            (sequence.tokens.len() > self.context).then_some(FinishReason::ContextFull)
        };
        if let Some(stop) = stop {
            self.finish(at, FinishReason::StopString(stop));
        } else if let Some(full) = full {
            let complete = job.allowed(&sequence.tokens).is_some_and(|mask| mask.iter().all(|word| *word == 0));
            self.finish(at, if complete { FinishReason::End } else { full });
        }
    }

    /// Ends a sequence's request. Its tokens stay, for the next request to begin with; steps on their way are void.
    fn finish(&mut self, at: usize, reason: FinishReason) {
        let sequence = &mut self.sequences[at];
        let Some(job) = sequence.job.take() else { return };
        let (id, generated) = (job.id, sequence.tokens.len() - job.prompt);
        self.events.extend(job.finish(reason, generated).into_iter().map(|e| (id, e)));
        let known = sequence.tokens.len().saturating_sub(1).min(sequence.cached);
        sequence.truncate(known, &mut self.pools);
    }
}
