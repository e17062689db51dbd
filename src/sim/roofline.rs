//! Forecasts how long a step takes on a GPU that is not available: a roofline over the profiler's counts.
//!
//! The time of a dispatch is that of the busiest part of the GPU (memory, cache lines, lanes, banks of workgroup
//! memory, or matrix units) plus a constant overhead. The model assumes that a compute unit looks up one line of 128
//! bytes and serves one wavefront of workgroup memory per clock, and that each workgroup occupies one unit. It ignores
//! latency, occupancy, repeated cache misses, and the driver's optimizations: it says what bounds a kernel, and
//! measures nothing.

use super::{DispatchProfile, OperationClass};
use crate::caps::{Caps, Tier};

/// A GPU's published figures, with their source. `overhead` is an estimate.
#[derive(Clone, Copy, Debug)]
pub struct GpuModel {
    /// The name that `--on` takes.
    pub name: &'static str,
    /// The fewest and the most lanes of a subgroup.
    pub subgroup: (u32, u32),
    /// Compute units: SMs, CUs, Xe cores, cores.
    pub units: u32,
    /// f32 operations per unit and clock.
    pub lanes: u32,
    /// f16 multiply-adds per unit and clock in matrix units; 0 if WGSL cannot use them.
    pub matrix: u32,
    /// GHz.
    pub clock: f64,
    /// GB/s.
    pub bandwidth: f64,
    /// Microseconds from the end of a dispatch to the next one that depends on it.
    pub overhead: f64,
    /// Where the figures are from.
    pub source: &'static str,
}

/// GPUs of four vendors.
pub const GPU_MODELS: [GpuModel; 5] = [
    GpuModel {
        name: "rtx4090",
        subgroup: (32, 32),
        units: 128,
        lanes: 128,
        matrix: 256,
        clock: 2.52,
        bandwidth: 1008.0,
        overhead: 2.5,
        source: "NVIDIA Ada architecture whitepaper 2.01, appendix A: 128 SMs, 2.52 GHz, 165 TFLOPS of f16 with f32 sums",
    },
    GpuModel {
        name: "h200",
        subgroup: (32, 32),
        units: 132,
        lanes: 128,
        matrix: 2048,
        clock: 1.98,
        bandwidth: 4800.0,
        overhead: 2.5,
        source: "NVIDIA H200 data sheet: 4.8 TB/s, 67 TFLOPS of f32, 989 of f16; 132 SMs",
    },
    GpuModel {
        name: "rx7900xtx",
        subgroup: (32, 64),
        units: 96,
        lanes: 64,
        matrix: 256,
        clock: 2.5,
        bandwidth: 960.0,
        overhead: 2.5,
        source: "AMD's product page: 96 CUs, 6144 lanes (dual issue not counted), 2.5 GHz, 960 GB/s",
    },
    GpuModel {
        name: "a770",
        subgroup: (8, 32),
        units: 32,
        lanes: 128,
        matrix: 0,
        clock: 2.1,
        bandwidth: 560.0,
        overhead: 5.0,
        source: "Intel's product page: 32 Xe cores, 4096 lanes, 2.1 GHz, 560 GB/s",
    },
    GpuModel {
        name: "m3max",
        subgroup: (32, 32),
        units: 40,
        lanes: 128,
        matrix: 128,
        clock: 1.4,
        bandwidth: 400.0,
        overhead: 5.0,
        source: "Apple's product page: 40 cores, 400 GB/s; 5120 lanes at 1.398 GHz are reported by several tools",
    },
];

/// The part of the GPU that limits a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// Bytes of memory.
    Memory,
    /// Lines of the caches.
    Lines,
    /// Lanes.
    Lanes,
    /// Banks of workgroup memory.
    Banks,
    /// Matrix units.
    Matrix,
    /// The dispatch itself.
    Overhead,
}

impl BoundBy {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            BoundBy::Memory => "memory",
            BoundBy::Lines => "lines",
            BoundBy::Lanes => "lanes",
            BoundBy::Banks => "banks",
            BoundBy::Matrix => "matrix",
            BoundBy::Overhead => "overhead",
        }
    }
}

/// The forecast of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Seconds.
    pub seconds: f64,
    /// What limits it.
    pub bound_by: BoundBy,
}

impl GpuModel {
    /// The GPU of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        GPU_MODELS.iter().find(|gpu| gpu.name == name)
    }

    /// The capabilities that plans assume.
    pub fn caps(&self) -> Caps {
        let caps = Caps::baseline().tier(Tier::Subgroups).subgroup(self.subgroup).f16(true);
        let cooperative = if self.matrix == 0 { 0 } else { 16 };
        caps.cooperative(cooperative).workgroup_bytes(32 << 10).max_binding(2 << 30).max_buffer(2 << 30)
    }

    /// The forecast of a dispatch that moves at least `bytes` bytes.
    pub fn forecast(&self, profile: &DispatchProfile, bytes: u64) -> Forecast {
        let units = f64::from(self.units).min(profile.workgroups as f64).max(1.0);
        let clocks = units * self.clock * 1e9;
        let accesses = profile.all_accesses();
        // Inactive lanes cost as much as active ones.
        let idle = profile.lanes as f64 / profile.active_lanes.max(1) as f64;
        let operations = profile.operations.scalar() as f64 * idle;
        let products = profile.operations.of(OperationClass::Matrix) as f64;
        let matrix = f64::from(if self.matrix == 0 { self.lanes } else { self.matrix });
        let parts = [
            (BoundBy::Memory, bytes as f64 / (self.bandwidth * 1e9)),
            (BoundBy::Lines, accesses.lines as f64 / clocks),
            (BoundBy::Lanes, operations / (f64::from(self.lanes) * clocks)),
            (BoundBy::Banks, accesses.wavefronts as f64 / clocks),
            (BoundBy::Matrix, products / (matrix * clocks)),
        ];
        let overhead = self.overhead * 1e-6;
        let (bound_by, longest) = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are parts");
        let bound_by = if longest > overhead { bound_by } else { BoundBy::Overhead };
        Forecast { seconds: longest + overhead, bound_by }
    }
}
