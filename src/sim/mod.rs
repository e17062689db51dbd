//! A simulator of WGSL kernels: runs any kernel of the catalog with its real bindings on the CPU, checks it for races
//! and other errors, and counts its operations and memory accesses.
//!
//! ```text
//! WGSL text -> naga IR -> lower -> optimize -> allocate -> Program           one for each width of subgroups
//! Program, buffers, grid -> dispatch -> execute (lanes, arithmetic, memory, cooperative)
//!                                        |-> sanitizer   races, unwritten memory, bounds, divergence, shifts, NaNs
//!                                        |-> profile     operations, sectors and lines, bank conflicts, lanes
//! DispatchList -> plan (memory, dispatches) -> step (counts of a step) -> roofline (a forecast for a GPU)
//! ```
//!
//! The lanes of a subgroup run in lockstep under an execution mask; the subgroups of a workgroup are interleaved by a
//! seeded scheduler; workgroups run one after another. Decoding an instruction therefore costs once per subgroup, not
//! once per lane. Subgroups have 4 to 128 lanes.
//!
//! Counts are exact for the text, not for a driver's code: constants are folded and products joined with sums, but
//! nothing is hoisted or unrolled, and loads are not joined. There are no caches and no time here.

mod allocate;
mod arithmetic;
mod cooperative;
mod dispatch;
mod execute;
mod lanes;
mod lower;
mod memory;
mod optimize;
mod plan;
mod profile;
mod program;
mod roofline;
mod sanitizer;
mod step;

pub use dispatch::{SimulationOptions, SimulationReport, dispatch};
pub use memory::BoundRange;
pub use plan::{SimulatedDispatch, SimulatedPlan};
pub use profile::{AccessCounts, DispatchProfile, OperationClass, OperationCounts};
pub use program::{Program, SimulatedVariable, VariableSpace};
pub use roofline::{BoundBy, Forecast, GPU_MODELS, GpuModel};
pub use sanitizer::{AccessKind, Finding, FindingKind};
pub use step::KernelProfile;
