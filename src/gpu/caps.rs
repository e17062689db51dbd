//! What an adapter can do, as far as kernels and plans care, and which set of kernels runs: plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TuneConfig;

/// Which set of kernels runs. Each tier needs what its adapter must offer and falls back to the one below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// WebGPU's guaranteed features and limits: no subgroups, no f16 arithmetic, 8 storage buffers, 16 KiB of
    /// workgroup memory, 256 invocations.
    Baseline,
    /// Reductions through subgroup operations.
    Subgroups,
    /// Not exact: prompts are read in arithmetic of 16 bits, with weights and what they are multiplied by rounded to halves. All
    /// else is as in the highest exact tier. `plan::tune` takes it where it was measured to be right and faster.
    F16,
    /// Not exact, so it runs only where it is asked for: what quantized weights are multiplied by is rounded to 8 bits, and
    /// products of four are one instruction. All else is as in the highest exact tier.
    Int8,
    /// As [`Tier::F16`], by units for small matrices, which sum in 32 bits.
    Cooperative,
}

impl Tier {
    /// Every tier, lowest first.
    pub const ALL: [Tier; 5] = [Tier::Baseline, Tier::Subgroups, Tier::F16, Tier::Int8, Tier::Cooperative];

    /// Those that read prompts in halves, the simpler one first.
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

/// What an adapter can do, as far as kernels and plans care: plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// The tier whose kernels run.
    pub tier: Tier,
    /// Smallest and largest subgroup of the adapter; 0 where it has no subgroup operations.
    pub subgroup: (u32, u32),
    /// Whether kernels may calculate with halves.
    pub f16: bool,
    /// Side of the matrices of halves that a subgroup multiplies at once, summed in 32 bits: 8 or 16; 0 where it cannot.
    pub cooperative: u32,
    /// A processor that pretends to be a GPU (lavapipe, SwiftShader, WARP): few, fat threads suit it best.
    pub software: bool,
    /// How products are laid out, if that was measured; see [`Caps::layout`].
    pub tuned: Option<TuneConfig>,
    /// Bytes of memory that a workgroup may have, as far as kernels care.
    pub workgroup_bytes: u32,
    /// Largest storage binding in bytes; see [`Caps::bindable`].
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Largest number of workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Whether passes can be timed.
    pub timestamps: bool,
    /// Bytes that are free, where that can be known: software adapters live in the host's memory.
    pub memory: Option<u64>,
}

impl Caps {
    /// The smallest device that WebGPU allows; what every kernel must be content with.
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

    /// The most bytes that a kernel can be given at once: no binding is larger than its buffer.
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

    /// Why a tier cannot run here, if so.
    pub fn lacks(&self, tier: Tier) -> Option<&'static str> {
        match tier {
            Tier::Subgroups if self.subgroup == (0, 0) => {
                Some("the adapter or its interface does not offer subgroup operations")
            }
            Tier::F16 if !self.f16 => Some("the adapter or its interface does not offer arithmetic of 16 bits"),
            Tier::Cooperative if self.cooperative == 0 => {
                Some("the adapter or its interface does not offer to multiply matrices of 8 or 16 halves")
            }
            _ => None,
        }
    }

    /// How products are laid out: as measured, or as is usual.
    pub fn tune_config(&self) -> TuneConfig {
        self.tuned.unwrap_or(TuneConfig::untuned(self.software))
    }
}
