//! Which ways to multiply are right on a device, and which of those is fastest.
//!
//! Drivers differ in what suits them, and now and then one computes what it should not. So each way is first held against
//! what the product means, on the CPU, and timed only if it is right. What was found is kept for the adapter, its driver
//! and this version: it is measured once. Software adapters are all alike, and are measured only where that is asked for.

use super::measure::{Alone, TABLE, measured_matrix};
use crate::dtype::DType;
use crate::gpu::{Caps, Card, Gpu, GpuOptions, Layout, Matrices, Tier, Verdict};
use crate::graph::Input;
use crate::ops::{StepSizes, linear};
use crate::{Error, Result};

/// Of the weights: the type that most files are made of.
const TYPE: DType = DType::Q4K;
/// Rows of a prompt.
const MANY: u32 = 512;
/// What a right product may differ by, of the root mean square: sums are in another order, and a tier that is not exact
/// rounds each product by 2^-10 of it at most.
fn tolerance(tier: Tier) -> f64 {
    if tier.exact() { 1e-4 } else { 5e-3 }
}

/// What came of one way to multiply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The tier whose kernels ran.
    pub tier: Tier,
    /// How they were laid out.
    pub layout: Layout,
    /// Rows that were multiplied.
    pub rows: u32,
    /// The largest difference from what is right, of its root mean square.
    pub error: f64,
    /// Seconds; none if it was wrong.
    pub seconds: Option<f64>,
}

/// Opens a device as [`Gpu::open`] does, and lays its kernels out as suits it: as was found before, or is found now if it
/// is a real GPU, which takes a second or two. Where no tier is asked for, [`Tier::Cooperative`] is taken if it was found to
/// be right and faster.
///
/// # Errors
/// As [`Gpu::open`] and [`tune`]; [`Error::Usage`] if a tier is asked for that was found to be wrong.
pub async fn open(options: &GpuOptions) -> Result<Gpu> {
    let gpu = Gpu::open(options).await?;
    let gpu = match kept(gpu.card()) {
        Some(verdict) => gpu.found(verdict),
        None if Card::KEEPS && !gpu.caps().software => tune(gpu).await?.0,
        None => gpu,
    };
    let matrices = gpu.card().verdict.map(|verdict| verdict.matrices);
    match options.tier {
        None if matrices == Some(Matrices::Faster) => Ok(gpu.in_tier(Tier::Cooperative)),
        Some(tier @ Tier::Cooperative) if matrices == Some(Matrices::Wrong) || gpu.caps().lacks(tier).is_some() => {
            let name = &gpu.card().name;
            Err(Error::Usage(format!("the tier {tier} computed wrong results on {name}; leave --tier out")))
        }
        _ => Ok(gpu),
    }
}

/// Every adapter, as [`Gpu::list`], with what was found for it before.
pub async fn list() -> Vec<Card> {
    let mut cards = Gpu::list().await;
    for card in &mut cards {
        if let Some(verdict) = kept(card) {
            card.found(verdict);
        }
    }
    cards
}

/// What was found for an adapter before, by this version and with its driver of today.
fn kept(card: &Card) -> Option<Verdict> {
    serde_json::from_str(&card.recall()?).ok()
}

/// Finds what suits a device, and keeps it. The device laid out so, and what was tried.
///
/// # Errors
/// [`Error::Gpu`] if nothing computes what it should, or if the device is lost; [`Error::Memory`] if it has not enough
/// memory for a matrix of 75 MB.
pub async fn tune(gpu: Gpu) -> Result<(Gpu, Vec<Trial>)> {
    let trials = trials(&gpu, gpu.caps(), measured_matrix(gpu.caps())).await?;
    let Some(verdict) = verdict(&trials) else {
        let (name, error) = (&gpu.card().name, trials.iter().map(|trial| trial.error).fold(0.0, f64::max));
        let message =
            format!("{name} computes wrong results (off by {error:.0e}); update its driver, or choose another");
        return Err(Error::Gpu(format!("{message} with --device")));
    };
    if let Ok(text) = serde_json::to_string(&verdict) {
        gpu.card().keep(&text);
    }
    Ok((gpu.found(verdict), trials))
}

/// Tries the exact tiers of a device that can do what `caps` say, from the highest down to one that is right, and then that
/// of small matrices, with a matrix of so many rows and columns.
///
/// # Errors
/// If the device has not enough memory, or is lost.
pub async fn trials(gpu: &Gpu, caps: &Caps, matrix: (u32, u32)) -> Result<Vec<Trial>> {
    let expected = Expected::new(matrix.1);
    let tiers = if caps.subgroups() { &[Tier::Subgroups, Tier::Baseline][..] } else { &[Tier::Baseline] };
    let with = |tier, layout| Caps { tier, measured: Some(layout), ..caps.clone() };
    let mut trials = Vec::new();
    for tier in tiers {
        for layout in Layout::matvecs(caps.software) {
            trials.push(trial(gpu, &with(*tier, layout), matrix, &expected, 1).await?);
        }
        let Some(best) = fastest(&trials, *tier, 1) else { continue };
        for layout in best.layout.matmuls(caps.software) {
            trials.push(trial(gpu, &with(*tier, layout), matrix, &expected, MANY).await?);
        }
        if verdict(&trials).is_some() {
            break;
        }
    }
    let found = verdict(&trials).filter(|found| found.tier == Tier::Subgroups && caps.cooperative != 0);
    for layout in found.map(|found| found.layout.cooperative()).unwrap_or_default() {
        trials.push(trial(gpu, &with(Tier::Cooperative, layout), matrix, &expected, MANY).await?);
    }
    Ok(trials)
}

/// What follows from trials: the highest exact tier that is right, and the fastest layout of its matmuls, which is that of
/// the fastest matvec too; and whether small matrices are right and faster.
pub fn verdict(trials: &[Trial]) -> Option<Verdict> {
    let of = |tier| fastest(trials, tier, MANY);
    let exact = of(Tier::Subgroups).or_else(|| of(Tier::Baseline))?;
    let tried = trials.iter().any(|trial| trial.tier == Tier::Cooperative);
    let (matrices, side) = match of(Tier::Cooperative) {
        Some(best) if best.seconds < exact.seconds => (Matrices::Faster, best.layout.side),
        Some(best) => (Matrices::Slower, best.layout.side),
        None => (if tried { Matrices::Wrong } else { Matrices::None }, exact.layout.side),
    };
    Some(Verdict { tier: exact.tier, layout: Layout { side, ..exact.layout }, matrices })
}

/// Of the trials that were right.
fn fastest(trials: &[Trial], tier: Tier, rows: u32) -> Option<&Trial> {
    let of = trials.iter().filter(|trial| (trial.tier, trial.rows) == (tier, rows));
    let right = of.filter_map(|trial| Some((trial.seconds?, trial)));
    right.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, trial)| trial)
}

async fn trial(gpu: &Gpu, caps: &Caps, matrix: (u32, u32), expected: &Expected, rows: u32) -> Result<Trial> {
    let wrong = Trial { tier: caps.tier, layout: caps.layout(), rows, error: f64::INFINITY, seconds: None };
    let alone = match Alone::compile(gpu, caps, TYPE, matrix, (rows, 1)).await {
        // A driver that cannot compile a kernel lacks it; one that is gone lacks everything.
        Err(Error::Gpu(why)) if gpu.check().is_ok() => {
            tracing::debug!("{}: {why}", caps.tier);
            return Ok(wrong);
        }
        alone => alone?,
    };
    let error = expected.error(&alone, rows).await?;
    let right = error <= tolerance(caps.tier);
    let seconds = if right { Some(alone.cost(rows).await?.seconds) } else { None };
    Ok(Trial { error, seconds, ..wrong })
}

/// What is multiplied, and what must come of it. Only the first rows of the matrix, as many as the table has, are not zero:
/// all that is multiplied is timed, but little need be computed on the CPU.
struct Expected {
    /// (TABLE, k)
    matrix: Vec<u8>,
    /// (TABLE, k) of f32
    table: Vec<u8>,
    /// (TABLE, TABLE)
    y: Vec<f32>,
}

impl Expected {
    fn new(k: u32) -> Self {
        // A linear congruential generator of Knuth's (MMIX), of which the upper half is good enough here.
        let mut state = 0u64;
        let mut rng = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 32) as u32
        };
        let count = (TABLE * k) as usize;
        let bytes = |dtype: DType| vec![0; count / dtype.block_len() * dtype.block_bytes()];
        let (mut matrix, mut table) = (bytes(TYPE), bytes(DType::F32));
        TYPE.random_blocks(&mut rng, &mut matrix, 1.0);
        DType::F32.random_blocks(&mut rng, &mut table, 1.0);
        let mut weights = vec![0.0; count];
        TYPE.dequantize(&matrix, &mut weights);
        let y = linear::reference(&bytemuck::pod_collect_to_vec(&table), &weights, k as usize, None, None);
        Expected { matrix, table, y }
    }

    /// The largest difference of the product of the first rows, of the root mean square of what is right.
    async fn error(&self, alone: &Alone, rows: u32) -> Result<f64> {
        let plan = &alone.plan;
        plan.write_rows(alone.weight, 0, &self.matrix);
        plan.write_rows(alone.table, 0, &self.table);
        let tokens: Vec<[u32; 4]> = (0..rows).map(|row| [row % TABLE, 0, 0, 0]).collect();
        plan.write_input(Input::Rows, 0, bytemuck::cast_slice(&tokens));
        plan.run(&StepSizes { rows, logits: 1, ..Default::default() }).await?;
        let n = plan.listing().graph.cols(alone.y);
        let bytes = plan.read(alone.y, u64::from(rows.min(TABLE) * n) * 4).await?;
        let y: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let squares: f64 = self.y.iter().map(|want| f64::from(*want).powi(2)).sum();
        let rms = (squares / self.y.len() as f64).sqrt();
        let mut worst = 0.0;
        for (row, want) in y.chunks_exact(n as usize).zip(self.y.chunks_exact(TABLE as usize)) {
            let wanted = want.iter().copied().chain(std::iter::repeat(0.0));
            for (got, want) in row.iter().zip(wanted) {
                let off = f64::from((got - want).abs()) / rms;
                // Not a number is as far off as can be.
                worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
            }
        }
        Ok(worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Layout = Layout { lanes: 32, threads: 128, rows: 2, span: 8, side: 64 };

    fn trial(tier: Tier, layout: Layout, rows: u32, seconds: Option<f64>) -> Trial {
        Trial { tier, layout, rows, error: if seconds.is_some() { 1e-6 } else { 0.5 }, seconds }
    }

    #[test]
    fn the_fastest_right_layout_of_the_highest_right_tier_is_taken() {
        let (other, matrices) = (Layout { span: 16, ..USUAL }, Matrices::None);
        let mut trials = vec![
            trial(Tier::Subgroups, USUAL, 1, Some(1.0)),
            trial(Tier::Subgroups, USUAL, MANY, Some(3.0)),
            trial(Tier::Subgroups, other, MANY, Some(2.0)),
            trial(Tier::Baseline, USUAL, MANY, Some(1.0)),
        ];
        assert_eq!(verdict(&trials), Some(Verdict { tier: Tier::Subgroups, layout: other, matrices }));
        trials[2] = trial(Tier::Subgroups, other, MANY, None);
        assert_eq!(verdict(&trials), Some(Verdict { tier: Tier::Subgroups, layout: USUAL, matrices }));
        trials[1] = trial(Tier::Subgroups, USUAL, MANY, None);
        assert_eq!(verdict(&trials), Some(Verdict { tier: Tier::Baseline, layout: USUAL, matrices }));
        trials[3] = trial(Tier::Baseline, USUAL, MANY, None);
        assert_eq!(verdict(&trials), None);
    }

    #[test]
    fn small_matrices_must_be_right_and_faster() {
        let wide = Layout { side: 128, ..USUAL };
        let found = |seconds: [Option<f64>; 2]| {
            let [narrow, broad] = seconds;
            let trials = [
                trial(Tier::Subgroups, USUAL, MANY, Some(2.0)),
                trial(Tier::Cooperative, USUAL, MANY, narrow),
                trial(Tier::Cooperative, wide, MANY, broad),
            ];
            verdict(&trials).map(|found| (found.tier, found.layout, found.matrices))
        };
        assert_eq!(found([Some(1.5), Some(1.0)]), Some((Tier::Subgroups, wide, Matrices::Faster)));
        assert_eq!(found([Some(1.5), None]), Some((Tier::Subgroups, USUAL, Matrices::Faster)));
        assert_eq!(found([Some(3.0), Some(4.0)]), Some((Tier::Subgroups, USUAL, Matrices::Slower)));
        assert_eq!(found([None, None]), Some((Tier::Subgroups, USUAL, Matrices::Wrong)));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let verdict = Verdict { tier: Tier::Subgroups, layout: USUAL, matrices: Matrices::Faster };
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
    }
}
