//! Forecasts the time of a dispatch on a GPU that is not available: a roofline over the profiler's counts.
//!
//! The time is that of the busiest part of the GPU (memory, cache lines, lanes, banks of workgroup memory, or matrix
//! units) plus a constant overhead. The model assumes that a unit looks up one line of 128 bytes and serves one
//! wavefront of workgroup memory per clock, and that each workgroup occupies one unit. It ignores latency, occupancy,
//! repeated cache misses, and the driver's optimizations. A forecast shows what limits a kernel; it is not a
//! measurement.

use super::{DispatchProfile, GpuModel, OperationClass};

/// The part of the GPU that limits a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// Memory bandwidth.
    Memory,
    /// Cache lines.
    Lines,
    /// Operations of all classes.
    Issue,
    /// Integer operations.
    Integer,
    /// Conversions.
    Convert,
    /// Transcendental operations.
    Transcendental,
    /// Banks of workgroup memory.
    Banks,
    /// Matrix units.
    Matrix,
    /// The overhead of the dispatch.
    Overhead,
}

impl BoundBy {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            BoundBy::Memory => "memory",
            BoundBy::Lines => "lines",
            BoundBy::Issue => "issue",
            BoundBy::Integer => "integer",
            BoundBy::Convert => "convert",
            BoundBy::Transcendental => "transcendental",
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
    /// The seconds in which memory can move `bytes` bytes: the speed of light of a dispatch that must move them.
    pub fn memory_seconds(&self, bytes: u64) -> f64 {
        bytes as f64 / (self.bandwidth * 1e9)
    }

    /// The forecast of a dispatch that must move at least `bytes` bytes.
    pub fn forecast(&self, profile: &DispatchProfile, bytes: u64) -> Forecast {
        let units = f64::from(self.units).min(profile.workgroups as f64).max(1.0);
        let clocks = units * self.clock * 1e9;
        let accesses = profile.all_accesses();
        // Inactive lanes take as long as active ones.
        let idle = profile.lanes as f64 / profile.active_lanes.max(1) as f64;
        let lanes = |operations: u64, rate: u32| operations as f64 * idle / (f64::from(rate) * clocks);
        let (operations, rates) = (&profile.operations, &self.rates);
        let of = |class| operations.of(class);
        let parts = [
            (BoundBy::Memory, self.memory_seconds(bytes)),
            (BoundBy::Lines, accesses.lines as f64 / clocks),
            (BoundBy::Issue, lanes(operations.scalar(), rates.issue)),
            (BoundBy::Integer, lanes(operations.integer(), rates.integer)),
            (BoundBy::Convert, lanes(of(OperationClass::Convert), rates.convert)),
            (BoundBy::Transcendental, lanes(of(OperationClass::Transcendental), rates.transcendental)),
            (BoundBy::Banks, accesses.wavefronts as f64 / clocks),
            (BoundBy::Matrix, of(OperationClass::Matrix) as f64 / (f64::from(rates.matrix) * clocks)),
        ];
        let overhead = self.overhead * 1e-6;
        let (bound_by, longest) = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are parts");
        let bound_by = if longest > overhead { bound_by } else { BoundBy::Overhead };
        Forecast { seconds: longest + overhead, bound_by }
    }
}
