//! The answer to one request as it is generated: tokens to text and events, stop strings, and why it ends.

use super::stop_strings::StopStrings;
use super::{Constraint, Event, FinishReason, Request, RequestId, Timings};
use crate::gpu::Clock;
use crate::ops::sample::IN_PROMPT;
use crate::sampler::{self, Sampling, TokenLogprobs};
use crate::tokenizer::{TokenStream, Tokenizer};

/// An answer. Its tokens are in the cache's sequence, which it is given where it needs them.
pub struct Answer {
    /// The request's id.
    pub id: RequestId,
    /// The request; its tokens become the sequence's when it gets one.
    pub request: Request,
    /// Which tokens may come next.
    constraint: Option<Constraint>,
    /// Tokens of the prompt.
    prompt: usize,
    /// How many of them were cached.
    pub reused: usize,
    /// Tokens that steps in flight sample.
    pub in_flight: usize,
    /// Whether the CPU samples.
    pub on_cpu: bool,
    /// The CPU's counts for penalties; see [`crate::graph::StepInput::Counts`].
    counts: Vec<u32>,
    stream: TokenStream,
    stop: StopStrings,
    started: Clock,
    /// When the first token came, and how long that took.
    first_token: Option<(Clock, f64)>,
}

impl Answer {
    /// An answer that has not begun.
    pub fn new(id: RequestId, request: Request, constraint: Option<Constraint>, stream: TokenStream) -> Self {
        let stream = if request.special { stream.with_special() } else { stream };
        let mut answer = Answer {
            id,
            prompt: request.tokens.len().saturating_sub(request.answered),
            on_cpu: request.sampling.needs_cpu() || constraint.is_some(),
            stop: StopStrings::new(request.stop.clone()),
            request,
            constraint,
            reused: 0,
            in_flight: 0,
            counts: Vec::new(),
            stream,
            started: Clock::now(),
            first_token: None,
        };
        // A resumed answer again holds back the beginning of a character or of a stop string.
        for token in &answer.request.tokens[answer.prompt..] {
            answer.stop.push(&answer.stream.push(*token));
        }
        answer
    }

    /// How the answer is sampled, given the sequence's tokens, and the counts that penalties begin with; none if there
    /// are no penalties.
    pub fn begin(&mut self, tokens: &[u32], vocab: usize) -> (&Sampling, &[u32]) {
        if self.request.sampling.has_penalties() {
            let (prompt, answer) = tokens.split_at(self.prompt);
            self.counts = vec![0; vocab];
            prompt.iter().for_each(|token| self.counts[*token as usize] |= IN_PROMPT);
            answer.iter().for_each(|token| self.counts[*token as usize] += 1);
        }
        (&self.request.sampling, &self.counts)
    }

    /// Whether another token can be sampled while the sequence has `known` tokens: the limit is not reached, and the
    /// CPU waits for the one in flight.
    pub fn can_take_another(&self, known: usize) -> bool {
        let generated = known - self.prompt + self.in_flight;
        self.request.max_tokens.is_none_or(|max| generated < max) && !(self.on_cpu && self.in_flight > 0)
    }

    /// Samples the token after `tokens` on the CPU; `None` if the constraint allows none.
    pub fn sample(&mut self, logits: &[f32], tokens: &[u32]) -> Option<(u32, Option<TokenLogprobs>)> {
        let allowed = self.allowed(tokens);
        let (sampling, position) = (&self.request.sampling, tokens.len() as u32 - 1);
        let sampled = match allowed {
            None => sampler::sample(sampling, logits, &self.counts, position),
            Some(allowed) => sampler::sample_constrained(sampling, logits, &self.counts, position, &allowed)?,
        };
        if let Some(count) = self.counts.get_mut(sampled.token as usize) {
            *count += 1;
        }
        Some((sampled.token, sampling.logprobs.map(|_| sampled.logprobs)))
    }

    /// Which tokens the constraint allows after `tokens`.
    fn allowed(&mut self, tokens: &[u32]) -> Option<Vec<u32>> {
        self.constraint.as_mut().map(|allowed| allowed(&tokens[self.prompt..]))
    }

    /// Takes in the last of `tokens`, which was just sampled. Returns its events and, if it is the answer's last, why.
    pub fn accept(
        &mut self,
        tokens: &[u32],
        logprobs: Option<TokenLogprobs>,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> (Vec<Event>, Option<FinishReason>) {
        let Some(&id) = tokens.last() else { return (Vec::new(), None) };
        self.first_token.get_or_insert_with(|| (Clock::now(), self.started.seconds()));
        if tokenizer.is_end(id) && !self.request.ignore_end {
            return (Vec::new(), Some(FinishReason::End));
        }
        let mut events = vec![Event::Token { id, logprobs }];
        let (text, stop) = self.stop.push(&self.stream.push(id));
        if !text.is_empty() {
            events.push(Event::Text(text));
        }
        let reason = match stop {
            Some(stop) => Some(FinishReason::StopString(stop)),
            None => self.limit_reached(tokens, context),
        };
        (events, reason)
    }

    /// Why the answer ends after `tokens`, if it does: a limit, unless the constraint makes it complete there.
    fn limit_reached(&mut self, tokens: &[u32], context: usize) -> Option<FinishReason> {
        let generated = tokens.len() - self.prompt;
        let limit = if self.request.max_tokens.is_some_and(|max| generated >= max) {
            FinishReason::MaxTokens
        } else if tokens.len() > context {
            FinishReason::ContextFull
        } else {
            return None;
        };
        let complete = self.allowed(tokens).is_some_and(|mask| mask.iter().all(|word| *word == 0));
        Some(if complete { FinishReason::End } else { limit })
    }

    /// The last events of an answer whose sequence has `known` tokens: held text, and the end.
    pub fn finish(mut self, reason: FinishReason, known: usize) -> Vec<Event> {
        let mut events = Vec::new();
        let mut rest = self.stop.take_held();
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
            generated_tokens: known.saturating_sub(self.prompt),
            prompt_seconds,
            decode_seconds,
        };
        events.push(Event::Finished { reason, timings });
        events
    }
}
