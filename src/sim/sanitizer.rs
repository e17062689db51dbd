//! Finds undefined and suspicious behaviour: data races, reads of uninitialized workgroup memory, indices out of
//! bounds, barriers and subgroup operations in divergent control flow, shifts by 32 or more, and NaNs from finite
//! operands.
//!
//! A data race is two accesses of one address by different invocations, at least one of them a write, with no barrier
//! between them. Atomic accesses are exempt. `workgroupBarrier` orders workgroup memory, `storageBarrier` storage
//! memory; nothing orders accesses of different workgroups. For each address, the last writer and reader are recorded.

use std::collections::BTreeMap;

use super::program::{Program, VariableSpace};

/// A kind of memory access.
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

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Unordered accesses of an address by two invocations, one of which writes.
    DataRace,
    /// Two invocations write the same value to an address: a data race too, but harmless on any GPU.
    RedundantWrite,
    /// A read of workgroup memory that no invocation has written.
    UninitializedRead,
    /// An index beyond the last element.
    OutOfBounds,
    /// A barrier that only some invocations reach.
    DivergentBarrier,
    /// A subgroup operation that only some lanes reach.
    DivergentSubgroupOperation,
    /// A shift by 32 or more.
    OversizedShift,
    /// A NaN from finite operands.
    NanFromFinite,
    /// A workgroup that does not terminate.
    InfiniteLoop,
}

/// The findings of one kind at one line of the shader.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// The line number.
    pub line: u32,
    /// The text of the line.
    pub text: String,
    /// The number of occurrences.
    pub count: u64,
    /// The first occurrence.
    pub detail: String,
}

/// Stands for several readers.
const MANY: u32 = u32::MAX;

/// The last accesses of an address. An epoch is the time between two barriers of a workgroup; epochs are numbered from
/// 1 across all workgroups.
#[derive(Clone, Copy, Default)]
struct Shadow {
    writer: u32,
    write_epoch: u32,
    reader: u32,
    read_epoch: u32,
    /// Whether another workgroup has read it.
    read_by_others: bool,
}

/// The invocation that accesses, and the epoch.
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
    /// Whether no barrier separates an earlier access from this one.
    fn concurrent(&self, invocation: u32, epoch: u32) -> bool {
        let other_workgroup = self.shared && epoch != 0 && epoch < self.first_epoch;
        other_workgroup || (epoch == self.epoch && invocation != self.invocation)
    }
}

impl Shadow {
    /// Records a read; returns the invocation with which it races.
    fn read(&mut self, now: Moment) -> Option<u32> {
        self.read_by_others |= now.shared && self.read_epoch != 0 && self.read_epoch < now.first_epoch;
        let several = self.read_epoch == now.epoch && self.reader != now.invocation;
        (self.reader, self.read_epoch) = (if several { MANY } else { now.invocation }, now.epoch);
        now.concurrent(self.writer, self.write_epoch).then_some(self.writer)
    }

    /// Records a write; returns the invocation with which it races.
    fn write(&mut self, now: Moment) -> Option<Other> {
        let writer = now.concurrent(self.writer, self.write_epoch).then_some(Other::Writer(self.writer));
        let read = now.concurrent(self.reader, self.read_epoch) || self.read_by_others;
        (self.writer, self.write_epoch) = (now.invocation, now.epoch);
        read.then_some(Other::Reader(self.reader)).or(writer)
    }
}

/// The other invocation of a race.
enum Other {
    Reader(u32),
    Writer(u32),
}

const PAGE: usize = 1024;

/// The shadow memory of a variable; pages are allocated on first use.
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

/// The sanitizer of a dispatch.
pub(super) struct Sanitizer<'a> {
    program: &'a Program,
    /// `None` for read-only variables.
    shadows: Vec<Option<VariableShadow>>,
    findings: BTreeMap<(usize, FindingKind), (u64, String)>,
    /// The number of the current workgroup, from 1.
    workgroup: u32,
    first_epoch: u32,
    /// The latest epoch, and the current epochs of workgroup memory and of storage memory.
    epoch: u32,
    workgroup_epoch: u32,
    storage_epoch: u32,
}

impl<'a> Sanitizer<'a> {
    pub fn new(program: &'a Program) -> Self {
        let shadow = |variable: &super::program::Variable| {
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

    /// Starts the next workgroup.
    pub fn begin_workgroup(&mut self) {
        self.workgroup += 1;
        self.epoch += 1;
        (self.first_epoch, self.workgroup_epoch, self.storage_epoch) = (self.epoch, self.epoch, self.epoch);
    }

    /// The workgroup has passed a barrier that orders workgroup memory, storage memory, or both.
    pub fn barrier(&mut self, workgroup: bool, storage: bool) {
        self.epoch += 1;
        if workgroup {
            self.workgroup_epoch = self.epoch;
        }
        if storage {
            self.storage_epoch = self.epoch;
        }
    }

    /// Records a finding; `detail` describes the first occurrence.
    pub fn found(&mut self, pc: usize, kind: FindingKind, detail: impl FnOnce() -> String) {
        self.findings.entry((pc, kind)).or_insert_with(|| (0, detail())).0 += 1;
    }

    /// An invocation reads the scalar at `address`.
    pub fn read(&mut self, pc: usize, variable: u16, address: u32, invocation: u32) {
        let Some((shadow, now)) = self.shadow(variable, address, invocation) else { return };
        let unwritten = !now.shared && shadow.write_epoch < now.first_epoch;
        if let Some(writer) = shadow.read(now) {
            self.race(pc, FindingKind::DataRace, variable, address, [invocation, writer]);
        }
        if unwritten {
            self.unwritten(pc, variable, address, invocation);
        }
    }

    /// An invocation writes the scalar at `address`; `same`: the value it already had.
    pub fn write(&mut self, pc: usize, variable: u16, same: bool, address: u32, invocation: u32) {
        let Some((shadow, now)) = self.shadow(variable, address, invocation) else { return };
        match shadow.write(now) {
            Some(Other::Writer(other)) if same => {
                self.race(pc, FindingKind::RedundantWrite, variable, address, [invocation, other]);
            }
            Some(Other::Writer(other) | Other::Reader(other)) => {
                self.race(pc, FindingKind::DataRace, variable, address, [invocation, other]);
            }
            None => {}
        }
    }

    /// An invocation accesses the scalar at `address` atomically.
    pub fn atomic(&mut self, pc: usize, variable: u16, how: AccessKind, address: u32, invocation: u32) {
        let Some((shadow, now)) = self.shadow(variable, address, invocation) else { return };
        let unwritten = !now.shared && shadow.write_epoch < now.first_epoch;
        shadow.write_epoch = now.first_epoch;
        if unwritten && how == AccessKind::Atomic {
            self.unwritten(pc, variable, address, invocation);
        }
    }

    fn shadow(&mut self, variable: u16, address: u32, invocation: u32) -> Option<(&mut Shadow, Moment)> {
        let variable = self.shadows[variable as usize].as_mut()?;
        let now = Moment {
            invocation: self.workgroup * self.program.invocations() + invocation,
            epoch: if variable.shared { self.storage_epoch } else { self.workgroup_epoch },
            first_epoch: self.first_epoch,
            shared: variable.shared,
        };
        Some((variable.at(address), now))
    }

    fn race(&mut self, pc: usize, kind: FindingKind, variable: u16, address: u32, [invocation, other]: [u32; 2]) {
        let name = &self.program.variables[variable as usize].name;
        let other = match other {
            MANY => "others".to_string(),
            other => self.invocation_of(other),
        };
        let detail = || format!("byte {address} of {name}: invocations {invocation} and {other}");
        self.found(pc, kind, detail);
    }

    fn unwritten(&mut self, pc: usize, variable: u16, address: u32, invocation: u32) {
        let name = &self.program.variables[variable as usize].name;
        self.found(pc, FindingKind::UninitializedRead, || format!("byte {address} of {name}, invocation {invocation}"));
    }

    /// Describes an invocation by its number in its workgroup.
    fn invocation_of(&self, number: u32) -> String {
        let (workgroup, invocation) = (number / self.program.invocations(), number % self.program.invocations());
        if workgroup == self.workgroup { invocation.to_string() } else { format!("{invocation} of another workgroup") }
    }

    /// The findings, sorted by line.
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
