//! The device of op tests: the adapter, or the simulator of kernels.
//!
//! `FIRELIGHT_SIMULATE=32` selects the simulator with subgroups of 32 lanes (4 to 128); with `8-32`, kernels use 32, 16
//! and 8 in turn. The simulator has every tier and interleaves subgroups at random; a finding of its sanitizer fails the
//! test.

use super::gpu;
use firelight::gpu::{Caps, Tier};
use firelight::graph::{StepInput, TensorId};
use firelight::ops::StepSizes;
use firelight::plan::{DispatchList, Plan};
use std::sync::OnceLock;

/// The range of lanes of the simulator's subgroups, if tests run on it.
fn simulated_subgroup() -> Option<(u32, u32)> {
    let lanes = std::env::var("FIRELIGHT_SIMULATE").ok()?;
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("FIRELIGHT_SIMULATE={lanes}: lanes, or MIN-MAX"));
    let (min, max) = lanes.split_once('-').unwrap_or((&lanes, &lanes));
    Some((number(min), number(max)))
}

/// The capabilities of the tests' device.
pub fn caps() -> &'static Caps {
    static CAPS: OnceLock<Caps> = OnceLock::new();
    CAPS.get_or_init(|| match simulated_subgroup() {
        None => gpu().caps().clone(),
        Some(subgroup) => {
            // Cooperative kernels have four subgroups in a workgroup, which may have 256 invocations.
            let cooperative = if subgroup.1 > 64 { 0 } else { 8 };
            let caps = Caps::baseline().tier(Tier::Subgroups).subgroup(subgroup);
            caps.f16(true).cooperative(cooperative).workgroup_bytes(32 << 10)
        }
    })
}

/// A dispatch list on the tests' device.
pub enum TestPlan {
    Device(Box<Plan>),
    #[cfg(feature = "simulate")]
    Simulated(Box<firelight::sim::SimulatedPlan>),
}

#[cfg(feature = "simulate")]
fn simulated(dispatch_list: DispatchList, subgroup: (u32, u32)) -> Result<TestPlan, String> {
    Ok(TestPlan::Simulated(Box::new(firelight::sim::SimulatedPlan::new(dispatch_list, subgroup))))
}

#[cfg(not(feature = "simulate"))]
fn simulated(_: DispatchList, _: (u32, u32)) -> Result<TestPlan, String> {
    Err("FIRELIGHT_SIMULATE needs the feature simulate".into())
}

impl TestPlan {
    pub fn new(dispatch_list: DispatchList) -> Result<Self, String> {
        match simulated_subgroup() {
            Some(subgroup) => simulated(dispatch_list, subgroup),
            None => match pollster::block_on(Plan::compile(gpu(), dispatch_list)) {
                Ok(plan) => Ok(TestPlan::Device(Box::new(plan))),
                Err(e) => Err(e.to_string()),
            },
        }
    }

    /// The tensor of one of the engine's inputs, if the graph uses it.
    pub fn input(&self, input: StepInput) -> Option<TensorId> {
        match self {
            TestPlan::Device(plan) => plan.input(input),
            #[cfg(feature = "simulate")]
            TestPlan::Simulated(plan) => plan.input(input),
        }
    }

    pub fn dispatch_list(&self) -> &DispatchList {
        match self {
            TestPlan::Device(plan) => plan.dispatch_list(),
            #[cfg(feature = "simulate")]
            TestPlan::Simulated(plan) => plan.dispatch_list(),
        }
    }

    pub fn write(&mut self, id: TensorId, offset: u64, data: &[u8]) {
        match self {
            TestPlan::Device(plan) => plan.write(id, offset, data),
            #[cfg(feature = "simulate")]
            TestPlan::Simulated(plan) => plan.write(id, offset, data),
        }
    }

    pub fn write_input(&mut self, input: StepInput, offset: u64, data: &[u8]) {
        match self {
            TestPlan::Device(plan) => plan.write_input(input, offset, data),
            #[cfg(feature = "simulate")]
            TestPlan::Simulated(plan) => plan.write_input(input, offset, data),
        }
    }

    pub fn write_rows(&mut self, id: TensorId, row: u32, data: &[u8]) {
        match self {
            TestPlan::Device(plan) => plan.write_rows(id, row, data),
            #[cfg(feature = "simulate")]
            TestPlan::Simulated(plan) => plan.write_rows(id, row, data),
        }
    }

    pub fn read(&self, id: TensorId, bytes: u64) -> Result<Vec<u8>, String> {
        match self {
            TestPlan::Device(plan) => pollster::block_on(plan.read(id, bytes)).map_err(|e| e.to_string()),
            #[cfg(feature = "simulate")]
            TestPlan::Simulated(plan) => Ok(plan.read(id, bytes)),
        }
    }

    /// Runs a step; whatever the sanitizer finds is an error, except that rows past the end are written twice: see
    /// `shaders/matmul_rows.wgsl`.
    pub fn run(&mut self, sizes: &StepSizes) -> Result<(), String> {
        match self {
            TestPlan::Device(plan) => pollster::block_on(plan.run(sizes)).map_err(|e| e.to_string()),
            #[cfg(feature = "simulate")]
            TestPlan::Simulated(plan) => {
                use firelight::sim::{FindingKind, SimulationOptions};
                let options = SimulationOptions { seed: Some(1), sanitize: true, ..Default::default() };
                for dispatch in plan.run(sizes, options)? {
                    let mut findings = dispatch.report.findings.iter();
                    if let Some(finding) = findings.find(|f| f.kind != FindingKind::RedundantWrite) {
                        let file = plan.dispatch_list().kernels[dispatch.kernel].1.source.file;
                        return Err(format!("{file}: {finding:?}"));
                    }
                }
                Ok(())
            }
        }
    }
}
