//! The engine: requests in, events out, over one model on one device and many sequences.
//!
//! A request waits until the scheduler gives it a sequence. Its prompt is prefilled in chunks, then it decodes a
//! token a step together with the other answers. The [executor](crate::executor) runs steps, of which up to `run_ahead`
//! are queued before the first is read; what they computed after the end of an answer is rolled back in the [KV
//! cache](crate::kv_cache). `generation` turns an answer's tokens into events. [`Session::next`] drives everything;
//! there are no threads, and nothing blocks.

mod builder;
mod embedding;
mod event;
mod generation;
mod logits;
mod scheduler;
mod stop_strings;
mod stream;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::executor::{Executor, InFlightStep, StepOutput};
use crate::gpu::Gpu;
use crate::model::Model;
use crate::plan::Plan;
use crate::sampler::TokenLogprobs;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use embedding::Pooling;
use generation::Answer;
use scheduler::{Scheduler, StepPlan, Task};

pub use crate::executor::ExpertReads;
pub use crate::memory_plan::SessionOptions;
pub use builder::SessionBuilder;
pub use event::{Constraint, Event, FinishReason, Request, RequestId, Timings};
pub use stream::Generation;

/// One model on one device. See the module.
pub struct Session {
    executor: Executor,
    scheduler: Scheduler,
    tokenizer: Arc<Tokenizer>,
    pooling: Pooling,
    /// Steps in flight, each with the sequence and request of its output rows.
    in_flight: VecDeque<(InFlightStep, Vec<(usize, RequestId)>)>,
    events: VecDeque<(RequestId, Event)>,
    last_id: RequestId,
}

impl Session {
    /// A session of `model` on `gpu`, with the default options unless the builder gets others:
    /// `Session::builder(&gpu, &model).context(8192).load().await`.
    pub fn builder<'a>(gpu: &'a Gpu, model: &'a Model) -> SessionBuilder<'a> {
        SessionBuilder { gpu, model, options: SessionOptions::default(), on_progress: Box::new(|_| {}) }
    }

    async fn load(SessionBuilder { gpu, model, options, on_progress }: SessionBuilder<'_>) -> Result<Self> {
        let executor = Executor::load(gpu, model, &options, on_progress).await?;
        let sequences = executor.plan().dispatch_list().capacity.sequences as usize;
        let scheduler = Scheduler::new(sequences, options.chunk as usize, executor.output_rows(), executor.context());
        Ok(Session {
            executor,
            scheduler,
            tokenizer: model.tokenizer.clone(),
            pooling: Pooling::of(model)?,
            in_flight: VecDeque::new(),
            events: VecDeque::new(),
            last_id: 0,
        })
    }

    /// Positions of a sequence, at most.
    pub fn context(&self) -> usize {
        self.executor.context()
    }

    /// The compiled plan: the dispatches and their memory.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }

    /// How many experts had to be read from the file, if experts are offloaded.
    pub fn expert_reads(&self) -> Option<ExpertReads> {
        self.executor.expert_reads()
    }

    /// Deviations from the requested options, such as a context that was reduced to fit.
    pub fn notices(&self) -> &[String] {
        self.executor.notices()
    }

    /// Queues a request; [`Session::next`] returns its events.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the prompt leaves no room for an answer (a prompt is never truncated);
    /// [`Error::Usage`] if it is empty, holds unknown ids, or the sampling makes no sense.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        self.submit_constrained(request, None)
    }

    /// As [`Session::submit`]; `constraint` says which tokens are allowed. They are sampled on the CPU.
    ///
    /// # Errors
    /// As [`Session::submit`].
    pub fn submit_constrained(&mut self, request: Request, constraint: Option<Constraint>) -> Result<RequestId> {
        request.sampling.check()?;
        self.executor.check_head()?;
        self.check_tokens(&request.tokens)?;
        let (tokens, context) = (request.tokens.len(), self.context());
        if request.answered >= tokens {
            return Err(Error::Usage(format!("{} tokens of {tokens} cannot be the answer already", request.answered)));
        }
        // A resumed answer may have come to the last position.
        if tokens >= context + usize::from(request.answered > 0) {
            return Err(Error::ContextFull { tokens, context });
        }
        let id = self.next_id();
        let nothing = request.max_tokens == Some(0);
        let answer = Answer::new(id, request, constraint, self.tokenizer.stream().continuing());
        if nothing {
            self.events.push_back((id, Event::Begun { reused_tokens: 0 }));
            self.emit(id, answer.finish(FinishReason::MaxTokens, 0));
        } else {
            self.scheduler.enqueue(Task::Answer(Box::new(answer)));
        }
        Ok(id)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::Usage("the prompt is empty: there is nothing to continue".into()));
        }
        let vocab = self.executor.vocab();
        match tokens.iter().find(|token| **token as usize >= vocab) {
            Some(token) => Err(Error::Usage(format!("token {token} is not below the vocabulary's size, {vocab}"))),
            None => Ok(()),
        }
    }

    fn next_id(&mut self) -> RequestId {
        self.last_id += 1;
        self.last_id
    }

    fn emit(&mut self, id: RequestId, events: Vec<Event>) {
        self.events.extend(events.into_iter().map(|event| (id, event)));
    }

    /// Ends a request; an answer's last event says so.
    pub fn cancel(&mut self, id: RequestId) {
        if let Some(Task::Answer(answer)) = self.scheduler.take_waiting(id) {
            self.emit(id, answer.finish(FinishReason::Cancelled, 0));
        }
        if let Some(sequence) = self.scheduler.sequence_of(id) {
            self.finish(sequence, FinishReason::Cancelled);
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

    /// Submits the steps that may be queued and waits for one, so that a caller can do other things between the chunks
    /// of a long prompt. Returns whether work is left; [`Session::try_next`] returns the events.
    ///
    /// # Errors
    /// As [`Session::next`].
    pub async fn step(&mut self) -> Result<bool> {
        while let Some(sequence) = self.scheduler.admit(&mut self.executor.cache) {
            self.begin(sequence);
        }
        while self.in_flight.len() < self.executor.queue_depth()
            && self.in_flight.iter().all(|(step, _)| step.can_be_followed())
            && let Some(StepPlan { rows, output, tickets }) = self.scheduler.next_step(&self.executor.cache)
        {
            self.in_flight.push_back((self.executor.submit(&rows, output)?, tickets));
        }
        let Some((step, tickets)) = self.in_flight.pop_front() else {
            return Ok(!self.events.is_empty() || self.scheduler.has_waiting());
        };
        let output = step.output();
        let result = self.executor.read(step).await?;
        match output {
            StepOutput::Hidden => self.take_hidden(tickets, &result.hidden),
            _ => self.take_tokens(tickets, &result.tokens, &result.logits),
        }
        Ok(true)
    }

    /// Begins the answer of a sequence that was just admitted.
    fn begin(&mut self, sequence: usize) {
        let Some(Task::Answer(answer)) = self.scheduler.task(sequence) else { return };
        self.events.push_back((answer.id, Event::Begun { reused_tokens: answer.reused }));
        let (sampling, counts) = answer.begin(self.executor.cache.tokens(sequence), self.executor.vocab());
        self.executor.set_sampling(sequence, sampling, counts);
    }

    /// Takes in a step's tokens; of answers that the CPU samples, its logits.
    fn take_tokens(&mut self, tickets: Vec<(usize, RequestId)>, tokens: &[u32], logits: &[f32]) {
        let vocab = self.executor.vocab();
        for (i, (sequence, id)) in tickets.into_iter().enumerate() {
            let Some(Task::Answer(answer)) = self.scheduler.task(sequence) else { continue };
            if answer.id != id {
                continue;
            }
            answer.in_flight -= 1;
            let sampled = match answer.on_cpu {
                true => answer.sample(&logits[i * vocab..][..vocab], self.executor.cache.tokens(sequence)),
                false => Some((tokens[i], None)),
            };
            match sampled {
                Some((token, logprobs)) => self.accept(sequence, token, logprobs),
                None => self.finish(sequence, FinishReason::End),
            }
        }
    }

    /// Appends a token to a sequence's answer.
    fn accept(&mut self, sequence: usize, token: u32, logprobs: Option<TokenLogprobs>) {
        self.executor.cache.push_token(sequence, token);
        let Some(Task::Answer(answer)) = self.scheduler.task(sequence) else { return };
        let (id, tokens) = (answer.id, self.executor.cache.tokens(sequence));
        let (events, reason) = answer.accept(tokens, logprobs, &self.tokenizer, self.executor.context());
        self.emit(id, events);
        if let Some(reason) = reason {
            self.finish(sequence, reason);
        }
    }

    /// Ends a sequence's task. The tokens of an answer stay cached for later requests; steps in flight are discarded.
    fn finish(&mut self, sequence: usize, reason: FinishReason) {
        match self.scheduler.take(sequence) {
            Some(Task::Answer(answer)) => {
                let (id, known) = (answer.id, self.executor.cache.tokens(sequence).len());
                self.emit(id, answer.finish(reason, known));
                self.executor.cache.roll_back(sequence);
            }
            Some(Task::Embedding(_)) => self.executor.cache.clear(sequence),
            None => {}
        }
    }
}
