//! One sequence of the engine: its tokens, its pages, and the request that it is answering.

use super::embedding::Embedding;
use super::near::Near;
use super::pages::Pools;
use super::state::State;
use super::{Constraint, Event, FinishReason, Request, RequestId, Timings};
use crate::gpu::Clock;
use crate::ops::PAGE;
use crate::ops::sample::IN_PROMPT;
use crate::sampler::{self, TokenLogprobs};
use crate::tokenizer::TokenStream;
use std::ops::Range;

/// A sequence. Its tokens are the truth; whatever else its pages hold does not count.
#[derive(Default)]
pub struct Sequence {
    /// Tokens of the prompt and of the answer so far.
    pub tokens: Vec<u32>,
    /// How many of them have their keys and values in the cache (or on the way there).
    pub cached: usize,
    /// The pages that hold them.
    pub pages: Vec<u32>,
    /// The pages of layers that see only what is near, if those are kept apart.
    pub near: Option<Near>,
    /// What layers keep otherwise, if the model has such.
    pub state: Option<State>,
    /// The request being answered.
    pub job: Option<Job>,
    /// The text being embedded, if there is no such request.
    pub embedding: Option<Embedding>,
}

/// A request being answered.
pub struct Job {
    /// Its id.
    pub id: RequestId,
    /// What was asked.
    pub request: Request,
    /// Which tokens may come next.
    pub constraint: Option<Constraint>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of which this many were in the cache already.
    pub reused: usize,
    /// Decode steps submitted whose tokens are not read yet.
    pub ahead: usize,
    /// Whether the CPU chooses the tokens.
    pub on_cpu: bool,
    /// For the CPU's penalties; see [`crate::graph::StepInput::Counts`].
    pub seen: Vec<u32>,
    stream: TokenStream,
    /// Text that may turn out to begin a stop string.
    held: String,
    started: Clock,
    first_token: Option<(Clock, f64)>,
}

impl Job {
    /// A job that starts now.
    pub fn new(id: RequestId, request: Request, constraint: Option<Constraint>, stream: TokenStream) -> Self {
        let prompt = request.tokens.len().saturating_sub(request.answered);
        let on_cpu = request.sampling.needs_cpu() || constraint.is_some();
        let stream = if request.special { stream.with_special() } else { stream };
        let (seen, held) = (Vec::new(), String::new());
        let mut job = Job {
            id,
            request,
            constraint,
            prompt,
            reused: 0,
            ahead: 0,
            on_cpu,
            seen,
            stream,
            held,
            started: Clock::now(),
            first_token: None,
        };
        // What was said is said; what it held back of a character or a stop string is held back again.
        for i in prompt..job.request.tokens.len() {
            job.text(job.request.tokens[i]);
        }
        job
    }

    /// The counts that penalties begin with, for a vocabulary of this size.
    pub fn counts(&self, vocab: usize) -> Vec<u32> {
        let (prompt, answer) = self.request.tokens.split_at(self.prompt);
        let mut seen = vec![0u32; vocab];
        prompt.iter().for_each(|t| seen[*t as usize] |= IN_PROMPT);
        answer.iter().for_each(|t| seen[*t as usize] += 1);
        seen
    }

    /// Notes that a token came.
    pub fn note_token(&mut self) {
        if self.first_token.is_none() {
            self.first_token = Some((Clock::now(), self.started.seconds()));
        }
    }

    /// Which tokens the constraint lets follow `tokens`, the prompt and the answer so far.
    pub fn allowed(&mut self, tokens: &[u32]) -> Option<Vec<u32>> {
        self.constraint.as_mut().map(|allowed| allowed(&tokens[self.prompt..]))
    }

    /// Chooses the token that follows `tokens`, the prompt and the answer so far; `None` if the constraint allows none.
    pub fn choose(&mut self, logits: &[f32], tokens: &[u32]) -> Option<(u32, Option<TokenLogprobs>)> {
        let allowed = self.allowed(tokens);
        let (sampling, position) = (&self.request.sampling, tokens.len() as u32 - 1);
        let choice = match allowed {
            None => sampler::sample(sampling, logits, &self.seen, position),
            Some(allowed) => sampler::sample_constrained(sampling, logits, &self.seen, position, &allowed)?,
        };
        if let Some(count) = self.seen.get_mut(choice.token as usize) {
            *count += 1;
        }
        Some((choice.token, sampling.logprobs.map(|_| choice.logprobs)))
    }

    /// The text that a token completes and that cannot begin a stop string, and the stop string that it reached.
    pub fn text(&mut self, token: u32) -> (String, Option<String>) {
        let piece = self.stream.push(token);
        self.held.push_str(&piece);
        let stops = || self.request.stop.iter().filter(|s| !s.is_empty());
        let found = stops().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            let stop = stop.clone();
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), Some(stop));
        }
        let keep = stops().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// The last event, after whatever text was still held.
    pub fn finish(mut self, reason: FinishReason, generated: usize) -> Vec<Event> {
        let mut events = Vec::new();
        let mut rest = std::mem::take(&mut self.held);
        let cut = matches!(reason, FinishReason::MaxTokens | FinishReason::ContextFull);
        rest.push_str(&if cut { self.stream.cut() } else { self.stream.finish() });
        if !rest.is_empty() && !matches!(reason, FinishReason::StopString(_)) {
            events.push(Event::Text(rest));
        }
        let (prompt_seconds, decode_seconds) = match self.first_token {
            Some((since, first)) => (first, since.seconds()),
            None => (self.started.seconds(), 0.0),
        };
        let timings = Timings {
            prompt_tokens: self.prompt,
            reused_tokens: self.reused,
            generated_tokens: generated,
            prompt_seconds,
            decode_seconds,
        };
        events.push(Event::Finished { reason, timings });
        events
    }
}

/// The length of the longest end of `text` that begins `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let begins = |n: &usize| text.is_char_boundary(text.len() - n) && stop.starts_with(&text[text.len() - n..]);
    (1..stop.len().min(text.len() + 1)).rev().find(begins).unwrap_or(0)
}

impl Sequence {
    /// Whether more than the last token of a prompt has yet to be run.
    pub fn reads_prompt(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.ahead == 0) && self.tokens.len() > self.cached + 1
    }

    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.job.is_none() && self.embedding.is_none()
    }

    /// The request that it works for.
    pub fn request_id(&self) -> Option<RequestId> {
        self.job.as_ref().map(|job| job.id).or(self.embedding.as_ref().map(|embedding| embedding.id))
    }

    /// Whether some of a text to be embedded has yet to be run.
    pub fn reads_embedding(&self) -> bool {
        self.embedding.is_some() && self.tokens.len() > self.cached
    }

    /// Tokens that this sequence and `tokens` begin with alike, as far as they are cached and it can go on from there.
    pub fn common(&self, tokens: &[u32]) -> usize {
        let cached = &self.tokens[..self.cached.min(self.tokens.len())];
        let common = cached.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.usable(common)
    }

    /// The longest beginning of at most `len` tokens from which it can go on.
    pub fn usable(&self, mut len: usize) -> usize {
        loop {
            let by_state = self.state.map_or(len, |state| state.usable(len));
            let by_pages = self.near.as_ref().map_or(by_state, |near| near.usable(by_state));
            if by_pages == len {
                return len;
            }
            len = by_pages;
        }
    }

    /// Notes that it may be wanted to go on from its first `len` tokens later.
    pub fn keep(&mut self, len: usize) {
        if let Some(state) = &mut self.state {
            state.keep();
        }
        if let Some(near) = &mut self.near {
            near.keep(len);
        }
    }

    /// Keeps the first `len` tokens' keys and values; gives back pages that are not needed, and those that others
    /// read as well and that would be written to.
    pub fn truncate(&mut self, len: usize, pools: &mut Pools) {
        let page = PAGE as usize;
        let mut len = self.usable(len);
        if !len.is_multiple_of(page) && self.reads_shared(len / page, pools) {
            len = self.usable(len / page * page);
        }
        if let Some(state) = &mut self.state {
            state.truncate(len);
        }
        if let Some(near) = &mut self.near {
            near.truncate(len, &mut pools.near);
        }
        for page in self.pages.drain(len.div_ceil(page)..) {
            pools.all.release(page);
        }
        self.cached = len;
        self.tokens.truncate(len);
    }

    /// Whether others read its page of this number, too.
    fn reads_shared(&self, number: usize, pools: &Pools) -> bool {
        let near = self.near.as_ref().and_then(|near| near.page(number));
        self.pages.get(number).is_some_and(|page| pools.all.shared(*page))
            || near.is_some_and(|page| pools.near.shared(page))
    }

    /// Begins with the first `count` pages of `other`, from which it must be able to go on.
    pub fn share(&mut self, other: &Sequence, count: usize, pools: &mut Pools) {
        self.truncate(0, pools);
        self.pages = other.pages[..count].to_vec();
        self.pages.iter().for_each(|page| pools.all.share(*page));
        self.near = other.near.as_ref().map(|near| near.share(count, &mut pools.near));
        self.cached = count * PAGE as usize;
    }

    /// Makes room for a step over `positions`. Returns whether its pages are others now, or `None` if there are none
    /// left.
    pub fn reserve(&mut self, positions: Range<usize>, pools: &mut Pools) -> Option<bool> {
        let needed = positions.end.div_ceil(PAGE as usize);
        let grown = needed > self.pages.len();
        while self.pages.len() < needed {
            self.pages.push(pools.all.take()?);
        }
        match &mut self.near {
            Some(near) => Some(near.reserve(positions, &mut pools.near)? || grown),
            None => Some(grown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pages::Pages;
    use super::*;

    #[test]
    fn overlap_is_the_longest_end_that_begins_the_stop() {
        assert_eq!(overlap("abc\n", "\n\nUser:"), 1);
        assert_eq!(overlap("ababa", "abac"), 3);
        assert_eq!(overlap("xyz", "abc"), 0);
        assert_eq!(overlap("é", "é!"), 2);
    }

    #[test]
    fn truncating_gives_back_pages_and_never_keeps_a_shared_one_to_write() {
        let mut pools = Pools { all: Pages::new(4), near: Pages::new(0) };
        let mut a = Sequence { tokens: vec![7; 70], cached: 70, ..Default::default() };
        assert_eq!(a.reserve(0..70, &mut pools), Some(true));
        pools.all.share(a.pages[1]);
        a.truncate(40, &mut pools);
        assert_eq!((a.cached, a.pages.len(), pools.all.available()), (32, 1, 2));
    }
}
