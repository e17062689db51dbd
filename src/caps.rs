//! An adapter's capabilities, the kernel tiers, and the kernel parameters that tuning selects. Plain data: `gpu` fills
//! it, `ops` and `plan` read it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::setters::setters;

/// A set of kernels. Each tier needs features of the adapter, and falls back to the tier below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Tier {
    /// WebGPU's guaranteed features and limits: no subgroups, no f16 arithmetic, 8 storage buffers, 16 KiB of
    /// workgroup memory, 256 invocations.
    Baseline,
    /// Reductions through subgroup operations.
    Subgroups,
    /// Not exact: prefill uses 16-bit arithmetic, with weights and activations rounded to f16. Everything else is as in
    /// the highest exact tier. `plan::tune` selects it where it was measured to be right and faster.
    F16,
    /// Not exact, so it runs only on request: activations that quantized weights are multiplied by are rounded to 8
    /// bits, and dot products of four are one instruction (DP4A). Everything else is as in the highest exact tier.
    Int8,
    /// As [`Tier::F16`], with cooperative matrices (tensor cores), which sum in 32 bits.
    Cooperative,
}

impl Tier {
    /// Every tier, lowest first.
    pub const ALL: [Tier; 5] = [Tier::Baseline, Tier::Subgroups, Tier::F16, Tier::Int8, Tier::Cooperative];

    /// The f16 prefill tiers, the simpler one first.
    pub const F16_TIERS: [Tier; 2] = [Tier::F16, Tier::Cooperative];

    /// The name used by `--tier`.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Baseline => "baseline",
            Tier::Subgroups => "subgroups",
            Tier::F16 => "f16",
            Tier::Int8 => "int8",
            Tier::Cooperative => "cooperative",
        }
    }

    /// Whether results are exact but for the order of sums.
    pub fn exact(self) -> bool {
        self <= Tier::Subgroups
    }

    /// The tier of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The capabilities of an adapter that matter to kernels and plans.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Caps {
    /// The tier whose kernels run.
    pub tier: Tier,
    /// Smallest and largest subgroup of the adapter; 0 where it has no subgroup operations.
    pub subgroup: (u32, u32),
    /// Whether kernels may use f16 arithmetic.
    pub f16: bool,
    /// Side of the cooperative matrices of f16 that a subgroup multiplies, summed in 32 bits: 8 or 16; 0 where it
    /// cannot.
    pub cooperative: u32,
    /// A CPU implementation (lavapipe, SwiftShader, WARP): few threads that each do much suit it best.
    pub software: bool,
    /// Kernel parameters, if the adapter was tuned; see [`Caps::tune_config`].
    pub tuned: Option<TuneConfig>,
    /// Bytes of workgroup memory, as far as kernels care.
    pub workgroup_bytes: u32,
    /// Largest storage binding in bytes; see [`Caps::bindable`].
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Largest number of workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Whether passes can be timed.
    pub timestamps: bool,
    /// Free bytes, if known: software adapters use host memory.
    pub memory: Option<u64>,
}

setters!(Caps {
    tier: Tier,
    subgroup: (u32, u32),
    f16: bool,
    cooperative: u32,
    software: bool,
    tuned: impl Into<Option<TuneConfig>>,
    workgroup_bytes: u32,
    max_binding: u64,
    max_buffer: u64,
    max_workgroups: u32,
    timestamps: bool,
    memory: impl Into<Option<u64>>,
});

impl Caps {
    /// The smallest device that WebGPU allows; every kernel of the baseline tier must run on it.
    pub fn baseline() -> Self {
        Caps {
            tier: Tier::Baseline,
            subgroup: (0, 0),
            f16: false,
            cooperative: 0,
            software: false,
            tuned: None,
            workgroup_bytes: 16 << 10,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_workgroups: 65535,
            timestamps: false,
            memory: None,
        }
    }

    /// The largest range that a kernel can bind, in bytes: no binding exceeds its buffer.
    pub fn bindable(&self) -> u64 {
        self.max_binding.min(self.max_buffer)
    }

    /// Whether kernels may use subgroup operations.
    pub fn subgroups(&self) -> bool {
        self.tier >= Tier::Subgroups && self.subgroup != (0, 0)
    }

    /// The highest exact tier.
    pub fn exact_tier(&self) -> Tier {
        if self.subgroup == (0, 0) { Tier::Baseline } else { Tier::Subgroups }
    }

    /// Why a tier cannot run here; `None` if it can.
    pub fn lacks(&self, tier: Tier) -> Option<&'static str> {
        match tier {
            Tier::Subgroups if self.subgroup == (0, 0) => {
                Some("the adapter or its interface does not offer subgroup operations")
            }
            Tier::F16 if !self.f16 => Some("the adapter or its interface does not offer arithmetic of 16 bits"),
            Tier::Cooperative if self.cooperative == 0 => {
                Some("the adapter or its interface does not offer cooperative matrices of 8 or 16 f16 values a side")
            }
            _ => None,
        }
    }

    /// Kernel parameters: as tuned, or the defaults of its kind.
    pub fn tune_config(&self) -> TuneConfig {
        self.tuned.unwrap_or(TuneConfig::untuned(self.software))
    }
}

/// The result of tuning an adapter; see `plan::tune`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TuneResult {
    /// The highest exact tier with correct results.
    pub tier: Tier,
    /// The fastest kernel parameters.
    pub config: TuneConfig,
    /// The outcome of [`Tier::F16`].
    pub f16: TuneOutcome,
    /// The outcome of [`Tier::Cooperative`].
    pub cooperative: TuneOutcome,
}

impl TuneResult {
    /// The outcome of an f16 prefill tier.
    pub fn of(&self, tier: Tier) -> TuneOutcome {
        match tier {
            Tier::F16 => self.f16,
            Tier::Cooperative => self.cooperative,
            _ => TuneOutcome::None,
        }
    }

    /// The fastest tier, for callers that ask for none.
    pub fn fastest(&self) -> Tier {
        let faster = |tier: &Tier| self.of(*tier) == TuneOutcome::Faster;
        Tier::F16_TIERS.into_iter().rfind(faster).unwrap_or(self.tier)
    }
}

/// The outcome of tuning an f16 prefill tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TuneOutcome {
    /// The adapter does not offer it.
    None,
    /// Results were wrong.
    Wrong,
    /// Correct, but slower than an earlier tier.
    Slower,
    /// Correct, and faster than every earlier tier.
    Faster,
}

/// Kernel parameters that tuning measures, because they cannot be derived from what an adapter reports. See
/// `shaders/matvec.wgsl` and `shaders/matmul.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TuneConfig {
    /// Threads that share a row of weights in a matvec: one, or as many as this if the row is long enough and subgroups
    /// are not larger.
    pub lanes: u32,
    /// Threads of a matvec's workgroup; at least `lanes`.
    pub threads: u32,
    /// Rows of weights that a thread of a matvec works on, for one token; at most 4.
    pub rows_per_lane: u32,
    /// Threads along either side of a matmul's tile of 64 by 64; not used on software adapters.
    pub tile_threads: u32,
    /// Weight rows of a tile of the f16 and cooperative matmuls, 64 tokens wide.
    pub f16_tile_rows: u32,
    /// Whether prefill attention uses cooperative matrices too, where [`Tier::Cooperative`] runs.
    pub cooperative_attention: bool,
}

impl TuneConfig {
    /// The defaults. GPUs: a warp per row, a few rows each. Software adapters: a thread per row.
    pub fn untuned(software: bool) -> Self {
        let (lanes, threads) = if software { (1, 32) } else { (32, 128) };
        TuneConfig { lanes, threads, rows_per_lane: 2, tile_threads: 8, f16_tile_rows: 64, cooperative_attention: true }
    }

    /// The GEMV parameters worth trying, the untuned ones first.
    pub fn gemv_candidates(software: bool) -> Vec<Self> {
        let usual = TuneConfig::untuned(software);
        let (lanes, threads): (&[u32], &[u32]) = if software { (&[1, 8], &[16, 64]) } else { (&[32, 64], &[64, 256]) };
        let with = |lanes: u32, threads: u32, rows: u32| TuneConfig { lanes, threads, rows_per_lane: rows, ..usual };
        let mut out = vec![usual];
        out.extend([1, 4].map(|rows| TuneConfig { rows_per_lane: rows, ..usual }));
        out.extend(lanes.iter().flat_map(|l| threads.iter().map(|t| with(*l, *t, usual.rows_per_lane))));
        out
    }

    /// The same with each GEMM parameter worth trying.
    pub fn gemm_candidates(self, software: bool) -> Vec<Self> {
        let spans: &[u32] = if software { &[8] } else { &[8, 16] };
        spans.iter().map(|span| TuneConfig { tile_threads: *span, ..self }).collect()
    }

    /// The same with each parameter of the f16 matmuls worth trying.
    pub fn f16_candidates(self) -> Vec<Self> {
        [64, 128].map(|side| TuneConfig { f16_tile_rows: side, ..self }).to_vec()
    }
}
