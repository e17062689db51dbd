//! Common code of tests with whole models: the adapter in each tier, synthetic models, and requests.
//!
//! A missing adapter fails a test; nothing here skips silently.

#![allow(dead_code, reason = "each test file uses a part")]

use firelight::checkpoint::Source;
use firelight::gpu::{Gpu, GpuOptions, Tier, Tuning};
use firelight::model::Model;
use firelight::sampler::{Sampling, TokenLogprobs};
use firelight::session::{Event, FinishReason, Request, RequestId, Session, SessionOptions, Timings};
use firelight::synth;
use pollster::block_on;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The best adapter in each exact tier that it has, opened once for all tests of a file; lowest first.
pub fn gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let best = block_on(Gpu::open(&GpuOptions::default().tuning(Tuning::Off)));
        let best = best.unwrap_or_else(|e| panic!("these tests need a GPU or a software adapter: {e}"));
        // On one device, so that tiers share pipelines.
        let lower = Tier::ALL.into_iter().filter(|tier| *tier < best.caps().tier);
        lower.map(|tier| best.clone().in_tier(tier)).chain([best.clone()]).collect()
    })
}

/// The best adapter in its highest tier.
pub fn gpu() -> &'static Gpu {
    &gpus()[gpus().len() - 1]
}

/// A file of the shared test data, if it exists. In CI it must exist.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var("FIRELIGHT_SHARED").map(PathBuf::from);
    let path = root.unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(name);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        eprintln!("skipped: {} is missing", path.display());
        return None;
    }
    Some(path)
}

/// The smallest set of tiny shapes that uses every kernel.
pub const FEW: [&str; 11] = [
    "tiny-qwen3moe",
    "tiny-odd",
    "tiny-llama4",
    "tiny-gpt-oss",
    "tiny-qwen3next",
    "tiny-lfm2",
    "tiny-gemma4",
    "tiny-gemma4moe",
    "tiny-starcoder2",
    "tiny-deepseek2",
    "tiny-deepseek3",
];

/// Whether only what depends on the adapter is tested (FIRELIGHT_TESTS=few), because compiling is slow on some.
pub fn few() -> bool {
    std::env::var_os("FIRELIGHT_TESTS").is_some_and(|tests| tests == "few")
}

/// Whether every property is tested on every shape (FIRELIGHT_TESTS=all), not only on [`FEW`].
pub fn all() -> bool {
    std::env::var_os("FIRELIGHT_TESTS").is_some_and(|tests| tests == "all")
}

/// Whether to test a property on this shape that depends on kernels alone.
pub fn is_tested(shape: &str) -> bool {
    all() || FEW.contains(&shape)
}

/// The bytes of a synthetic GGUF file.
pub fn file(shape: &str, types: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    synth::write(shape, types, &mut bytes).expect("a known shape and type");
    bytes
}

/// The model in the bytes of a GGUF file.
pub fn model(bytes: Vec<u8>) -> Model {
    block_on(Model::from_sources(vec![Source::bytes("test", bytes)])).expect("a valid model")
}

/// A session with the model's weights loaded.
pub fn session(gpu: &Gpu, model: &Model, options: &SessionOptions) -> Session {
    block_on(Session::builder(gpu, model).options(options).load()).expect("it fits")
}

/// The logits after each token, one row after another.
pub fn logits(session: &mut Session, tokens: &[u32], one_by_one: bool) -> Vec<f32> {
    let mut all = Vec::new();
    let each = |position: usize, row: &[f32]| {
        assert_eq!(all.len(), position * row.len(), "positions must be in order");
        all.extend_from_slice(row);
    };
    let run = match one_by_one {
        true => block_on(session.decode_logits(tokens, each)),
        false => block_on(session.prefill_logits(tokens, each)),
    };
    run.expect("logits");
    all
}

/// The collected events of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Generated tokens, without the end token.
    pub ids: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Log-probabilities of each token, if requested.
    pub logprobs: Vec<TokenLogprobs>,
    /// The finish reason; `None` until the end.
    pub reason: Option<FinishReason>,
    /// Counts and times; the tests check only counts.
    pub timings: Timings,
}

impl Answer {
    fn take(&mut self, event: Event) {
        assert_eq!(self.reason, None, "{event:?} after the end of the answer");
        match event {
            Event::Begun { .. } => {}
            Event::Text(text) => self.text += &text,
            Event::Token { id, logprobs } => {
                self.ids.push(id);
                self.logprobs.extend(logprobs);
            }
            Event::Finished { reason, timings } => (self.reason, self.timings) = (Some(reason), timings),
            other => panic!("unexpected event {other:?}"),
        }
    }
}

/// The answer to one request.
pub fn answer(session: &mut Session, request: Request) -> Answer {
    answers(session, vec![request]).remove(0)
}

/// The answers to concurrent requests.
pub fn answers(session: &mut Session, requests: Vec<Request>) -> Vec<Answer> {
    let ids: Vec<RequestId> = requests.into_iter().map(|r| session.submit(r).expect("a valid request")).collect();
    let mut answers = finish(session);
    ids.iter().map(|id| answers.remove(id).expect("each request is answered")).collect()
}

/// Runs until all requests are finished, and returns each request's answer.
pub fn finish(session: &mut Session) -> BTreeMap<RequestId, Answer> {
    let mut answers: BTreeMap<RequestId, Answer> = BTreeMap::new();
    while let Some((id, event)) = block_on(session.next()).expect("no device loss") {
        answers.entry(id).or_default().take(event);
    }
    answers
}

/// `n` deterministic tokens of a seed. All are bytes, which every vocabulary here has.
pub fn prompt(seed: u64, n: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u32
    };
    (0..n).map(|_| next()).collect()
}

/// A greedy request that ignores end tokens, which an untrained model generates at random.
pub fn greedy(tokens: &[u32], max_tokens: usize) -> Request {
    let sampling = Sampling::greedy();
    Request::new(tokens.to_vec()).sampling(sampling).max_tokens(max_tokens).ignore_end(true)
}

/// How far logits are from the expected ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The smallest cosine similarity of any position.
    pub cosine: f64,
    /// The greatest difference of a logit.
    pub max: f64,
    /// The root mean square of all differences.
    pub rms: f64,
    /// The root mean square of the expected values.
    pub of: f64,
}

/// Compares rows of `vocab` logits.
pub fn difference(got: &[f32], want: &[f32], vocab: usize) -> Difference {
    assert_eq!(got.len(), want.len(), "numbers of logits");
    let square = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let mut result = Difference { cosine: 1.0, max: 0.0, rms: 0.0, of: (square(want) / want.len() as f64).sqrt() };
    for (got, want) in got.chunks(vocab).zip(want.chunks(vocab)) {
        let dot: f64 = got.iter().zip(want).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let cosine = dot / (square(got) * square(want)).sqrt();
        // NaN must count as the worst value; `min` and `max` would ignore it.
        result.cosine = if cosine.is_nan() { -1.0 } else { result.cosine.min(cosine) };
        for (got, want) in got.iter().zip(want) {
            let off = (f64::from(*got) - f64::from(*want)).abs();
            result.max = if off.is_nan() { f64::INFINITY } else { result.max.max(off) };
            result.rms += off * off;
        }
    }
    result.rms = (result.rms / want.len() as f64).sqrt();
    result
}

mod tests {
    use super::difference;

    #[test]
    fn difference_covers_each_position_and_nan() {
        let want = [1.0, 0.0, 0.0, 2.0];
        let d = difference(&[1.0, 0.0, 2.0, 0.0], &want, 2);
        assert_eq!((d.cosine, d.max, d.rms), (0.0, 2.0, 2f64.sqrt()));
        assert_eq!(difference(&want, &want, 2).cosine, 1.0);
        let d = difference(&[1.0, f32::NAN, 0.0, 2.0], &want, 2);
        assert!(d.cosine == 1.0f64.min(d.cosine) && d.max.is_infinite() && d.rms.is_nan(), "{d:?}");
    }
}
