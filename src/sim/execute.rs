//! Executes a subgroup, one instruction after another, until it waits, ends, or is preempted.

use super::arithmetic::{self, BinaryOp};
use super::cooperative;
use super::lanes::{Subgroup, SubgroupState, lanes_of};
use super::memory::VariablePlaces;
use super::profile::Profiler;
use super::program::{ElementCount, Instruction, Program, Register};
use super::sanitizer::{FindingKind, Sanitizer};

/// A subgroup is preempted after this many instructions at the latest.
const SLICE: u64 = 1 << 14;

/// The state that the subgroups of a dispatch share.
pub(super) struct DispatchState<'a> {
    pub program: &'a Program,
    pub buffers: &'a mut [Vec<u32>],
    pub places: VariablePlaces,
    pub workgroup_memory: Vec<u32>,
    pub sanitizer: Option<Sanitizer<'a>>,
    pub profile: Option<Profiler<'a>>,
    /// The current instruction.
    pub pc: usize,
}

impl DispatchState<'_> {
    /// Executes a subgroup until it waits, ends, has accessed memory `max_accesses` times, or has used up its time
    /// slice; returns the number of executed instructions.
    pub fn run(&mut self, subgroup: &mut Subgroup, max_accesses: u32) -> u64 {
        let (mut accesses, mut executed) = (0, 0);
        while subgroup.state == SubgroupState::Ready && executed < SLICE {
            self.pc = subgroup.pc;
            let instruction = &self.program.instructions[self.pc];
            if touches_memory(instruction) {
                if accesses == max_accesses {
                    break;
                }
                accesses += 1;
            }
            subgroup.pc += 1;
            executed += 1;
            if let Some(profile) = &mut self.profile {
                profile.instruction(self.pc, subgroup.mask);
            }
            self.execute(subgroup, instruction);
            if self.sanitizer.is_some() {
                self.check(subgroup, instruction);
            }
        }
        executed
    }

    fn execute(&mut self, subgroup: &mut Subgroup, instruction: &Instruction) {
        let register = |register: &Register| subgroup.register(*register);
        match instruction {
            Instruction::Unary { op, kind, dst, a } => arithmetic::unary(*op, *kind, register(dst), register(a)),
            Instruction::Binary { op, kind, dst, a, b } => {
                arithmetic::binary(*op, *kind, register(dst), register(a), register(b));
            }
            Instruction::Fma { op, kind, dst, a, b, c } => {
                arithmetic::fma(*op, *kind, register(dst), [a, b, c].map(register));
            }
            Instruction::Select { dst, condition, accept, reject } => {
                arithmetic::select(register(dst), register(condition), register(accept), register(reject));
            }
            Instruction::Convert { from, to, dst, a } => {
                arithmetic::convert(*from, *to, register(dst), register(a));
            }
            Instruction::DotPacked { signed, dst, a, b } => {
                arithmetic::dot_packed(*signed, register(dst), register(a), register(b));
            }
            Instruction::PackBytes { dst, parts } => {
                arithmetic::pack_bytes(register(dst), parts.each_ref().map(register));
            }
            Instruction::PackHalves { dst, parts } => {
                arithmetic::pack_halves(register(dst), parts.each_ref().map(register));
            }
            Instruction::Copy { dst, src } => {
                register(dst).iter().zip(register(src)).for_each(|(dst, src)| dst.set(src.get()));
            }
            Instruction::Assign { dst, src } => subgroup.assign(*dst, *src),
            Instruction::Pick { dst, choices, index } => {
                for lane in lanes_of(subgroup.mask) {
                    let choice = choices[subgroup.get(*index, lane) as usize];
                    subgroup.set(*dst, lane, subgroup.get(choice, lane));
                }
            }
            Instruction::Put { choices, index, src } => {
                for lane in lanes_of(subgroup.mask) {
                    let choice = choices[subgroup.get(*index, lane) as usize];
                    subgroup.set(choice, lane, subgroup.get(*src, lane));
                }
            }
            Instruction::Index { dst, base, index, stride, count } => {
                self.index(subgroup, [*dst, *base, *index], *stride, *count);
            }
            Instruction::ArrayLength { dst, stride, count } => {
                subgroup.fill(*dst, self.element_count(*count, *stride));
            }
            Instruction::Load { access, dst } => self.load(subgroup, access, dst),
            Instruction::Store { access, src } => self.store(subgroup, access, src),
            Instruction::Atomic { op, access, dst, operand, compare } => {
                self.atomic(subgroup, *op, access, [*dst, *operand, *compare]);
            }
            Instruction::Subgroup { op, kind, dst, a, lane } => {
                cooperative::subgroup_operation(subgroup, *op, *kind, [*dst, *a, *lane]);
            }
            Instruction::Ballot { dst, a } => cooperative::ballot(subgroup, dst, *a),
            Instruction::CooperativeLoad(access) => self.cooperative_load(subgroup, access),
            Instruction::CooperativeStore(access) => self.cooperative_store(subgroup, access),
            Instruction::CooperativeMultiplyAdd(product) => cooperative::multiply_add(subgroup, product),
            Instruction::Barrier { .. } => subgroup.state = SubgroupState::AtBarrier,
            Instruction::If { condition, otherwise } => subgroup.branch(*condition, *otherwise),
            Instruction::Else { end } => subgroup.otherwise(*end),
            Instruction::EndIf { end_of_block }
            | Instruction::EndSwitch { end_of_block }
            | Instruction::EndLoop { end_of_block } => subgroup.rejoin(*end_of_block),
            Instruction::Switch => subgroup.begin_switch(),
            Instruction::Loop => subgroup.begin_loop(),
            Instruction::Continuing { end } => subgroup.continuing(*end),
            Instruction::BreakIf { condition } => subgroup.break_if(*condition),
            Instruction::Repeat { start } => subgroup.repeat(*start),
            Instruction::Break => subgroup.leave_loop_or_switch(),
            Instruction::Continue => subgroup.continue_loop(),
            Instruction::Return => subgroup.leave_call(),
            Instruction::Call => subgroup.begin_call(),
            // All lanes that entered a call leave it together.
            Instruction::EndCall => subgroup.rejoin(subgroup.pc as u32),
            Instruction::End => subgroup.state = SubgroupState::Done,
            Instruction::Nop => {}
        }
    }

    fn index(&mut self, subgroup: &Subgroup, [dst, base, index]: [Register; 3], stride: u32, count: ElementCount) {
        let count = self.element_count(count, stride);
        let [to, base, from] = [dst, base, index].map(|register| subgroup.register(register));
        let most = count.saturating_sub(1);
        let mut beyond = false;
        for ((to, base), index) in to.iter().zip(base).zip(from) {
            beyond |= index.get() > most;
            to.set(base.get().wrapping_add(index.get().min(most).wrapping_mul(stride)));
        }
        if let (true, Some(sanitizer)) = (beyond || count == 0, &mut self.sanitizer) {
            for lane in lanes_of(subgroup.mask).filter(|lane| from[*lane].get() >= count) {
                let detail = || {
                    let (index, invocation) = (from[lane].get(), subgroup.invocation(lane));
                    format!("element {index} of {count}, invocation {invocation}")
                };
                sanitizer.found(self.pc, FindingKind::OutOfBounds, detail);
            }
        }
    }

    /// Runs the sanitizer's checks on an executed instruction.
    fn check(&mut self, subgroup: &Subgroup, instruction: &Instruction) {
        match instruction {
            Instruction::Barrier { .. } => self.check_converged(subgroup, FindingKind::DivergentBarrier),
            Instruction::Subgroup { .. }
            | Instruction::Ballot { .. }
            | Instruction::CooperativeLoad(_)
            | Instruction::CooperativeStore(_)
            | Instruction::CooperativeMultiplyAdd(_) => {
                self.check_converged(subgroup, FindingKind::DivergentSubgroupOperation);
            }
            Instruction::Unary { kind, dst, a, .. } if kind.is_float() => self.check_nan(subgroup, *dst, &[*a]),
            Instruction::Fma { dst, a, b, c, .. } => self.check_nan(subgroup, *dst, &[*a, *b, *c]),
            Instruction::Binary { op, kind, dst, a, b } => {
                if kind.is_float() && !arithmetic::is_comparison(*op) {
                    self.check_nan(subgroup, *dst, &[*a, *b]);
                }
                if matches!(op, BinaryOp::ShiftLeft | BinaryOp::ShiftRight) {
                    self.check_shift(subgroup, *b);
                }
            }
            _ => {}
        }
    }

    fn check_converged(&mut self, subgroup: &Subgroup, kind: FindingKind) {
        if !subgroup.converged() {
            self.found(kind, || format!("lanes {:#x} of {:#x}", subgroup.mask, subgroup.lanes));
        }
    }

    fn check_nan(&mut self, subgroup: &Subgroup, dst: Register, operands: &[Register]) {
        let value = |register: Register, lane| f32::from_bits(subgroup.get(register, lane));
        let new = |lane: &usize| {
            value(dst, *lane).is_nan() && operands.iter().all(|operand| value(*operand, *lane).is_finite())
        };
        if !subgroup.register(dst).iter().any(|lane| f32::from_bits(lane.get()).is_nan()) {
            return;
        }
        if let Some(lane) = lanes_of(subgroup.mask).find(new) {
            let operands: Vec<f32> = operands.iter().map(|operand| value(*operand, lane)).collect();
            let invocation = subgroup.invocation(lane);
            self.found(FindingKind::NanFromFinite, || format!("of {operands:?}, invocation {invocation}"));
        }
    }

    fn check_shift(&mut self, subgroup: &Subgroup, by: Register) {
        if let Some(lane) = lanes_of(subgroup.mask).find(|lane| subgroup.get(by, *lane) >= 32) {
            let (by, invocation) = (subgroup.get(by, lane), subgroup.invocation(lane));
            self.found(FindingKind::OversizedShift, || format!("by {by}, invocation {invocation}"));
        }
    }

    pub fn found(&mut self, kind: FindingKind, detail: impl FnOnce() -> String) {
        if let Some(sanitizer) = &mut self.sanitizer {
            sanitizer.found(self.pc, kind, detail);
        }
    }
}

fn touches_memory(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Load { .. }
            | Instruction::Store { .. }
            | Instruction::Atomic { .. }
            | Instruction::CooperativeLoad(_)
            | Instruction::CooperativeStore(_)
    )
}
