//! Runs a dispatch: its workgroups one after another, the subgroups of a workgroup interleaved.
//!
//! With a seed, subgroups are preempted at memory accesses and resumed in a pseudo-random order, so the outcome of a
//! race varies with the seed, and a run can be repeated. Without a seed, each subgroup runs until it waits, which is
//! fastest.

use super::execute::DispatchState;
use super::lanes::{Subgroup, SubgroupState, lanes_of};
use super::memory::{BoundRange, VariablePlaces};
use super::profile::{DispatchProfile, Profiler};
use super::program::{BuiltinInput, Instruction, Program};
use super::sanitizer::{Finding, FindingKind, Sanitizer};

/// The most workgroups in a dimension of a grid: the limit that WebGPU guarantees, which most devices have.
const MAX_GRID: u32 = 65_535;
/// The default of [`SimulationOptions::max_instructions`].
const MAX_INSTRUCTIONS: u64 = 1 << 32;
/// The initial contents of workgroup memory: NaN as f32 and as f16.
const GARBAGE: u32 = 0xffff_ffff;

/// How a dispatch runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimulationOptions {
    /// Seed of the order of subgroups; `None` runs each until it waits.
    pub seed: Option<u64>,
    /// Run the sanitizer.
    pub sanitize: bool,
    /// Count operations and accesses.
    pub profile: bool,
    /// Run at most this many workgroups, sampled from the whole grid.
    pub max_workgroups: Option<u32>,
    /// Stop a workgroup that executes more instructions, and report an infinite loop; `None` is 2^32.
    pub max_instructions: Option<u64>,
}

/// The results of a dispatch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulationReport {
    /// Sorted by line; empty without [`SimulationOptions::sanitize`].
    pub findings: Vec<Finding>,
    /// All zero without [`SimulationOptions::profile`].
    pub profile: DispatchProfile,
    /// Executed instructions times the lanes of a subgroup.
    pub lane_operations: u64,
}

/// Runs a grid of workgroups. `bindings` has the range of each binding number.
///
/// # Errors
/// If a binding is missing, or the grid exceeds 65,535 workgroups in a dimension, as most devices allow.
pub fn dispatch(
    program: &Program,
    buffers: &mut [Vec<u32>],
    bindings: &[BoundRange],
    workgroups: [u32; 3],
    options: SimulationOptions,
) -> Result<SimulationReport, String> {
    if workgroups.iter().any(|count| *count > MAX_GRID) {
        return Err(format!("a grid of {workgroups:?} workgroups: devices allow {MAX_GRID} in a dimension"));
    }
    let places = VariablePlaces::new(program, bindings)?;
    let state = DispatchState {
        program,
        buffers,
        workgroup_memory: vec![GARBAGE; places.workgroup_words],
        places,
        sanitizer: options.sanitize.then(|| Sanitizer::new(program)),
        profile: options.profile.then(|| Profiler::new(program)),
        pc: 0,
    };
    let subgroups = (0..program.subgroups()).map(|number| Subgroup::new(program, number)).collect();
    let max_instructions = options.max_instructions.unwrap_or(MAX_INSTRUCTIONS);
    let mut running = RunningDispatch { state, subgroups, random: options.seed, workgroups, max_instructions };
    let all = u64::from(workgroups.iter().product::<u32>());
    let count = options.max_workgroups.map_or(all, |most| all.min(most.into()));
    let mut instructions = 0;
    for i in 0..count {
        instructions += running.workgroup(sampled_workgroup(i, count, all));
    }
    let DispatchState { sanitizer, profile, .. } = running.state;
    Ok(SimulationReport {
        findings: sanitizer.map(Sanitizer::findings).unwrap_or_default(),
        profile: profile.map(Profiler::finish).unwrap_or_default(),
        lane_operations: instructions * u64::from(program.width),
    })
}

/// Workgroup `i` of a sample of `count` out of `all`: one of each section of the grid, at uneven distances, so that the
/// sample is not aligned with a dimension of the grid.
fn sampled_workgroup(i: u64, count: u64, all: u64) -> u32 {
    let (first, end) = (i * all / count, (i + 1) * all / count);
    (first + i * 0x9E37_79B9 % (end - first)) as u32
}

struct RunningDispatch<'a> {
    state: DispatchState<'a>,
    subgroups: Vec<Subgroup>,
    /// State of the random number generator.
    random: Option<u64>,
    workgroups: [u32; 3],
    max_instructions: u64,
}

impl RunningDispatch<'_> {
    /// Runs a workgroup; returns the number of executed instructions.
    fn workgroup(&mut self, number: u32) -> u64 {
        let [x, y, _] = self.workgroups;
        let id = [number % x, number / x % y, number / x / y];
        self.state.workgroup_memory.fill(GARBAGE);
        if let Some(sanitizer) = &mut self.state.sanitizer {
            sanitizer.begin_workgroup();
        }
        if let Some(profile) = &mut self.state.profile {
            profile.workgroups += 1;
        }
        for i in 0..self.subgroups.len() {
            self.subgroups[i].restart();
            self.set_inputs(i, id);
        }
        let mut instructions = 0;
        while let Some(next) = self.next() {
            let max_accesses = if self.random.is_some() { self.random_below(16) } else { u32::MAX };
            instructions += self.state.run(&mut self.subgroups[next], max_accesses);
            if instructions > self.max_instructions {
                self.state.found(FindingKind::InfiniteLoop, || format!("workgroup {id:?}"));
                break;
            }
        }
        instructions
    }

    /// A subgroup that can run; if all wait, they first pass the barrier.
    fn next(&mut self) -> Option<usize> {
        let ready = |subgroup: &Subgroup| subgroup.state == SubgroupState::Ready;
        if !self.subgroups.iter().any(ready) {
            self.pass_barrier();
        }
        let all: Vec<usize> = (0..self.subgroups.len()).filter(|i| ready(&self.subgroups[*i])).collect();
        match all.len() as u32 {
            0 => None,
            _ if self.random.is_none() => Some(all[0]),
            count => Some(all[self.random_below(count) as usize]),
        }
    }

    fn pass_barrier(&mut self) {
        let waiting = |subgroup: &&mut Subgroup| subgroup.state == SubgroupState::AtBarrier;
        let Some(first) = self.subgroups.iter_mut().find(waiting).map(|subgroup| subgroup.pc) else { return };
        if let Some(other) = self.subgroups.iter().find(|subgroup| subgroup.pc != first) {
            let (pc, number) = (first - 1, other.number);
            self.state.pc = pc;
            self.state.found(FindingKind::DivergentBarrier, || format!("subgroup {number} does not reach it"));
        }
        self.subgroups.iter_mut().filter(waiting).for_each(|subgroup| subgroup.state = SubgroupState::Ready);
        if let (Some(sanitizer), Instruction::Barrier { workgroup, storage }) =
            (&mut self.state.sanitizer, &self.state.program.instructions[first - 1])
        {
            sanitizer.barrier(*workgroup, *storage);
        }
        if let Some(profile) = &mut self.state.profile {
            profile.barriers += 1;
        }
    }

    /// Sets the built-in inputs of a subgroup.
    fn set_inputs(&self, subgroup: usize, workgroup: [u32; 3]) {
        let program = self.state.program;
        let (size, subgroup) = (program.workgroup_size, &self.subgroups[subgroup]);
        let local = |invocation: u32, component: u8| match component {
            0 => invocation % size[0],
            1 => invocation / size[0] % size[1],
            _ => invocation / size[0] / size[1],
        };
        for (register, input) in &program.inputs {
            for lane in lanes_of(subgroup.lanes) {
                let invocation = subgroup.invocation(lane);
                let bits = match *input {
                    BuiltinInput::LocalInvocationIndex => invocation,
                    BuiltinInput::LocalInvocationId(i) => local(invocation, i),
                    BuiltinInput::GlobalInvocationId(i) => {
                        workgroup[i as usize] * size[i as usize] + local(invocation, i)
                    }
                    BuiltinInput::WorkgroupId(i) => workgroup[i as usize],
                    BuiltinInput::WorkgroupCount(i) => self.workgroups[i as usize],
                    BuiltinInput::SubgroupId => subgroup.number,
                    BuiltinInput::SubgroupSize => program.width,
                    BuiltinInput::SubgroupCount => program.subgroups(),
                    BuiltinInput::SubgroupInvocationId => lane as u32,
                };
                subgroup.set(*register, lane, bits);
            }
        }
    }

    /// A random number below `n`, of a small generator (splitmix64).
    fn random_below(&mut self, n: u32) -> u32 {
        let state = self.random.get_or_insert(0);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z >> 32) % u64::from(n)) as u32
    }
}
