//! The request that every dialect's request becomes: plain data.

use std::time::Duration;

use firelight::conversation::{Prompt, ResponseFormat};
use firelight::sampler::Sampling;

use super::fields::Fields;
use super::http_error::HttpError;

/// A request for answers.
#[derive(Clone, Debug)]
pub struct AnswerRequest {
    /// The model's name; empty for the first.
    pub model: String,
    pub prompts: Vec<Prompt>,
    /// Answers to each prompt.
    pub choices: usize,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub max_tokens: Option<usize>,
    pub format: ResponseFormat,
    /// How long the model stays loaded afterwards; by default the server's setting.
    pub keep_alive: Option<Duration>,
}

/// The most answers to one request.
const MOST_ANSWERS: usize = 64;

impl AnswerRequest {
    /// Refuses requests that exceed the limits of one request, or whose sampling makes no sense.
    pub fn check(&self) -> Result<(), HttpError> {
        let answers = self.prompts.len().saturating_mul(self.choices);
        if !(1..=MOST_ANSWERS).contains(&answers) {
            let message = format!("{answers} answers are requested at once; from 1 to {MOST_ANSWERS} are possible");
            return Err(HttpError::bad(message));
        }
        Ok(self.sampling.check()?)
    }
}

/// Reads the sampling parameters, whose names all dialects share. Defaults are the library's; the seed is random.
pub fn sampling(fields: &mut Fields) -> Result<Sampling, HttpError> {
    // A negative seed means "any".
    let seed = fields.integer("seed")?.and_then(|seed| u64::try_from(seed).ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut sampling = Sampling::default().seed(seed);
    // A negative number switches it off, as 0 does.
    if let Some(k) = fields.integer("top_k")? {
        sampling.top_k = u32::try_from(k.max(0)).unwrap_or(u32::MAX);
    }
    type Set = fn(&mut Sampling, f32);
    let numbers: [(&str, Set); 7] = [
        ("temperature", |s, x| s.temperature = x),
        ("top_p", |s, x| s.top_p = x),
        ("min_p", |s, x| s.min_p = x),
        ("frequency_penalty", |s, x| s.frequency_penalty = x),
        ("presence_penalty", |s, x| s.presence_penalty = x),
        // Two names of one number; clients that know many servers send both.
        ("repetition_penalty", |s, x| s.repetition_penalty = x),
        ("repeat_penalty", |s, x| s.repetition_penalty = x),
    ];
    for (name, set) in numbers {
        if let Some(x) = fields.number(name)? {
            set(&mut sampling, x);
            sampling.check().map_err(|e| fields.wrong(name, e))?;
        }
    }
    for (token, bias) in fields.object("logit_bias")?.unwrap_or_default() {
        let read = token.parse().ok().zip(bias.as_f64()).map(|(token, bias)| (token, bias as f32));
        let finite = read.filter(|(_, bias)| bias.is_finite());
        sampling.logit_bias.push(finite.ok_or_else(|| fields.wrong("logit_bias", "it maps token ids to numbers"))?);
    }
    Ok(sampling)
}

/// A random name: `len` letters and digits.
pub fn random_id(len: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(len).collect()
}
