//! Finds what WGSL leaves undefined or what is hardly ever meant: data races, reads of workgroup memory that nobody
//! wrote, indices out of bounds, barriers and subgroup operations that not all invocations reach, shifts by 32 and more,
//! and NaNs made of finite numbers.
//!
//! A data race is two accesses of one place by different invocations, at least one of which writes, without a barrier
//! between them. Atomic accesses are exempt. `workgroupBarrier` orders workgroup memory, `storageBarrier` storage
//! memory; nothing orders different workgroups. For each place the last writer and the last reader are remembered.

use std::collections::BTreeMap;

use super::program::{MemoryAccess, Program, VariableSpace};

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessKind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An atomic operation that reads.
    Atomic,
    /// An atomic operation that only writes.
    AtomicStore,
}

/// What the sanitizer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Two invocations access a place, and one writes it.
    DataRace,
    /// Workgroup memory is read that nobody wrote.
    UnwrittenRead,
    /// An index is not below the number of elements.
    OutOfBounds,
    /// Only some invocations reach a barrier.
    DivergentBarrier,
    /// Only some lanes reach a subgroup operation.
    DivergentSubgroupOperation,
    /// A shift by 32 or more.
    LongShift,
    /// A NaN from finite operands.
    NewNan,
    /// A workgroup does not end.
    EndlessLoop,
}

/// Something found at one place of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The number of the line.
    pub line: u32,
    /// The line.
    pub text: String,
    /// How often.
    pub count: u64,
    /// The first time.
    pub detail: String,
}

/// Several readers.
const MANY: u32 = u32::MAX;

/// Who accessed a place last. An epoch is the time between two barriers of a workgroup; all epochs have different
/// numbers, from 1 on.
#[derive(Clone, Copy, Default)]
struct Shadow {
    writer: u32,
    write_epoch: u32,
    reader: u32,
    read_epoch: u32,
    /// Invocations of another workgroup have read it.
    read_by_others: bool,
}

/// Who accesses, and when.
#[derive(Clone, Copy)]
struct Moment {
    invocation: u32,
    epoch: u32,
    /// The first epoch of the workgroup.
    first_epoch: u32,
    /// Whether other workgroups access the memory too.
    shared: bool,
}

impl Moment {
    /// Whether another access, which was not atomic, was not before this one.
    fn concurrent(&self, invocation: u32, epoch: u32) -> bool {
        let other_workgroup = self.shared && epoch != 0 && epoch < self.first_epoch;
        other_workgroup || (epoch == self.epoch && invocation != self.invocation)
    }
}

impl Shadow {
    /// Records a read; the invocation that it races with.
    fn read(&mut self, now: Moment) -> Option<u32> {
        self.read_by_others |= now.shared && self.read_epoch != 0 && self.read_epoch < now.first_epoch;
        let several = self.read_epoch == now.epoch && self.reader != now.invocation;
        (self.reader, self.read_epoch) = (if several { MANY } else { now.invocation }, now.epoch);
        now.concurrent(self.writer, self.write_epoch).then_some(self.writer)
    }

    fn write(&mut self, now: Moment) -> Option<u32> {
        let writer = now.concurrent(self.writer, self.write_epoch).then_some(self.writer);
        let reader = now.concurrent(self.reader, self.read_epoch) || self.read_by_others;
        (self.writer, self.write_epoch) = (now.invocation, now.epoch);
        writer.or(reader.then_some(self.reader))
    }
}

const PAGE: usize = 1024;

/// The shadows of a variable; pages are made when they are first used.
struct VariableShadow {
    granule: u32,
    shared: bool,
    pages: Vec<Option<Box<[Shadow; PAGE]>>>,
}

impl VariableShadow {
    fn at(&mut self, address: u32) -> &mut Shadow {
        let index = (address / self.granule) as usize;
        if self.pages.len() <= index / PAGE {
            self.pages.resize_with(index / PAGE + 1, || None);
        }
        &mut self.pages[index / PAGE].get_or_insert_with(|| Box::new([Shadow::default(); PAGE]))[index % PAGE]
    }
}

/// See the module.
pub(super) struct Sanitizer<'a> {
    program: &'a Program,
    /// Nothing for variables that nobody can write.
    shadows: Vec<Option<VariableShadow>>,
    findings: BTreeMap<(usize, FindingKind), (u64, String)>,
    /// Counts workgroups.
    workgroup: u32,
    first_epoch: u32,
    /// The last epoch that began, and those of workgroup memory and of storage memory.
    epoch: u32,
    workgroup_epoch: u32,
    storage_epoch: u32,
}

impl<'a> Sanitizer<'a> {
    pub fn new(program: &'a Program) -> Self {
        let shadow = |variable: &super::SimulatedVariable| {
            let shared = variable.space != VariableSpace::Workgroup;
            let written = !matches!(variable.space, VariableSpace::Binding(_, false));
            written.then_some(VariableShadow { granule: variable.granule, shared, pages: Vec::new() })
        };
        Sanitizer {
            program,
            shadows: program.variables.iter().map(shadow).collect(),
            findings: BTreeMap::new(),
            workgroup: 0,
            first_epoch: 0,
            epoch: 0,
            workgroup_epoch: 0,
            storage_epoch: 0,
        }
    }

    /// The next workgroup begins.
    pub fn begin_workgroup(&mut self) {
        self.workgroup += 1;
        self.epoch += 1;
        (self.first_epoch, self.workgroup_epoch, self.storage_epoch) = (self.epoch, self.epoch, self.epoch);
    }

    /// The workgroup has passed a barrier.
    pub fn barrier(&mut self, storage: bool) {
        self.epoch += 1;
        self.workgroup_epoch = self.epoch;
        if storage {
            self.storage_epoch = self.epoch;
        }
    }

    /// Records a finding; `detail` is asked for the first.
    pub fn found(&mut self, pc: usize, kind: FindingKind, detail: impl FnOnce() -> String) {
        self.findings.entry((pc, kind)).or_insert_with(|| (0, detail())).0 += 1;
    }

    /// An invocation's access of `address`.
    pub fn access(&mut self, pc: usize, access: &MemoryAccess, how: AccessKind, address: u32, invocation: u32) {
        for component in 0..access.components.into() {
            self.access_scalar(pc, access, how, address + component * access.kind.bytes(), invocation);
        }
    }

    fn access_scalar(&mut self, pc: usize, access: &MemoryAccess, how: AccessKind, address: u32, invocation: u32) {
        let Some(variable) = &mut self.shadows[access.variable as usize] else { return };
        let shared = variable.shared;
        let own = self.workgroup * self.program.invocations() + invocation;
        let now = Moment {
            invocation: own,
            epoch: if shared { self.storage_epoch } else { self.workgroup_epoch },
            first_epoch: self.first_epoch,
            shared,
        };
        let shadow = variable.at(address);
        let unwritten = !shared && shadow.write_epoch < self.first_epoch && how != AccessKind::Write;
        let other = match how {
            AccessKind::Read => shadow.read(now),
            AccessKind::Write => shadow.write(now),
            AccessKind::Atomic => None,
            // An epoch that is over, so that it races with nothing.
            AccessKind::AtomicStore => {
                shadow.write_epoch = self.first_epoch;
                shadow.writer = own;
                None
            }
        };
        let name = &self.program.variables[access.variable as usize].name;
        if let Some(other) = other {
            let others = match other {
                MANY => "others".to_string(),
                other => format!("invocation {}", self.invocation_of(other)),
            };
            let detail = || format!("byte {address} of {name}: invocation {invocation} {how:?}s, as {others}");
            self.found(pc, FindingKind::DataRace, detail);
        }
        let name = &self.program.variables[access.variable as usize].name;
        if unwritten && how != AccessKind::AtomicStore {
            self.found(pc, FindingKind::UnwrittenRead, || format!("byte {address} of {name}, invocation {invocation}"));
        }
    }

    /// The number of an invocation in its workgroup, and which workgroup if it is another.
    fn invocation_of(&self, number: u32) -> String {
        let (workgroup, invocation) = (number / self.program.invocations(), number % self.program.invocations());
        if workgroup == self.workgroup { invocation.to_string() } else { format!("{invocation} of another workgroup") }
    }

    /// What was found, by line.
    pub fn findings(self) -> Vec<Finding> {
        let finding = |((pc, kind), (count, detail)): ((usize, FindingKind), (u64, String))| {
            let (line, text) = self.program.line(pc);
            Finding { kind, line, text: text.into(), count, detail }
        };
        let mut all: Vec<Finding> = self.findings.into_iter().map(finding).collect();
        all.sort_by_key(|finding| (finding.line, finding.kind));
        all
    }
}
