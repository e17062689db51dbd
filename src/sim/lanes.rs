//! A subgroup: its registers, its execution mask, and the stack of masks that the ends of branches, loops, switches and
//! calls restore.

use std::cell::Cell;

use super::arithmetic::Lanes;
use super::program::{Program, Register};

/// A set of lanes: bit n is lane n.
pub(super) type LaneMask = u128;

/// The lanes of a mask.
pub(super) fn lanes_of(mask: LaneMask) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (lane < 128).then_some(lane)
    })
}

/// The masks of an open branch, loop, switch or call.
struct MaskFrame {
    kind: FrameKind,
    /// The lanes that continue after it.
    after: LaneMask,
    /// Of a branch: the lanes whose condition does not hold. Of a loop: the lanes that executed `continue`.
    waiting: LaneMask,
}

#[derive(Clone, Copy, PartialEq)]
enum FrameKind {
    Branch,
    Loop,
    Switch,
    Call,
}

/// Whether a subgroup can run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum SubgroupState {
    Ready,
    AtBarrier,
    Done,
}

/// See the module.
pub(super) struct Subgroup {
    registers: Vec<Cell<u32>>,
    width: usize,
    /// Its number in the workgroup.
    pub number: u32,
    /// The existing lanes: the last subgroup of a workgroup may have fewer.
    pub lanes: LaneMask,
    /// The active lanes.
    pub mask: LaneMask,
    frames: Vec<MaskFrame>,
    pub pc: usize,
    pub state: SubgroupState,
}

impl Subgroup {
    /// A subgroup with its constant registers set.
    pub fn new(program: &Program, number: u32) -> Self {
        let width = program.width as usize;
        let count = (program.invocations() - number * program.width).min(program.width);
        let lanes = LaneMask::MAX >> (128 - count);
        let registers = vec![Cell::new(0); program.register_count as usize * width];
        let state = SubgroupState::Ready;
        let subgroup = Subgroup { registers, width, number, lanes, mask: lanes, frames: Vec::new(), pc: 0, state };
        for (register, bits) in &program.constants {
            subgroup.fill(*register, *bits);
        }
        subgroup
    }

    /// Restarts the program.
    pub fn restart(&mut self) {
        (self.mask, self.pc, self.state) = (self.lanes, 0, SubgroupState::Ready);
        self.frames.clear();
    }

    /// A register of all lanes.
    pub fn register(&self, register: Register) -> Lanes<'_> {
        &self.registers[register as usize * self.width..][..self.width]
    }

    /// A register of one lane.
    pub fn get(&self, register: Register, lane: usize) -> u32 {
        self.registers[register as usize * self.width + lane].get()
    }

    pub fn set(&self, register: Register, lane: usize, bits: u32) {
        self.registers[register as usize * self.width + lane].set(bits);
    }

    /// Sets a register of all lanes.
    pub fn fill(&self, register: Register, bits: u32) {
        self.register(register).iter().for_each(|lane| lane.set(bits));
    }

    /// The number of a lane's invocation in its workgroup.
    pub fn invocation(&self, lane: usize) -> u32 {
        self.number * self.width as u32 + lane as u32
    }

    /// Whether all lanes are active.
    pub fn converged(&self) -> bool {
        self.mask == self.lanes
    }

    /// The active lanes whose condition holds.
    fn holds(&self, condition: Register) -> LaneMask {
        let conditions = self.register(condition).iter().enumerate();
        let all = conditions.fold(0, |mask, (lane, holds)| mask | LaneMask::from(holds.get() != 0) << lane);
        all & self.mask
    }

    /// Copies a register for the active lanes.
    pub fn assign(&self, dst: Register, src: Register) {
        let (dst, src) = (self.register(dst), self.register(src));
        if self.mask.count_ones() as usize == self.width {
            dst.iter().zip(src).for_each(|(dst, src)| dst.set(src.get()));
        } else {
            lanes_of(self.mask).for_each(|lane| dst[lane].set(src[lane].get()));
        }
    }

    fn push(&mut self, kind: FrameKind, waiting: LaneMask) {
        self.frames.push(MaskFrame { kind, after: self.mask, waiting });
    }

    fn pop(&mut self) -> MaskFrame {
        self.frames.pop().expect("control flow is nested")
    }

    fn jump_if_empty(&mut self, target: u32) {
        if self.mask == 0 {
            self.pc = target as usize;
        }
    }

    /// `If`: continues with the lanes whose condition holds.
    pub fn branch(&mut self, condition: Register, otherwise: u32) {
        let accept = self.holds(condition);
        self.push(FrameKind::Branch, self.mask & !accept);
        self.mask = accept;
        self.jump_if_empty(otherwise);
    }

    /// `Else`: continues with the other lanes.
    pub fn otherwise(&mut self, end: u32) {
        let frame = self.frames.last_mut().expect("a branch is open");
        self.mask = std::mem::take(&mut frame.waiting);
        self.jump_if_empty(end);
    }

    /// `EndIf`, `EndSwitch`, `EndLoop` and `EndCall`.
    pub fn rejoin(&mut self, end_of_block: u32) {
        self.mask = self.pop().after;
        self.jump_if_empty(end_of_block);
    }

    pub fn begin_switch(&mut self) {
        self.push(FrameKind::Switch, 0);
    }

    pub fn begin_loop(&mut self) {
        self.push(FrameKind::Loop, 0);
    }

    pub fn begin_call(&mut self) {
        self.push(FrameKind::Call, 0);
    }

    /// `Continuing`: the lanes that executed `continue` join those that reached the end of the body.
    pub fn continuing(&mut self, end: u32) {
        let frame = self.frames.last_mut().expect("a loop is open");
        self.mask |= std::mem::take(&mut frame.waiting);
        self.jump_if_empty(end);
    }

    pub fn break_if(&mut self, condition: Register) {
        self.mask &= !self.holds(condition);
    }

    pub fn repeat(&mut self, start: u32) {
        if self.mask != 0 {
            self.pc = start as usize;
        }
    }

    /// `Break`: the lanes continue after the innermost loop or switch.
    pub fn leave_loop_or_switch(&mut self) {
        self.leave(&[FrameKind::Loop, FrameKind::Switch]);
        self.mask = 0;
    }

    /// `Continue`: the lanes wait for the end of the loop's body.
    pub fn continue_loop(&mut self) {
        self.leave(&[FrameKind::Loop]);
        let frame = self.frames.iter_mut().rev().find(|frame| frame.kind == FrameKind::Loop);
        frame.expect("a loop is open").waiting |= self.mask;
        self.mask = 0;
    }

    /// `Return`: the lanes continue after the innermost call.
    pub fn leave_call(&mut self) {
        self.leave(&[FrameKind::Call]);
        self.mask = 0;
    }

    /// Removes the active lanes from the frames inside the innermost one of these kinds.
    fn leave(&mut self, kinds: &[FrameKind]) {
        let mask = self.mask;
        for frame in self.frames.iter_mut().rev().take_while(|frame| !kinds.contains(&frame.kind)) {
            frame.after &= !mask;
            frame.waiting &= !mask;
        }
    }
}
