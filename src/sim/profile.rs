//! Counts the work of a dispatch: operations by class, and the memory traffic of each access.
//!
//! A *request* is one load, store or atomic operation of a subgroup. In a buffer it touches *lines* of 128 bytes, and
//! *sectors* of 32 bytes in them; the *useful* bytes are those that some lane asked for. Workgroup memory has 32
//! *banks* of 4 bytes, each of which serves one word per *wavefront*: a request takes as many wavefronts as the busiest
//! bank has distinct words, and those beyond the fewest possible are *conflicts*.

use super::arithmetic::{BinaryOp, NumberKind, UnaryOp, is_comparison};
use super::lanes::LaneMask;
use super::program::{Instruction, MemoryAccess, Program, SubgroupOp, VariableSpace};
use super::sanitizer::AccessKind;

/// Bytes of a sector, and of a line.
const SECTOR: u32 = 32;
const LINE: u32 = 128;
/// Banks of workgroup memory.
const BANKS: u32 = 32;

/// A class of operations; the unit is one operation of one lane on one scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationClass {
    /// f32 multiply-adds.
    Fma,
    /// f32 products.
    Multiply,
    /// f32 sums, differences, minima and the like.
    Add,
    /// f16 arithmetic.
    Half,
    /// Integer arithmetic, comparisons and selections.
    Integer,
    /// Addresses of array elements.
    Address,
    /// Conversions between types.
    Convert,
    /// Packing and unpacking of words.
    Pack,
    /// Dot products of four bytes.
    PackedDot,
    /// Quotients, roots, exponentials and the like.
    Transcendental,
    /// Exchanges between lanes; a reduction or scan over n lanes takes log2(n).
    Subgroup,
    /// Multiply-adds of cooperative matrices.
    Matrix,
}

/// Number of classes.
const CLASSES: usize = OperationClass::Matrix as usize + 1;

/// Operations by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationCounts([u64; CLASSES]);

impl OperationCounts {
    /// Operations of a class.
    pub fn of(&self, class: OperationClass) -> u64 {
        self.0[class as usize]
    }

    /// Integer operations of all kinds: those of integers, addresses, packing, and dot products of bytes.
    pub fn integer(&self) -> u64 {
        use OperationClass::{Address, Integer, Pack, PackedDot};
        [Integer, Address, Pack, PackedDot].into_iter().map(|class| self.of(class)).sum()
    }

    /// Operations of all classes but [`OperationClass::Matrix`].
    pub fn scalar(&self) -> u64 {
        self.0[..OperationClass::Matrix as usize].iter().sum()
    }
}

/// The memory traffic of the accesses of one kind to one variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessCounts {
    /// Loads, stores or atomic operations of a subgroup.
    pub requests: u64,
    /// Sectors of 32 bytes that they touch.
    pub sectors: u64,
    /// Lines of 128 bytes that they touch.
    pub lines: u64,
    /// The fewest lines that could hold the bytes of each request.
    pub ideal_lines: u64,
    /// Distinct bytes that the lanes of a request asked for.
    pub useful_bytes: u64,
    /// In workgroup memory: cycles of the banks.
    pub wavefronts: u64,
    /// Those beyond the fewest possible.
    pub conflicts: u64,
}

/// The counts of a dispatch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DispatchProfile {
    /// Operations of active lanes.
    pub operations: OperationCounts,
    /// Accesses by variable and kind.
    pub accesses: Vec<(String, AccessKind, AccessCounts)>,
    /// Instructions executed by subgroups.
    pub instructions: u64,
    /// Active lanes, summed over instructions.
    pub active_lanes: u64,
    /// Lanes, active or not, summed over instructions.
    pub lanes: u64,
    /// Barriers passed by workgroups.
    pub barriers: u64,
    /// Workgroups.
    pub workgroups: u64,
}

impl DispatchProfile {
    /// Extrapolates the counts of a sample to this many workgroups.
    pub fn scaled_to(mut self, workgroups: u64) -> Self {
        let counted = self.workgroups.max(1);
        let scale =
            |count: &mut u64| *count = (u128::from(*count) * u128::from(workgroups) / u128::from(counted)) as u64;
        self.operations.0.iter_mut().for_each(scale);
        for (_, _, counts) in &mut self.accesses {
            let AccessCounts { requests, sectors, lines, ideal_lines, useful_bytes, wavefronts, conflicts } = counts;
            [requests, sectors, lines, ideal_lines, useful_bytes, wavefronts, conflicts].into_iter().for_each(scale);
        }
        [&mut self.instructions, &mut self.active_lanes, &mut self.lanes, &mut self.barriers]
            .into_iter()
            .for_each(scale);
        self.workgroups = workgroups;
        self
    }

    /// The counts of all accesses together.
    pub fn all_accesses(&self) -> AccessCounts {
        let mut sum = AccessCounts::default();
        for (_, _, counts) in &self.accesses {
            sum.requests += counts.requests;
            sum.sectors += counts.sectors;
            sum.lines += counts.lines;
            sum.ideal_lines += counts.ideal_lines;
            sum.useful_bytes += counts.useful_bytes;
            sum.wavefronts += counts.wavefronts;
            sum.conflicts += counts.conflicts;
        }
        sum
    }

    /// The counts of a variable's accesses of one kind.
    pub fn access(&self, variable: &str, how: AccessKind) -> AccessCounts {
        let found = self.accesses.iter().find(|(name, kind, _)| name == variable && *kind == how);
        found.map(|(_, _, counts)| counts.clone()).unwrap_or_default()
    }
}

/// Counts while a dispatch runs.
pub(super) struct Profiler<'a> {
    program: &'a Program,
    /// For each instruction: its executions, and their active lanes.
    executed: Vec<(u64, u64)>,
    /// By variable and kind of access.
    accesses: Vec<[AccessCounts; 4]>,
    pub barriers: u64,
    pub workgroups: u64,
    scratch: Vec<u32>,
}

impl<'a> Profiler<'a> {
    pub fn new(program: &'a Program) -> Self {
        Profiler {
            program,
            executed: vec![(0, 0); program.instructions.len()],
            accesses: vec![Default::default(); program.variables.len()],
            barriers: 0,
            workgroups: 0,
            scratch: Vec::new(),
        }
    }

    pub fn instruction(&mut self, pc: usize, mask: LaneMask) {
        let (times, lanes) = &mut self.executed[pc];
        *times += 1;
        *lanes += u64::from(mask.count_ones());
    }

    /// Counts a request whose active lanes have these addresses.
    pub fn access(&mut self, access: &MemoryAccess, how: AccessKind, addresses: impl Iterator<Item = u32>) {
        let counts = &mut self.accesses[access.variable as usize][how as usize];
        let (scalar, bytes) = (access.kind.bytes(), access.kind.bytes() * u32::from(access.components));
        self.scratch.clear();
        for address in addresses {
            self.scratch.extend((address..address + bytes).step_by(scalar as usize));
        }
        self.scratch.sort_unstable();
        self.scratch.dedup();
        counts.requests += 1;
        counts.useful_bytes += self.scratch.len() as u64 * u64::from(scalar);
        match self.program.variables[access.variable as usize].space {
            VariableSpace::Binding(..) => {
                let useful = self.scratch.len() as u32 * scalar;
                counts.sectors += count_different(&self.scratch, SECTOR);
                counts.lines += count_different(&self.scratch, LINE);
                counts.ideal_lines += u64::from(useful.div_ceil(LINE));
            }
            VariableSpace::Workgroup => {
                let (mut banks, mut last) = ([0; BANKS as usize], None);
                for word in
                    self.scratch.iter().map(|address| address / 4).filter(|word| last.replace(*word) != Some(*word))
                {
                    banks[(word % BANKS) as usize] += 1;
                }
                let (words, most) = (banks.iter().sum::<u64>(), banks.into_iter().max().unwrap_or(0));
                counts.wavefronts += most;
                counts.conflicts += most - words.div_ceil(BANKS.into());
            }
        }
    }

    /// All counts.
    pub fn finish(self) -> DispatchProfile {
        let mut profile =
            DispatchProfile { barriers: self.barriers, workgroups: self.workgroups, ..Default::default() };
        for (instruction, (times, lanes)) in self.program.instructions.iter().zip(&self.executed) {
            if let Some((class, each)) = operation(instruction, self.program.width) {
                profile.operations.0[class as usize] += lanes * each;
            }
            profile.instructions += times;
            profile.active_lanes += lanes;
            profile.lanes += times * u64::from(self.program.width);
        }
        let kinds = [AccessKind::Read, AccessKind::Write, AccessKind::Atomic, AccessKind::AtomicStore];
        for (variable, counts) in self.program.variables.iter().zip(self.accesses) {
            for (kind, counts) in kinds.into_iter().zip(counts).filter(|(_, counts)| counts.requests > 0) {
                profile.accesses.push((variable.name.clone(), kind, counts));
            }
        }
        profile
    }
}

/// The number of units of `size` bytes that sorted addresses touch.
fn count_different(addresses: &[u32], size: u32) -> u64 {
    addresses.chunk_by(|a, b| a / size == b / size).count() as u64
}

/// The class of an instruction's operations and their number per lane; `None` for moves and control flow.
fn operation(instruction: &Instruction, width: u32) -> Option<(OperationClass, u64)> {
    let class = match instruction {
        Instruction::Unary { op, kind, .. } => unary_class(*op, *kind),
        Instruction::Binary { op, kind, .. } => binary_class(*op, *kind),
        Instruction::Fma { kind: NumberKind::Half, .. } => OperationClass::Half,
        Instruction::Fma { .. } => OperationClass::Fma,
        Instruction::Select { .. } => OperationClass::Integer,
        Instruction::Convert { .. } => OperationClass::Convert,
        Instruction::DotPacked { .. } => OperationClass::PackedDot,
        Instruction::PackBytes { .. } | Instruction::PackHalves { .. } => OperationClass::Pack,
        Instruction::Pick { .. } | Instruction::Put { .. } | Instruction::Index { .. } => OperationClass::Address,
        Instruction::Subgroup { op, .. } => {
            use SubgroupOp::{ExclusiveScan, InclusiveScan, Reduce};
            let combines = matches!(op, Reduce(_) | InclusiveScan(_) | ExclusiveScan(_));
            return Some((OperationClass::Subgroup, if combines { u64::from(width.ilog2()) } else { 1 }));
        }
        Instruction::Ballot { .. } => OperationClass::Subgroup,
        Instruction::CooperativeMultiplyAdd(product) => {
            let all = u64::from(product.rows * product.inner * product.columns);
            return Some((OperationClass::Matrix, all / u64::from(width)));
        }
        _ => return None,
    };
    Some((class, 1))
}

fn unary_class(op: UnaryOp, kind: NumberKind) -> OperationClass {
    use UnaryOp::*;
    match op {
        UnpackUnsigned(_) | UnpackSigned(_) | UnpackHalf(_) => OperationClass::Pack,
        Sqrt | InverseSqrt | Exp | Exp2 | Log | Log2 | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Tanh => {
            OperationClass::Transcendental
        }
        _ if kind == NumberKind::Half => OperationClass::Half,
        _ if kind == NumberKind::Float => OperationClass::Add,
        _ => OperationClass::Integer,
    }
}

fn binary_class(op: BinaryOp, kind: NumberKind) -> OperationClass {
    match (op, kind) {
        (
            BinaryOp::Divide | BinaryOp::Remainder | BinaryOp::Power | BinaryOp::Atan2,
            NumberKind::Float | NumberKind::Half,
        ) => OperationClass::Transcendental,
        (_, NumberKind::Half) => OperationClass::Half,
        (BinaryOp::Multiply, NumberKind::Float) => OperationClass::Multiply,
        (_, NumberKind::Float) if !is_comparison(op) => OperationClass::Add,
        _ => OperationClass::Integer,
    }
}
