//! Logits to a token: penalties, logit bias, temperature, top-k, top-p, min-p, draw, in this order.
//!
//! * **Score** of a token: its logit after penalties and bias, divided by the temperature. A NaN counts as -inf.
//! * **Draw** without filters: the token with the largest `score + gumbel(seed, position, token)`. That is a draw from
//!   the softmax (the Gumbel-max trick) in one pass without sums over the vocabulary, and seed and position alone
//!   decide it. Greedy: the largest score. Ties go to the lowest id.
//! * **Filters** rank tokens by *distance*, `1 + best score - score` in f32, then by id. At most [`CANDIDATES`] are
//!   kept by any filter. Top-p keeps a token if those ranked above it weigh less than `p` of all that top-k left, min-p
//!   if its probability is at least `p` times the best one's. The draw is then among the kept.
//!
//! The distance starts at 1 because the bits of such floats make fine and evenly spaced bins. Noise spans less than
//! [`FARTHEST`] - 1, so that a token farther away cannot win and is skipped.
//!
//! The CPU's [`reference()`] and the kernels agree up to the rounding of `exp` and `log`. Parameters and counts belong
//! to output slots, so that several rows of one sequence can be sampled in a step.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::rows::{SCAN_GROUP, SCAN_LANES, scan_groups};
use crate::graph::{CANDIDATES, Sample, SampleOperands};

/// A token at this distance or farther cannot win a draw.
pub const FARTHEST: f32 = 27.0;
/// In the counts of an output slot: the token occurs in the prompt. The other bits count how often it was generated.
pub const IN_PROMPT: u32 = 1 << 31;

/// Scores are clamped to this, so that their differences stay finite.
const LARGEST: f32 = 1e30;

/// How an output slot is sampled, as the kernels read it: `Params` of `shaders/lib/sampling.wgsl`, word for word.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Params {
    /// 1 / temperature; 1 if greedy.
    pub scale: f32,
    /// Most tokens kept: top-k, or [`CANDIDATES`].
    pub limit: u32,
    /// Top-p; 2 if off.
    pub top_p: f32,
    /// The farthest distance that min-p keeps.
    pub reach: f32,
    /// The farthest distance at which candidates are searched.
    pub search_reach: f32,
    /// The share of the total weight at which the search for candidates may end.
    pub search_mass: f32,
    /// Repetition penalty, for logits below 0.
    pub repetition: f32,
    /// Its inverse, for logits above 0.
    pub inverse_repetition: f32,
    /// Frequency penalty.
    pub frequency: f32,
    /// Presence penalty.
    pub presence: f32,
    /// Low and high word of the seed.
    pub seed: [u32; 2],
    /// [`Params::DRAW`] and so on.
    pub flags: u32,
    /// Pads the size to a multiple of 16 bytes.
    pub pad: [u32; 3],
}

impl Params {
    /// Flag: the token is drawn; otherwise, the best one is chosen.
    pub const DRAW: u32 = 1;
    /// Flag: some filter is on.
    pub const FILTER: u32 = 2;
    /// Flag: some penalty is on.
    pub const PENALTIES: u32 = 4;
    /// Flag: top-p measures against the whole vocabulary, as there is no top-k.
    pub const WHOLE: u32 = 8;

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn penalized(&self, logit: f32, seen: u32) -> f32 {
        if !self.has(Self::PENALTIES) || seen == 0 {
            return logit;
        }
        let factor = if logit > 0.0 { self.inverse_repetition } else { self.repetition };
        let times = seen & !IN_PROMPT;
        let presence = if times > 0 { self.presence } else { 0.0 };
        logit * factor - (times as f32 * self.frequency + presence)
    }
}

/// A logit with NaN as -inf, and infinities as large finite numbers.
pub fn clean(logit: f32) -> f32 {
    if logit.is_nan() { -LARGEST } else { logit.clamp(-LARGEST, LARGEST) }
}

/// A standard Gumbel variable, determined by (seed, position, token); between -2.9 and 22.2.
pub fn gumbel(seed: [u32; 2], position: u32, token: u32) -> f32 {
    let h = hash([seed[0], seed[1], position, token]);
    // 24 significant bits in (0, 1), so that the conversion is exact.
    let v = (if h < 1 << 24 { h | 1 } else { h & !0xff }) as f32 * (1.0 / 4294967296.0);
    // -ln(1 - v); near 0, where the largest results come from, by the series of 2 atanh(v / (2 - v)).
    let exponential = if v < 0.25 {
        let z = v / (2.0 - v);
        let q = z * z;
        2.0 * z * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0))))
    } else {
        -(1.0 - v).ln()
    };
    -exponential.ln()
}

/// pcg4d: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020.
fn hash(key: [u32; 4]) -> u32 {
    let mix = |[mut x, mut y, mut z, mut w]: [u32; 4]| {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        [x, y, z, w]
    };
    let v = mix(key.map(|k| k.wrapping_mul(1664525).wrapping_add(1013904223)));
    mix(v.map(|k| k ^ (k >> 16)))[3]
}

/// The token for one row of logits. `seen` are the slot's counts (missing ones are 0), `bias` is added to logits
/// (the kernels have none), `position` is the row's.
///
/// # Panics
/// If there are no logits.
#[track_caller]
pub fn reference(params: &Params, logits: &[f32], seen: &[u32], bias: &[(u32, f32)], position: u32) -> u32 {
    assert!(!logits.is_empty(), "no logits to sample from");
    let seen = seen.iter().copied().chain(std::iter::repeat(0));
    let mut scores: Vec<f32> = logits.iter().zip(seen).map(|(l, seen)| params.penalized(clean(*l), seen)).collect();
    for (token, bias) in bias {
        if let Some(score) = scores.get_mut(*token as usize) {
            *score += bias;
        }
    }
    for score in &mut scores {
        *score = (*score * params.scale).clamp(-LARGEST, LARGEST);
    }
    let noise = |token| gumbel(params.seed, position, token);
    if params.has(Params::FILTER) {
        largest(keep(params, &scores).into_iter().map(|(distance, token)| (noise(token) - distance, token)))
    } else if params.has(Params::DRAW) {
        largest((0..).zip(scores).map(|(token, score)| (score + noise(token), token)))
    } else {
        largest((0..).zip(scores).map(|(token, score)| (score, token)))
    }
}

/// The token of the largest key; of equals, the one with the lowest id.
fn largest(keys: impl Iterator<Item = (f32, u32)>) -> u32 {
    let best = keys.reduce(|a, b| if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a });
    best.expect("at least one token is left").1
}

/// The tokens that the filters keep, as (distance, token), best first.
fn keep(params: &Params, scores: &[f32]) -> Vec<(f32, u32)> {
    let best = scores.iter().copied().fold(-LARGEST, f32::max);
    let distances = || (0..).zip(scores).map(|(token, score)| (1.0 + (best - score), token));
    let mut ranked: Vec<(f32, u32)> = distances().filter(|(distance, _)| *distance <= params.search_reach).collect();
    let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    let limit = params.limit as usize;
    if ranked.len() > limit {
        ranked.select_nth_unstable_by(limit, order);
        ranked.truncate(limit);
    }
    ranked.sort_unstable_by(order);

    let weight = |distance: f32| f64::from((1.0 - distance).exp());
    let total: f64 = if params.has(Params::WHOLE) {
        distances().map(|(distance, _)| weight(distance)).sum()
    } else {
        ranked.iter().map(|(distance, _)| weight(*distance)).sum()
    };
    let mut above = 0.0;
    let mut first = true;
    ranked.retain(|(distance, _)| {
        let kept = first || (above < f64::from(params.top_p) * total && *distance <= params.reach);
        above += weight(*distance);
        first = false;
        kept
    });
    ranked
}

pub(super) fn kernels(_: &Sample, io: &SampleOperands, cx: &KernelContext) -> Vec<Kernel> {
    let vocab = cx.cols(io.logits);
    // llvmpipe ends every loop after 65,535 iterations of a thread in all; with 64 threads none comes near that.
    let wg = cx.lanes(256).max(64);
    let consts = |kernel: Kernel| {
        let consts = [("VOCAB", vocab), ("GROUPS", scan_groups(vocab)), ("CANDIDATES", CANDIDATES)];
        kernel.set_all(consts).when(StepSize::Sampled, 1, 1)
    };
    let each_row = [GridDim::each(StepSize::Logits), GridDim::fixed(1), GridDim::fixed(1)];
    let tables = [io.logit_rows, io.rows, io.sampling];
    let scoring = [io.logit_rows, io.rows, io.sampling, io.counts, io.logits];
    let chunks = GridDim::ceil(vocab, SCAN_GROUP * SCAN_LANES);
    let scan = Kernel::new("sample_scan", [chunks, GridDim::each(StepSize::Logits), GridDim::fixed(1)]);
    let candidates = cx.reduce(Kernel::new("sample_candidates", each_row), wg, wg).when(StepSize::Filtered, 1, 1);
    let pick = cx.reduce(Kernel::new("sample_pick", each_row), wg, wg);
    vec![
        consts(scan).reads(scoring).write(io.groups),
        consts(candidates).reads(scoring).read(io.groups).write(io.candidates),
        consts(pick).reads(tables).read(io.groups).read(io.candidates).write(io.sampled).write(io.counts),
    ]
}
