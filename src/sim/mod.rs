//! A simulator of WGSL kernels: runs any kernel of the catalog with its real bindings on the CPU, checks it for races
//! and other errors, and counts its operations and memory accesses.
//!
//! ```text
//! WGSL text -> naga IR -> lower -> optimize -> allocate -> Program           one for each subgroup size
//! Program, buffers, grid -> dispatch -> execute (lanes, arithmetic, memory, cooperative)
//!                                        |-> sanitizer   races, uninitialized memory, bounds, divergence, NaNs
//!                                        |-> profile     operations, sectors and lines, bank conflicts, lanes
//! DispatchList -> plan (buffers, dispatches) -> step (counts of a step) -> roofline (forecast for one of gpus)
//! ```
//!
//! The lanes of a subgroup run in lockstep under an execution mask; the subgroups of a workgroup are interleaved in an
//! order that depends on a seed; workgroups run one after another. An instruction is decoded once per subgroup, not
//! once per lane.
//!
//! Counts are exact for the text, not for a driver's code: constants are folded and multiply-adds contracted, but
//! nothing is hoisted or unrolled, and loads are not joined. There are no caches and no latencies. No plan, tier or
//! kernel parameter may depend on the simulator.

mod allocate;
mod arithmetic;
mod cooperative;
mod dispatch;
mod execute;
mod gpus;
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
pub use gpus::{GPU_MODELS, GpuModel, OperationRates};
pub use memory::BoundRange;
pub use plan::{SimulatedDispatch, SimulatedPlan};
pub use profile::{AccessCounts, DispatchProfile, OperationClass, OperationCounts};
pub use program::Program;
pub use roofline::{BoundBy, Forecast};
pub use sanitizer::{AccessKind, Finding, FindingKind};
pub use step::KernelProfile;
