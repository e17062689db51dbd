//! The scheduler: which request gets a sequence, and which rows go into the next step (continuous batching). Prefills
//! take turns with each other and with decodes; a decode step has a row for every answer that can take one. A sequence
//! samples in the output slot of its number.

use std::collections::VecDeque;

use super::RequestId;
use super::embedding::TextEmbedding;
use super::generation::Answer;
use crate::executor::{Row, RowInput, StepOutput};
use crate::kv_cache::KvCache;

/// Requests, running and waiting. See the module.
pub struct Scheduler {
    /// The task of each sequence.
    running: Vec<Option<Task>>,
    waiting: VecDeque<Task>,
    /// Rows of a prefill step.
    chunk: usize,
    /// Output rows of a step, at most.
    output_rows: usize,
    /// Positions of a sequence, at most.
    context: usize,
    /// The sequence of the last prefill, and whether that was the last step.
    last_prefill: usize,
    prefilled: bool,
}

/// A request.
pub enum Task {
    /// It generates an answer.
    Answer(Box<Answer>),
    /// It embeds a text.
    Embedding(TextEmbedding),
}

/// A step to submit.
pub struct StepPlan {
    /// Its rows.
    pub rows: Vec<Row>,
    /// The outputs that are read.
    pub output: StepOutput,
    /// The sequence and request of each output row.
    pub tickets: Vec<(usize, RequestId)>,
}

impl Task {
    /// The request's id.
    pub fn id(&self) -> RequestId {
        match self {
            Task::Answer(answer) => answer.id,
            Task::Embedding(embedding) => embedding.id,
        }
    }

    /// Whether the next step of its sequence is a prefill: more than the last token of a prompt, or any of a text, is
    /// not cached yet.
    fn prefills(&self, known: usize, cached: usize) -> bool {
        match self {
            Task::Answer(answer) => answer.in_flight == 0 && known > cached + 1,
            Task::Embedding(_) => known > cached,
        }
    }
}

impl Scheduler {
    /// For `sequences` sequences; see the fields.
    pub fn new(sequences: usize, chunk: usize, output_rows: usize, context: usize) -> Self {
        Scheduler {
            running: (0..sequences).map(|_| None).collect(),
            waiting: VecDeque::new(),
            chunk,
            output_rows,
            context,
            last_prefill: 0,
            prefilled: false,
        }
    }

    /// Adds a request to the queue.
    pub fn enqueue(&mut self, task: Task) {
        self.waiting.push_back(task);
    }

    /// Whether no sequence works.
    pub fn is_idle(&self) -> bool {
        self.running.iter().all(Option::is_none)
    }

    /// Whether requests wait for a sequence.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a request waits or runs.
    pub fn has(&self, id: RequestId) -> bool {
        self.running.iter().flatten().chain(&self.waiting).any(|task| task.id() == id)
    }

    /// The task of a sequence.
    pub fn task(&mut self, sequence: usize) -> Option<&mut Task> {
        self.running[sequence].as_mut()
    }

    /// Makes a sequence idle; returns what it worked on.
    pub fn take(&mut self, sequence: usize) -> Option<Task> {
        self.running[sequence].take()
    }

    /// The sequence of a request, if it has one.
    pub fn sequence_of(&self, id: RequestId) -> Option<usize> {
        self.running.iter().position(|task| task.as_ref().is_some_and(|task| task.id() == id))
    }

    /// Removes a request that waits.
    pub fn take_waiting(&mut self, id: RequestId) -> Option<Task> {
        let at = self.waiting.iter().position(|task| task.id() == id)?;
        self.waiting.remove(at)
    }

    /// Gives the next waiting request an idle sequence, with as much of its prompt as is cached. Returns the sequence.
    pub fn admit(&mut self, cache: &mut KvCache) -> Option<usize> {
        let idle: Vec<usize> = (0..self.running.len()).filter(|sequence| self.running[*sequence].is_none()).collect();
        let mut task = self.waiting.pop_front_if(|_| !idle.is_empty())?;
        let sequence = match &mut task {
            Task::Answer(answer) => {
                let (sequence, reused) = cache.start(&idle, std::mem::take(&mut answer.request.tokens))?;
                answer.reused = reused;
                sequence
            }
            Task::Embedding(embedding) => cache.evict_idle(&idle, std::mem::take(&mut embedding.tokens))?,
        };
        self.running[sequence] = Some(task);
        Some(sequence)
    }

    /// The next step, if there is one: after a prefill a decode, else a prefill of the next sequence in turn.
    pub fn next_step(&mut self, cache: &KvCache) -> Option<StepPlan> {
        if std::mem::take(&mut self.prefilled)
            && let Some(step) = self.decode(cache)
        {
            return Some(step);
        }
        let count = self.running.len();
        let prefills = |sequence: &usize| self.prefills(*sequence, cache);
        let Some(sequence) = (1..=count).map(|i| (self.last_prefill + i) % count).find(prefills) else {
            return self.decode(cache);
        };
        (self.last_prefill, self.prefilled) = (sequence, true);
        Some(match &mut self.running[sequence] {
            Some(Task::Answer(answer)) => prefill(answer, sequence, cache, self.chunk),
            _ => self.embed(sequence, cache),
        })
    }

    fn prefills(&self, sequence: usize, cache: &KvCache) -> bool {
        let (known, cached) = (cache.tokens(sequence).len(), cache.len(sequence));
        self.running[sequence].as_ref().is_some_and(|task| task.prefills(known, cached))
    }

    /// One token of every answer that can take one.
    fn decode(&mut self, cache: &KvCache) -> Option<StepPlan> {
        let mut step = StepPlan { rows: Vec::new(), output: StepOutput::Tokens, tickets: Vec::new() };
        let (mut on_gpu, mut on_cpu) = (false, false);
        for (sequence, task) in self.running.iter_mut().enumerate() {
            let (tokens, cached) = (cache.tokens(sequence), cache.len(sequence));
            let Some(Task::Answer(answer)) = task.as_mut().filter(|task| !task.prefills(tokens.len(), cached)) else {
                continue;
            };
            let position = tokens.len() + answer.in_flight;
            if position > self.context || !answer.can_take_another(tokens.len()) {
                continue;
            }
            // The last token is known, or a step in flight samples it.
            let input = if answer.in_flight == 0 {
                RowInput::Token(tokens[position - 1])
            } else {
                RowInput::Sampled(sequence as u32)
            };
            let slot = sequence as u32;
            step.rows.push(Row::new(input, position as u32 - 1, slot).with_output(slot));
            step.tickets.push((sequence, answer.id));
            answer.in_flight += 1;
            (on_gpu, on_cpu) = (on_gpu || !answer.on_cpu, on_cpu || answer.on_cpu);
        }
        step.output = match (on_gpu, on_cpu) {
            (_, false) => StepOutput::Tokens,
            (false, true) => StepOutput::Logits,
            (true, true) => StepOutput::TokensAndLogits,
        };
        (!step.rows.is_empty()).then_some(step)
    }

    /// Rows of the texts to embed, beginning with that of sequence `first`.
    fn embed(&self, first: usize, cache: &KvCache) -> StepPlan {
        let mut step = StepPlan { rows: Vec::new(), output: StepOutput::Hidden, tickets: Vec::new() };
        for sequence in (first..self.running.len()).chain(0..first) {
            let Some(Task::Embedding(embedding)) = &self.running[sequence] else { continue };
            let positions = cache.prefill_range(sequence, self.output_rows - step.rows.len());
            step.tickets.extend(positions.clone().map(|_| (sequence, embedding.id)));
            let tokens = &cache.tokens(sequence)[positions.clone()];
            step.rows.extend(positions.zip(tokens).map(|(position, token)| {
                Row::new(RowInput::Token(*token), position as u32, sequence as u32).with_output(0)
            }));
        }
        step
    }
}

/// A chunk of an answer's prompt. The last one samples the first token.
fn prefill(answer: &mut Answer, sequence: usize, cache: &KvCache, chunk: usize) -> StepPlan {
    let positions = cache.prefill_range(sequence, chunk);
    let (tokens, end) = (cache.tokens(sequence), positions.end);
    let last = end == tokens.len();
    answer.in_flight += usize::from(last);
    let slot = sequence as u32;
    let row = |position: usize| Row::new(RowInput::Token(tokens[position]), position as u32, slot);
    let mut rows: Vec<Row> = positions.map(row).collect();
    if let Some(row) = rows.last_mut().filter(|_| last) {
        row.output = Some(slot);
    }
    StepPlan {
        rows,
        output: if last && answer.on_cpu { StepOutput::Logits } else { StepOutput::Tokens },
        tickets: if last { vec![(sequence, answer.id)] } else { Vec::new() },
    }
}
