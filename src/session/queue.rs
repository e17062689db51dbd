//! Requests that have no sequence yet, and how they come to one.

use super::embedding::Embedding;
use super::sequence::Job;
use super::{Event, RequestId, Session};
use crate::Result;
use crate::graph::StepInput;
use crate::ops::PAGE;
use crate::ops::sample::Params;

/// A request without a sequence.
pub enum Waiting {
    Answer(Box<Job>),
    Embedding(Embedding),
}

impl Waiting {
    pub fn id(&self) -> RequestId {
        match self {
            Waiting::Answer(job) => job.id,
            Waiting::Embedding(embedding) => embedding.id,
        }
    }
}

impl Session {
    /// Gives waiting requests to idle sequences.
    pub(super) fn start_waiting(&mut self) -> Result<()> {
        loop {
            let idle: Vec<usize> = (0..self.sequences.len()).filter(|i| self.sequences[*i].is_idle()).collect();
            let Some(next) = self.waiting.pop_front_if(|_| !idle.is_empty()) else { return Ok(()) };
            let job = match next {
                Waiting::Answer(job) => *job,
                Waiting::Embedding(embedding) => {
                    self.start_embedding(embedding, &idle);
                    continue;
                }
            };
            let tokens = &job.request.tokens;
            // At least one token must be run, to have logits to go on from.
            let common = |i: &usize| self.sequences[*i].common(&tokens[..tokens.len() - 1]);
            let Some(mine) = idle.into_iter().max_by_key(common) else { return Ok(()) };
            // Pages may be read by several sequences; states lie in slots of one.
            let recurrent = self.sequences[mine].state.is_some();
            let other = (0..self.sequences.len()).filter(|_| !recurrent).max_by_key(common).unwrap_or(mine);
            let (own, others) = (common(&mine), common(&other));
            self.start(job, mine, own, (other, others))?;
        }
    }

    /// Starts `job` in sequence `at`, which has `own` of its tokens, while sequence `other.0` has `other.1`.
    fn start(&mut self, mut job: Job, at: usize, own: usize, other: (usize, usize)) -> Result<()> {
        let page = PAGE as usize;
        self.sequences[at].truncate(own, &mut self.pools);
        let whole = self.sequences[other.0].usable(other.1 / page * page) / page;
        if let Ok([mine, others]) = self.sequences.get_disjoint_mut([at, other.0])
            && whole * page > mine.cached
        {
            mine.share(others, whole, &mut self.pools);
        }
        let sequence = &mut self.sequences[at];
        sequence.tokens = job.request.tokens.clone();
        job.reused = sequence.cached;
        self.events.push_back((job.id, Event::Begun { reused_tokens: job.reused }));
        let sampling = &job.request.sampling;
        if sampling.has_penalties() {
            let seen = job.counts(self.vocab);
            let offset = (at * self.vocab * 4) as u64;
            self.plan.write_input(StepInput::Counts, offset, bytemuck::cast_slice(&seen));
            job.seen = seen;
        }
        let params = Params::from(sampling);
        self.plan.write_input(StepInput::Sampling, (at * size_of::<Params>()) as u64, bytemuck::bytes_of(&params));
        sequence.job = Some(job);
        self.write_pages(at);
        Ok(())
    }
}
