//! How the threads of a GPU share the work of a product: numbers that nothing an adapter tells about itself foretells.
//! `plan::tune` measures which suit one; until then it gets what is usual for its kind.

use serde::{Deserialize, Serialize};

use super::Tier;

/// What measuring an adapter found; see `plan::tune`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneResult {
    /// The highest exact tier that is right.
    pub tier: Tier,
    /// The fastest layout.
    pub config: TuneConfig,
    /// What came of [`Tier::F16`].
    pub f16: TuneOutcome,
    /// What came of [`Tier::Cooperative`].
    pub cooperative: TuneOutcome,
}

impl TuneResult {
    /// What came of a tier that reads prompts in halves.
    pub fn of(&self, tier: Tier) -> TuneOutcome {
        match tier {
            Tier::F16 => self.f16,
            Tier::Cooperative => self.cooperative,
            _ => TuneOutcome::None,
        }
    }

    /// The fastest tier for those who ask for none.
    pub fn fastest(&self) -> Tier {
        let faster = |tier: &Tier| self.of(*tier) == TuneOutcome::Faster;
        Tier::F16_TIERS.into_iter().rfind(faster).unwrap_or(self.tier)
    }
}

/// Whether a tier that reads prompts in halves is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TuneOutcome {
    /// The adapter does not offer it.
    None,
    /// Products were wrong.
    Wrong,
    /// Products were right, and slower than those of a tier before it.
    Slower,
    /// Products were right, and faster than those of every tier before it.
    Faster,
}

/// See `shaders/matvec.wgsl` and `shaders/matmul.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TuneConfig {
    /// Threads that share a row of weights in a matvec: one, or as many as this if the row is long enough and subgroups are
    /// not larger.
    pub lanes: u32,
    /// Threads of a matvec's workgroup; at least `lanes`.
    pub threads: u32,
    /// Rows of weights that a thread of a matvec works on, for one token; at most 4.
    pub rows_per_lane: u32,
    /// Threads along either side of a matmul's tile of 64 by 64; not used on software adapters.
    pub tile_threads: u32,
    /// Weight rows of a tile of the kernels that read prompts in halves, 64 tokens wide.
    pub f16_tile_rows: u32,
    /// Whether small matrices make attention of prompts besides products, where [`Tier::Cooperative`] runs.
    pub cooperative_attention: bool,
}

impl TuneConfig {
    /// Real GPUs: a warp's worth of threads a row, a few rows each. Software: a thread a row.
    pub fn untuned(software: bool) -> Self {
        let (lanes, threads) = if software { (1, 32) } else { (32, 128) };
        TuneConfig { lanes, threads, rows_per_lane: 2, tile_threads: 8, f16_tile_rows: 64, cooperative_attention: true }
    }

    /// The ways to lay out a matvec that are worth a trial, what is usual first.
    pub fn gemv_candidates(software: bool) -> Vec<Self> {
        let usual = TuneConfig::untuned(software);
        let (lanes, threads): (&[u32], &[u32]) = if software { (&[1, 8], &[16, 64]) } else { (&[32, 64], &[64, 256]) };
        let with = |lanes: u32, threads: u32, rows: u32| TuneConfig { lanes, threads, rows_per_lane: rows, ..usual };
        let mut out = vec![usual];
        out.extend([1, 4].map(|rows| TuneConfig { rows_per_lane: rows, ..usual }));
        out.extend(lanes.iter().flat_map(|l| threads.iter().map(|t| with(*l, *t, usual.rows_per_lane))));
        out
    }

    /// The same with each way to lay out a matmul that is worth a trial.
    pub fn gemm_candidates(self, software: bool) -> Vec<Self> {
        let spans: &[u32] = if software { &[8] } else { &[8, 16] };
        spans.iter().map(|span| TuneConfig { tile_threads: *span, ..self }).collect()
    }

    /// The same with each way to lay out a matmul in halves that is worth a trial.
    pub fn f16_candidates(self) -> Vec<Self> {
        [64, 128].map(|side| TuneConfig { f16_tile_rows: side, ..self }).to_vec()
    }
}
