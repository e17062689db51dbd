//! Sampling: the caller's settings, their checks, and the CPU's sampler.
//!
//! [`crate::ops::sample`] defines what the settings do, for the CPU and the GPU alike. Only the CPU adds logit bias and
//! returns log-probabilities. The sampler has no state: the seed, the position and the token counts decide.

use serde::{Deserialize, Serialize};

use crate::graph::CANDIDATES;
pub use crate::ops::sample::IN_PROMPT;
use crate::ops::sample::{self, FARTHEST, Params};
use crate::setters::setters;
use crate::{Error, Result};

/// Below this temperature sampling is greedy.
const COLDEST: f32 = 1e-4;
/// Disables a bound on weights or distances.
const UNBOUNDED: f32 = 1e30;

/// Sampling settings, in the order in which they apply: penalties, logit bias, temperature, top-k, top-p, min-p, draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Sampling {
    /// Divides the logits. 0 (or below 0.0001): greedy, without filters.
    pub temperature: f32,
    /// Keeps this many of the most probable tokens. 0: off. With any filter on, at most 1024 are kept.
    pub top_k: u32,
    /// Keeps the most probable tokens that together have this probability, measured after top-k. 1: off.
    pub top_p: f32,
    /// Keeps tokens at least this probable relative to the most probable one. 0: off.
    pub min_p: f32,
    /// Divides the logits above 0, and multiplies those below, of tokens in the prompt or the answer. 1: off.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit for each time it was generated. 0: off.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit if it was generated. 0: off.
    pub presence_penalty: f32,
    /// The same seed gives the same text on the same adapter and tier.
    pub seed: u64,
    /// Added to logits, by token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Returns the log-probabilities of each token, and of this many of the most probable ones.
    pub logprobs: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: None,
        }
    }
}

setters!(Sampling {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    seed: u64,
    logit_bias: Vec<(u32, f32)>,
    logprobs: impl Into<Option<u32>>,
});

impl Sampling {
    /// Always the best token.
    pub fn greedy() -> Self {
        Sampling { temperature: 0.0, ..Default::default() }
    }

    /// Whether all numbers make sense.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the setting, its value and its range.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100.0),
            ("frequency_penalty", self.frequency_penalty, -100.0, 100.0),
            ("presence_penalty", self.presence_penalty, -100.0, 100.0),
        ];
        for (name, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(Error::Usage(format!("{name} is {value}; it must be from {min} to {max}")));
            }
        }
        match self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            Some((token, bias)) => {
                Err(Error::Usage(format!("the logit_bias of token {token} is {bias}; it must be a finite number")))
            }
            None => Ok(()),
        }
    }

    /// Whether the most probable token is chosen instead of drawing one.
    pub fn is_greedy(&self) -> bool {
        self.temperature < COLDEST
    }

    /// Whether top-k, top-p or min-p is on.
    pub fn has_filter(&self) -> bool {
        !self.is_greedy() && (self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0)
    }

    /// Whether a penalty is on, which needs counts of tokens.
    pub fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// Whether only the CPU can sample so: with logit bias or log-probabilities.
    pub fn needs_cpu(&self) -> bool {
        !self.logit_bias.is_empty() || self.logprobs.is_some()
    }
}

impl From<&Sampling> for Params {
    fn from(s: &Sampling) -> Self {
        let has_top_p = s.top_p < 1.0;
        let reach = if s.min_p > 0.0 { 1.0 - s.min_p.ln() } else { UNBOUNDED };
        // Top-p measures against all tokens that top-k keeps, so all of those have to be found.
        let needs_all = s.top_k > 0 && has_top_p;
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        Params {
            scale: if s.is_greedy() { 1.0 } else { 1.0 / s.temperature },
            limit: if s.top_k > 0 { s.top_k.min(CANDIDATES) } else { CANDIDATES },
            top_p: if has_top_p { s.top_p } else { 2.0 },
            reach,
            search_reach: if needs_all { FARTHEST } else { reach.clamp(1.0, FARTHEST) },
            // Slightly more than top-p, to allow for rounding of the sums.
            search_mass: if has_top_p && !needs_all { (s.top_p * 1.0001).max(1e-20) } else { UNBOUNDED },
            repetition: s.repetition_penalty,
            inverse_repetition: 1.0 / s.repetition_penalty,
            frequency: s.frequency_penalty,
            presence: s.presence_penalty,
            seed: [s.seed as u32, (s.seed >> 32) as u32],
            flags: flag(!s.is_greedy(), Params::DRAW)
                | flag(s.has_filter(), Params::FILTER)
                | flag(s.has_penalties(), Params::PENALTIES)
                | flag(s.top_k == 0, Params::WHOLE),
            pad: [0; 3],
        }
    }
}

/// A sampled token.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SampledToken {
    /// The token.
    pub token: u32,
    /// How probable it was.
    pub logprobs: TokenLogprobs,
}

/// Natural log-probabilities by the model alone: temperature 1, no penalties, bias or filters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenLogprobs {
    /// The sampled token's.
    pub logprob: f32,
    /// The most probable tokens and their log-probabilities, best first, as many as [`Sampling::logprobs`] asks for.
    pub top: Vec<(u32, f32)>,
}

/// Samples a token. `seen` has the counts as the GPU keeps them: for each token [`IN_PROMPT`] if it occurs in the
/// prompt, plus how often it was generated; missing ones are 0. `position` is that of the row whose logits these are.
///
/// # Panics
/// If there are no logits.
#[track_caller]
pub fn sample(sampling: &Sampling, logits: &[f32], seen: &[u32], position: u32) -> SampledToken {
    let token = sample::reference(&Params::from(sampling), logits, seen, &sampling.logit_bias, position);
    describe(sampling, logits, token)
}

/// As [`sample()`], among the tokens whose bit is set in `allowed` (bit `t % 32` of word `t / 32`; missing words are
/// 0); `None` if there is none. The log-probabilities are those without the constraint.
///
/// # Panics
/// If there are no logits.
#[track_caller]
pub fn sample_constrained(
    sampling: &Sampling,
    logits: &[f32],
    seen: &[u32],
    position: u32,
    allowed: &[u32],
) -> Option<SampledToken> {
    let may = |token: usize| allowed.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
    let masked: Vec<f32> =
        logits.iter().enumerate().map(|(t, logit)| if may(t) { *logit } else { f32::NEG_INFINITY }).collect();
    let token = sample::reference(&Params::from(sampling), &masked, seen, &sampling.logit_bias, position);
    // If no token is allowed, all scores are equal, and a token that is not allowed wins.
    may(token as usize).then(|| describe(sampling, logits, token))
}

/// A token with its log-probabilities.
fn describe(sampling: &Sampling, logits: &[f32], token: u32) -> SampledToken {
    let normalizer = log_sum_exp(logits);
    let logprob = |logit: f32| (f64::from(sample::clean(logit)) - normalizer) as f32;
    let best = best(logits, sampling.logprobs.unwrap_or(0) as usize);
    let top = best.into_iter().map(|token| (token, logprob(logits[token as usize]))).collect();
    SampledToken { token, logprobs: TokenLogprobs { logprob: logprob(logits[token as usize]), top } }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let clean = || logits.iter().map(|l| f64::from(sample::clean(*l)));
    let max = clean().fold(f64::MIN, f64::max);
    max + clean().map(|l| (l - max).exp()).sum::<f64>().ln()
}

/// The tokens of the `n` largest logits, largest first, ties by id.
fn best(logits: &[f32], n: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| {
        let value = |token: u32| sample::clean(logits[token as usize]);
        value(*b).total_cmp(&value(*a)).then(a.cmp(b))
    };
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    if n == 0 {
        return Vec::new();
    }
    if n < tokens.len() {
        tokens.select_nth_unstable_by(n, order);
        tokens.truncate(n);
    }
    tokens.sort_unstable_by(order);
    tokens
}
