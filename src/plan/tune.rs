//! The tuner: finds the kernel parameters of matrix products and attention that are correct and fastest on a device.
//!
//! Drivers differ in which parameters suit them, and some compute wrong results. So the tuner first compares each
//! candidate with a CPU reference, and times it only if it is correct. It caches the result by adapter, driver and
//! version of Firelight. Software adapters behave alike, so they are tuned only on request.

use super::expected::Expected;
use super::measure::measured_matrix;
use crate::gpu::{Caps, Gpu, Tier, TuneConfig, TuneOutcome, TuneResult};
use crate::graph::Attention;
use crate::{Error, Result};

/// The error tolerance, relative to the root mean square. Sums are ordered differently on the GPU; f16 tiers round each
/// product by at most 2^-10 of it, [`Tier::F16`] also rounds sums of sixteen, and f16 attention rounds its scores.
fn tolerance(tier: Tier) -> f64 {
    if tier.exact() { 1e-4 } else { 1e-2 }
}

/// The problem sizes of the trials.
#[derive(Clone, Debug)]
pub struct TuneSizes {
    /// Rows and columns of the GEMV's matrix, which exceeds the GPU's caches.
    pub matrix: (u32, u32),
    /// Rows and columns of the GEMM's matrix, which is smaller because each weight is used for many rows.
    pub prompts_matrix: (u32, u32),
    /// Attention, with head counts of published models.
    pub attention: Attention,
    /// Rows of the prefill.
    pub rows: u32,
    /// Positions before the prefill.
    pub first: u32,
}

impl TuneSizes {
    /// Sizes that keep a GPU busy, or that a software adapter computes in a moment.
    pub fn usual(caps: &Caps) -> Self {
        let matrix = measured_matrix(caps);
        match caps.software {
            true => TuneSizes {
                matrix,
                prompts_matrix: matrix,
                attention: Attention::full(2, 1, 64),
                rows: 512,
                first: 512,
            },
            false => {
                let attention = Attention::full(32, 8, 128);
                TuneSizes { matrix, prompts_matrix: (4096, 4096), attention, rows: 512, first: 1536 }
            }
        }
    }
}

/// The result of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The tier whose kernels ran.
    pub tier: Tier,
    /// Their parameters.
    pub layout: TuneConfig,
    /// Whether this is attention and not a matrix product.
    pub attends: bool,
    /// Rows in the step.
    pub rows: u32,
    /// The largest error, relative to the root mean square of the reference.
    pub error: f64,
    /// Seconds; `None` if the result was wrong.
    pub seconds: Option<f64>,
}

/// Applies a device's cached tuning result. Without one, tunes the device if `measure` is set, which takes a second or
/// two. Unless a tier is requested, this selects an f16 prefill tier that tuning found correct and faster.
///
/// # Errors
/// As [`tune`]; [`Error::Usage`] if the requested tier computed wrong results during tuning.
pub(super) async fn tuned(gpu: Gpu, tier: Option<Tier>, measure: bool) -> Result<Gpu> {
    let gpu = match gpu.adapter().load_tuning() {
        Some(tune_result) => gpu.apply_tuning(tune_result),
        None if measure => tune(gpu).await?.0,
        None => gpu,
    };
    match (tier, gpu.adapter().tuning) {
        (None, Some(tune_result)) => Ok(gpu.in_tier(tune_result.fastest())),
        (Some(tier), Some(tune_result))
            if tune_result.of(tier) == TuneOutcome::Wrong || gpu.caps().lacks(tier).is_some() =>
        {
            let name = &gpu.adapter().name;
            Err(Error::Usage(format!("the tier {tier} computed wrong results on {name}; leave --tier out")))
        }
        _ => Ok(gpu),
    }
}

/// Tunes a device and caches the result. Returns the device with the result applied, and all trials.
///
/// # Errors
/// [`Error::Gpu`] if every kernel computes wrong results or the device is lost; [`Error::Memory`] if it has no 75 MB
/// for a matrix.
pub async fn tune(gpu: Gpu) -> Result<(Gpu, Vec<Trial>)> {
    let trials = trials(&gpu, gpu.caps(), &TuneSizes::usual(gpu.caps())).await?;
    let Some(tune_result) = tune_result(&trials) else {
        let (name, error) = (&gpu.adapter().name, trials.iter().map(|trial| trial.error).fold(0.0, f64::max));
        let message =
            format!("{name} computes wrong results (off by {error:.0e}); update its driver, or choose another");
        return Err(Error::Gpu(format!("{message} with --device")));
    };
    gpu.adapter().store_tuning(&tune_result);
    Ok((gpu.apply_tuning(tune_result), trials))
}

/// Tries a device's exact tiers from the highest down to a correct one, then its f16 prefill tiers.
///
/// # Errors
/// If the device has not enough memory, or is lost.
pub async fn trials(gpu: &Gpu, caps: &Caps, sizes: &TuneSizes) -> Result<Vec<Trial>> {
    let (one, many) = (Expected::product(sizes.matrix), Expected::product(sizes.prompts_matrix));
    let tiers = if caps.subgroups() { &[Tier::Subgroups, Tier::Baseline][..] } else { &[Tier::Baseline] };
    let with = |tier, layout| Caps { tier, tuned: Some(layout), ..caps.clone() };
    let mut trials = Vec::new();
    for tier in tiers {
        for layout in TuneConfig::gemv_candidates(caps.software) {
            trials.push(trial(gpu, &with(*tier, layout), &one, 1).await?);
        }
        let Some(best) = fastest(&trials, |trial| (trial.tier, trial.rows) == (*tier, 1)) else { continue };
        for layout in best.layout.gemm_candidates(caps.software) {
            trials.push(trial(gpu, &with(*tier, layout), &many, sizes.rows).await?);
        }
        if tune_result(&trials).is_some() {
            break;
        }
    }
    let Some(exact) = tune_result(&trials) else { return Ok(trials) };
    // Cooperative matrices need subgroups.
    let of_use = |tier: Tier| tier != Tier::Cooperative || exact.tier == Tier::Subgroups;
    for tier in Tier::F16_TIERS.into_iter().filter(|tier| caps.lacks(*tier).is_none() && of_use(*tier)) {
        for layout in exact.config.f16_candidates() {
            trials.push(trial(gpu, &with(tier, layout), &many, sizes.rows).await?);
        }
    }
    if let Some(found) =
        tune_result(&trials).filter(|found| matches!(found.cooperative, TuneOutcome::Slower | TuneOutcome::Faster))
    {
        let attention = Expected::attention(sizes.attention.clone(), sizes.rows, sizes.first);
        for tier in [found.tier, Tier::Cooperative] {
            trials.push(trial(gpu, &with(tier, found.config), &attention, sizes.rows).await?);
        }
    }
    Ok(trials)
}

/// Tries the default parameters of the exact tiers. A software adapter runs no others unless asked; it compiles slowly.
///
/// # Errors
/// As [`trials`].
pub async fn default_trials(gpu: &Gpu, sizes: &TuneSizes) -> Result<Vec<Trial>> {
    let (one, many) = (Expected::product(sizes.matrix), Expected::product(sizes.prompts_matrix));
    let mut trials = Vec::new();
    for tier in [Tier::Baseline, Tier::Subgroups].into_iter().filter(|tier| gpu.caps().lacks(*tier).is_none()) {
        let caps = Caps { tier, tuned: None, ..gpu.caps().clone() };
        trials.push(trial(gpu, &caps, &one, 1).await?);
        trials.push(trial(gpu, &caps, &many, sizes.rows).await?);
    }
    Ok(trials)
}

/// The tuning result of the trials: the highest correct exact tier with its fastest GEMV and GEMM parameters, the
/// outcome of each f16 prefill tier, and whether cooperative attention is faster.
pub fn tune_result(trials: &[Trial]) -> Option<TuneResult> {
    let of = |tier| fastest(trials, |trial| trial.tier == tier && trial.rows > 1 && !trial.attends);
    let exact = of(Tier::Subgroups).or_else(|| of(Tier::Baseline))?;
    let mut best = exact;
    let [halves, matrices] = Tier::F16_TIERS.map(|tier| match of(tier) {
        Some(trial) if trial.seconds < best.seconds => {
            best = trial;
            TuneOutcome::Faster
        }
        Some(_) => TuneOutcome::Slower,
        None if trials.iter().any(|trial| trial.tier == tier) => TuneOutcome::Wrong,
        None => TuneOutcome::None,
    });
    let side = fastest(trials, |trial| !trial.tier.exact() && !trial.attends).unwrap_or(exact).layout.f16_tile_rows;
    let attends = match fastest(trials, |trial| trial.attends) {
        Some(trial) => trial.tier == Tier::Cooperative,
        None => exact.layout.cooperative_attention,
    };
    Some(TuneResult {
        tier: exact.tier,
        config: TuneConfig { f16_tile_rows: side, cooperative_attention: attends, ..exact.layout },
        f16: halves,
        cooperative: matrices,
    })
}

/// The correct ones among some trials.
fn fastest(trials: &[Trial], of: impl Fn(&Trial) -> bool) -> Option<&Trial> {
    let right = trials.iter().filter(|trial| of(trial)).filter_map(|trial| Some((trial.seconds?, trial)));
    right.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, trial)| trial)
}

async fn trial(gpu: &Gpu, caps: &Caps, expected: &Expected, rows: u32) -> Result<Trial> {
    let (tier, layout, attends) = (caps.tier, caps.tune_config(), expected.attends());
    let wrong = Trial { tier, layout, attends, rows, error: f64::INFINITY, seconds: None };
    let alone = match expected.compile(gpu, caps, rows).await {
        // A kernel that does not compile counts as wrong; a lost device is an error.
        Err(Error::Gpu(why)) if gpu.check().is_ok() => {
            tracing::debug!("{tier}: {why}");
            return Ok(wrong);
        }
        alone => alone?,
    };
    let error = expected.error(&alone, rows).await?;
    let right = error <= tolerance(tier);
    let seconds = if right { Some(expected.seconds(&alone, rows).await?) } else { None };
    Ok(Trial { error, seconds, ..wrong })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: TuneConfig = TuneConfig {
        lanes: 32,
        threads: 128,
        rows_per_lane: 2,
        tile_threads: 8,
        f16_tile_rows: 64,
        cooperative_attention: true,
    };
    const MANY: u32 = 512;

    fn trial(tier: Tier, layout: TuneConfig, rows: u32, seconds: Option<f64>) -> Trial {
        let error = if seconds.is_some() { 1e-6 } else { 0.5 };
        Trial { tier, layout, attends: false, rows, error, seconds }
    }

    #[test]
    fn the_fastest_right_layout_of_the_highest_right_tier_is_taken() {
        let (other, halves, matrices) =
            (TuneConfig { tile_threads: 16, ..USUAL }, TuneOutcome::None, TuneOutcome::None);
        let mut trials = vec![
            trial(Tier::Subgroups, USUAL, 1, Some(1.0)),
            trial(Tier::Subgroups, USUAL, MANY, Some(3.0)),
            trial(Tier::Subgroups, other, MANY, Some(2.0)),
            trial(Tier::Baseline, USUAL, MANY, Some(1.0)),
        ];
        assert_eq!(
            tune_result(&trials),
            Some(TuneResult { tier: Tier::Subgroups, config: other, f16: halves, cooperative: matrices })
        );
        trials[2] = trial(Tier::Subgroups, other, MANY, None);
        assert_eq!(
            tune_result(&trials),
            Some(TuneResult { tier: Tier::Subgroups, config: USUAL, f16: halves, cooperative: matrices })
        );
        trials[1] = trial(Tier::Subgroups, USUAL, MANY, None);
        assert_eq!(
            tune_result(&trials),
            Some(TuneResult { tier: Tier::Baseline, config: USUAL, f16: halves, cooperative: matrices })
        );
        trials[3] = trial(Tier::Baseline, USUAL, MANY, None);
        assert_eq!(tune_result(&trials), None);
    }

    #[test]
    fn what_reads_in_halves_must_be_right_and_faster_than_what_is_simpler() {
        let found = |seconds: [[Option<f64>; 2]; 2]| {
            let mut trials = vec![trial(Tier::Subgroups, USUAL, MANY, Some(2.0))];
            for (tier, seconds) in Tier::F16_TIERS.into_iter().zip(seconds) {
                for (side, seconds) in [64, 128].into_iter().zip(seconds) {
                    trials.push(trial(tier, TuneConfig { f16_tile_rows: side, ..USUAL }, MANY, seconds));
                }
            }
            let found = tune_result(&trials).unwrap();
            assert_eq!((found.tier, TuneConfig { f16_tile_rows: 64, ..found.config }), (Tier::Subgroups, USUAL));
            (found.f16, found.cooperative, found.config.f16_tile_rows, found.fastest())
        };
        use TuneOutcome::{Faster, Slower, Wrong};
        let [none, slow, slower] = [[None, None], [Some(3.0), Some(4.0)], [Some(5.0), Some(4.0)]];
        let [one, two, three] = [[Some(1.5), Some(1.0)], [Some(1.9), None], [Some(1.8), Some(1.7)]];
        assert_eq!(found([none, one]), (Wrong, Faster, 128, Tier::Cooperative));
        assert_eq!(found([slow, two]), (Slower, Faster, 64, Tier::Cooperative));
        assert_eq!(found([two, three]), (Faster, Faster, 128, Tier::Cooperative));
        assert_eq!(found([one, two]), (Faster, Slower, 128, Tier::F16));
        assert_eq!(found([two, none]), (Faster, Wrong, 64, Tier::F16));
        assert_eq!(found([slow, slower]), (Slower, Slower, 64, Tier::Subgroups));
        assert_eq!(found([none, none]), (Wrong, Wrong, 64, Tier::Subgroups));
    }

    #[test]
    fn attention_by_small_matrices_must_be_right_and_faster() {
        let found = |attention: [Option<f64>; 2]| {
            let mut trials =
                vec![trial(Tier::Subgroups, USUAL, MANY, Some(2.0)), trial(Tier::Cooperative, USUAL, MANY, Some(1.0))];
            for (tier, seconds) in [Tier::Subgroups, Tier::Cooperative].into_iter().zip(attention) {
                trials.push(Trial { attends: true, ..trial(tier, USUAL, MANY, seconds) });
            }
            let found = tune_result(&trials).unwrap();
            assert_eq!((found.tier, found.cooperative), (Tier::Subgroups, TuneOutcome::Faster));
            found.config.cooperative_attention
        };
        assert!(found([Some(0.5), Some(0.4)]) && found([None, Some(0.4)]));
        assert!(!found([Some(0.5), Some(0.6)]) && !found([Some(0.5), None]));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let (halves, matrices) = (TuneOutcome::Slower, TuneOutcome::Faster);
        let tune_result = TuneResult { tier: Tier::Subgroups, config: USUAL, f16: halves, cooperative: matrices };
        let text = serde_json::to_string(&tune_result).unwrap();
        assert_eq!(serde_json::from_str::<TuneResult>(&text).unwrap(), tune_result);
    }
}
