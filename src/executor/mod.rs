//! The executor: rows in; sampled tokens, logits or hidden states out. It owns the plan with its memory, the KV cache
//! and the resident experts; requests and text are the session's.
//!
//! A step is a list of [`Row`]s: a chunk of a prompt, one token of each of eight sequences, or both kinds mixed.
//! Sampled tokens stay on the GPU, where the next step reads them, so that several steps can be queued before the first
//! is read.

mod expert_cache;
mod rows;
mod throttle;

use crate::gpu::{Buffer, Clock, Gpu, PendingRead, Submission};
use crate::graph::{StepInput, TensorId};
use crate::kv_cache::KvCache;
use crate::memory_plan::{self, MemoryPlan, SessionOptions};
use crate::model::Model;
use crate::model::load::{self, Progress};
use crate::ops::sample::Params;
use crate::ops::{MAX_ROLLBACK, StepSizes};
use crate::plan::{Plan, PlanMemory, Timing};
use crate::sampler::Sampling;
use crate::{Error, Result};
use expert_cache::ExpertCache;
pub use expert_cache::ExpertReads;
pub use rows::{Row, RowInput};
use throttle::SubmitThrottle;

/// A model on a device, ready to run steps. See the module.
pub struct Executor {
    plan: Plan,
    /// The KV cache of all sequences.
    pub cache: KvCache,
    experts: Option<ExpertCache>,
    throttle: SubmitThrottle,
    /// Steps that may be queued.
    run_ahead: usize,
    /// Buffers for sampled tokens that no step in flight uses.
    staging: Vec<Buffer>,
    /// When the last step was read.
    last_read: Option<Clock>,
    /// The logits and the sampled tokens; a plan without output head has neither.
    head: Option<(TensorId, TensorId)>,
    hidden: TensorId,
    /// The graph's nodes up to the one that makes the hidden states.
    nodes_to_hidden: usize,
    context: usize,
    vocab: usize,
    /// Whether the sampling of each output slot has a filter.
    filtered: Vec<bool>,
    notices: Vec<String>,
}

/// The outputs of a step for its output rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutput {
    /// Tokens that the GPU samples.
    Tokens,
    /// Logits.
    Logits,
    /// Both.
    TokensAndLogits,
    /// Final hidden states, from which logits would be computed. The step ends with them.
    Hidden,
}

/// The outputs of a step, row after row in the order of its output rows; outputs that were not requested are empty.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StepResult {
    /// A token for each output row.
    pub tokens: Vec<u32>,
    /// Logits: (output rows, vocabulary).
    pub logits: Vec<f32>,
    /// Hidden states: (output rows, hidden size).
    pub hidden: Vec<f32>,
}

/// A step that was submitted and not read yet.
pub struct InFlightStep {
    output: StepOutput,
    sizes: StepSizes,
    /// The output slots of the output rows.
    slots: Vec<u32>,
    staging: Buffer,
    progress: StepProgress,
    submitted: Clock,
}

/// The progress of a step in flight.
enum StepProgress {
    /// It runs when it is read, because experts are offloaded.
    Deferred,
    /// Its sampled tokens are copied to the staging buffer.
    Reading(PendingRead),
    /// It has none to copy: the plan has no output head.
    Submitted(Submission),
}

impl InFlightStep {
    /// The outputs that it returns.
    pub fn output(&self) -> StepOutput {
        self.output
    }

    /// Whether other steps may be queued after it: they would overwrite what is read of it, unless that is tokens only.
    pub fn can_be_followed(&self) -> bool {
        self.output == StepOutput::Tokens
    }
}

impl Executor {
    /// Compiles a model for a device and loads its weights.
    ///
    /// # Errors
    /// As [`SessionBuilder::load`](crate::session::SessionBuilder::load).
    pub async fn load(
        gpu: &Gpu,
        model: &Model,
        options: &SessionOptions,
        on_progress: impl FnMut(Progress),
    ) -> Result<Self> {
        let MemoryPlan { dispatch_list, logits, hidden, context, offloaded, notices } =
            memory_plan::plan_memory(model, gpu.caps(), options)?;
        let sources = vec![model.checkpoint.clone()];
        let fill = async |memory: &PlanMemory| load::load(memory, &sources, on_progress).await;
        let plan = Plan::compile_while(gpu, dispatch_list, fill).await?;
        let (graph, capacity) = (&plan.dispatch_list().graph, plan.dispatch_list().capacity);
        let node_of_hidden = graph.nodes.iter().position(|node| node.writes(hidden));
        let run_ahead = options.run_ahead.clamp(1, MAX_RUN_AHEAD) as usize;
        Ok(Executor {
            cache: KvCache::new(&capacity, plan.input(StepInput::SlidingPages).is_some(), graph.recurrent()),
            experts: ExpertCache::new(&plan, sources, offloaded),
            throttle: SubmitThrottle {
                flops_per_row: memory_plan::flops_per_row(graph),
                rows_per_second: None,
                submit_seconds: options.submit_seconds,
                step_seconds: None,
            },
            run_ahead,
            staging: (0..=run_ahead).map(|_| gpu.staging(u64::from(capacity.outputs) * 4)).collect(),
            last_read: None,
            head: logits.zip(plan.input(StepInput::Sampled)),
            hidden,
            nodes_to_hidden: 1 + node_of_hidden.expect("the hidden states are kept"),
            context: context as usize,
            vocab: model.spec.vocab_size as usize,
            filtered: vec![false; capacity.outputs as usize],
            notices,
            plan,
        })
    }

    /// The compiled plan: the dispatches and their memory.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Positions of a sequence, at most.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Rows of a step that can have an output, at most.
    pub fn output_rows(&self) -> usize {
        let capacity = self.plan.dispatch_list().capacity;
        capacity.logits.min(capacity.rows) as usize
    }

    /// Deviations from the requested options, such as a context that was reduced to fit.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// How many experts had to be read from the file, if experts are offloaded.
    pub fn expert_reads(&self) -> Option<ExpertReads> {
        self.experts.as_ref().map(|experts| experts.reads)
    }

    /// Steps that may be in flight before the first is read.
    pub fn queue_depth(&self) -> usize {
        self.throttle.depth(if self.experts.is_some() { 1 } else { self.run_ahead })
    }

    /// Whether steps can return logits and tokens.
    ///
    /// # Errors
    /// [`Error::Usage`] if the plan has no output head ([`SessionOptions::output_head`]).
    pub fn check_head(&self) -> Result<()> {
        let missing = || Error::Usage("the model was opened without its output head: it only embeds texts".into());
        self.head.map(drop).ok_or_else(missing)
    }

    /// Sets how tokens are sampled in an output slot, and the counts of tokens that its penalties begin with: for each
    /// token [`IN_PROMPT`](crate::sampler::IN_PROMPT) if the prompt has it, plus how often it was generated. The GPU
    /// counts what it samples in the slot.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn set_sampling(&mut self, slot: usize, sampling: &Sampling, counts: &[u32]) {
        self.filtered[slot] = sampling.has_filter();
        if !counts.is_empty() {
            let offset = (slot * self.vocab * 4) as u64;
            self.plan.write_input(StepInput::Counts, offset, bytemuck::cast_slice(counts));
        }
        let offset = (slot * size_of::<Params>()) as u64;
        self.plan.write_input(StepInput::Sampling, offset, bytemuck::bytes_of(&Params::from(sampling)));
    }

    /// Sets the vector of an embedding slot: the first layer's input for a row, with the model's scale of embeddings.
    ///
    /// # Panics
    /// If there is no such slot, or the vector has not the model's hidden size.
    pub fn set_embedding(&mut self, slot: u32, vector: &[f32]) {
        let list = self.plan.dispatch_list();
        let size = list.graph.cols(self.hidden);
        assert!(slot < list.capacity.embeddings, "embedding slot {slot} of {}", list.capacity.embeddings);
        assert!(vector.len() == size as usize, "an embedding of {} values, not {size}", vector.len());
        let offset = u64::from(slot) * u64::from(size) * 4;
        self.plan.write_input(StepInput::Embeddings, offset, bytemuck::cast_slice(vector));
    }

    /// Submits a step. Each sequence's rows continue at the position up to which it is cached.
    ///
    /// # Errors
    /// [`Error::Limit`] if the cache has no free page; [`Error::Usage`] if the plan has no head for the output.
    pub fn submit(&mut self, rows: &[Row], output: StepOutput) -> Result<InFlightStep> {
        if output != StepOutput::Hidden {
            self.check_head()?;
        }
        let mut sizes = self.write_tables(rows)?;
        let slots: Vec<u32> = rows.iter().filter_map(|row| row.output).collect();
        if matches!(output, StepOutput::Tokens | StepOutput::TokensAndLogits) && !slots.is_empty() {
            let filtered = slots.iter().any(|slot| self.filtered[*slot as usize]);
            (sizes.sampled, sizes.filtered) = (1, filtered.into());
        }
        let (plan, words) = (&self.plan, self.filtered.len() as u64);
        let staging = self.staging.pop().unwrap_or_else(|| plan.gpu().staging(words * 4));
        let progress = match self.experts {
            Some(_) => StepProgress::Deferred,
            None => {
                let submits = if sizes.rows > self.decode_rows() { self.throttle.submits(sizes.rows) } else { 1 };
                let (end, copy) = (self.end(output), self.copy_to(&staging));
                self.submitted(self.plan.submit_nodes(0..end, &sizes, submits, copy), &staging)
            }
        };
        Ok(InFlightStep { output, sizes, slots, staging, progress, submitted: Clock::now() })
    }

    fn copy_to<'a>(&self, staging: &'a Buffer) -> Option<(TensorId, &'a Buffer)> {
        self.head.map(|(_, sampled)| (sampled, staging))
    }

    fn submitted(&self, submission: Submission, staging: &Buffer) -> StepProgress {
        match self.head {
            Some(_) => StepProgress::Reading(self.plan.gpu().map_staging(staging, submission)),
            None => StepProgress::Submitted(submission),
        }
    }

    /// The node at which a step ends.
    fn end(&self, output: StepOutput) -> usize {
        if output == StepOutput::Hidden { self.nodes_to_hidden } else { usize::MAX }
    }

    /// Waits for a step and returns its outputs.
    ///
    /// # Errors
    /// If the device is lost.
    pub async fn read(&mut self, step: InFlightStep) -> Result<StepResult> {
        let InFlightStep { output, sizes, slots, staging, mut progress, submitted } = step;
        let (end, copy) = (self.end(output), self.copy_to(&staging));
        if let (StepProgress::Deferred, Some(experts)) = (&progress, &mut self.experts) {
            let submission = experts.run(&self.plan, &sizes, end, copy).await?;
            progress = self.submitted(submission, &staging);
        }
        let bytes = match progress {
            StepProgress::Reading(pending) => pending.bytes(self.plan.gpu()).await?,
            StepProgress::Submitted(submission) => {
                self.plan.gpu().wait(submission).await?;
                Vec::new()
            }
            StepProgress::Deferred => unreachable!("only offloaded experts defer a step"),
        };
        self.staging.push(staging);
        let since_last = self.last_read.replace(Clock::now()).map_or(f64::MAX, |last| last.seconds());
        let prefill = (sizes.rows > self.decode_rows()).then_some(sizes.rows);
        self.throttle.measured(submitted.seconds().min(since_last), prefill, submitted.seconds());
        let mut result = StepResult::default();
        if sizes.sampled > 0 {
            let sampled: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            result.tokens = slots.iter().map(|slot| sampled[*slot as usize]).collect();
        }
        match (output, self.head) {
            (StepOutput::Logits | StepOutput::TokensAndLogits, Some((logits, _))) => {
                result.logits = self.read_rows(logits, sizes.logits).await?;
            }
            (StepOutput::Hidden, _) => result.hidden = self.read_rows(self.hidden, sizes.logits).await?,
            _ => {}
        }
        Ok(result)
    }

    async fn read_rows(&self, tensor: TensorId, rows: u32) -> Result<Vec<f32>> {
        let bytes = u64::from(rows) * u64::from(self.plan.dispatch_list().graph.cols(tensor)) * 4;
        Ok(bytemuck::pod_collect_to_vec(&self.plan.read(tensor, bytes).await?))
    }

    /// Submits a step and waits for it.
    ///
    /// # Errors
    /// As [`Executor::submit`] and [`Executor::read`].
    pub async fn run(&mut self, rows: &[Row], output: StepOutput) -> Result<StepResult> {
        let step = self.submit(rows, output)?;
        self.read(step).await
    }

    /// Times each dispatch of a step of `rows` rows of sequence 0, which loses its cache, from `position` on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without timestamps; [`Error::Usage`] if the step exceeds the context.
    pub async fn profile(&mut self, rows: usize, position: usize) -> Result<Vec<Timing>> {
        if rows == 0 || position + rows > self.context {
            return Err(Error::Usage(format!("cannot profile {rows} rows at position {position}")));
        }
        self.cache.clear(0);
        let mut table: Vec<Row> =
            (position..position + rows).map(|at| Row::new(RowInput::Token(0), at as u32, 0)).collect();
        table[rows - 1].output = Some(0);
        let mut sizes = self.write_tables(&table)?;
        sizes.sampled = self.head.is_some().into();
        self.plan.profile(&sizes).await
    }

    /// Up to this many rows a step is a decode.
    fn decode_rows(&self) -> u32 {
        self.plan.dispatch_list().capacity.decode_rows()
    }
}

/// Steps that may be queued, at most: an answer that ends in the first of them has to roll the others back.
const MAX_RUN_AHEAD: u32 = MAX_ROLLBACK;
