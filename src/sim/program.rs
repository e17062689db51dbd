//! Programs: the instructions that a subgroup executes.
//!
//! A *register* holds one 32-bit scalar for every lane of a subgroup. Vectors, structs, arrays and cooperative matrices
//! are lists of registers, so accessing a member costs nothing. An f16 is held as an f32 and rounded after each
//! operation; a boolean is 0 or 1.
//!
//! Control flow is structured and works on the *execution mask*, the set of active lanes: a branch whose mask is empty
//! is skipped. Only instructions with side effects respect the mask; arithmetic computes all lanes, because nothing
//! reads the results of inactive lanes.

use super::arithmetic::{BinaryOp, FmaOp, NumberKind, UnaryOp};

/// The index of a register.
pub(super) type Register = u32;
/// The index of an instruction.
pub(super) type Target = u32;

/// Where a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VariableSpace {
    /// Workgroup memory.
    Workgroup,
    /// A storage or uniform buffer: its binding number, and whether the shader may write to it.
    Binding(u32, bool),
}

/// A variable of the module.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    /// Its name in the shader.
    pub name: String,
    /// Where it is.
    pub space: VariableSpace,
    /// Its size in bytes; that of one element if it is a runtime-sized array.
    pub bytes: u32,
    /// The size in bytes of its smallest scalar: the unit in which the sanitizer tracks accesses.
    pub granule: u32,
}

/// How many elements an array has.
#[derive(Clone, Copy, Debug)]
pub(super) enum ElementCount {
    /// Known from its type.
    Fixed(u32),
    /// A runtime-sized array, which begins `offset` bytes into the variable: as many as its binding holds.
    Runtime { variable: u16, offset: u32 },
}

/// What each lane loads or stores: up to four adjacent scalars.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryAccess {
    /// The number of the variable.
    pub variable: u16,
    /// The type of the scalars.
    pub kind: NumberKind,
    /// The number of scalars.
    pub components: u8,
    /// The first byte is `address + offset` of the variable.
    pub address: Register,
    pub offset: u32,
}

/// What an atomic operation stores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AtomicOp {
    /// The result of an operation on the old value and the operand.
    Combine(BinaryOp),
    /// The operand.
    Exchange,
    /// The operand, where the old value equals `compare`.
    CompareExchange,
    /// Nothing.
    Load,
}

/// The value that a subgroup operation gives to a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SubgroupOp {
    /// The values of all lanes combined.
    Reduce(BinaryOp),
    /// The values of the lanes up to and including its own combined.
    InclusiveScan(BinaryOp),
    /// The values of the lanes before its own combined.
    ExclusiveScan(BinaryOp),
    /// The value of the first active lane.
    BroadcastFirst,
    /// The value of lane n, where n is in a register.
    Shuffle,
    /// The value of lane own ^ n.
    ShuffleXor,
    /// The value of lane own - n.
    ShuffleUp,
    /// The value of lane own + n.
    ShuffleDown,
    /// The value of lane n of its four lanes.
    QuadBroadcast,
}

/// Elements of a cooperative matrix in memory.
#[derive(Clone, Debug)]
pub(super) struct CooperativeAccess {
    /// The first element.
    pub memory: MemoryAccess,
    /// Elements from one row to the next (`row_major`), or from one column to the next.
    pub stride: Register,
    pub row_major: bool,
    /// Rows and columns.
    pub shape: (u32, u32),
    /// Elements are spread over the lanes, row by row: element e is in lane e % width of register e / width.
    pub registers: Box<[Register]>,
}

/// `result = a * b + c`, of (rows, inner) and (inner, columns).
#[derive(Clone, Debug)]
pub(super) struct CooperativeProduct {
    pub rows: u32,
    pub inner: u32,
    pub columns: u32,
    pub result: Box<[Register]>,
    pub a: Box<[Register]>,
    pub b: Box<[Register]>,
    pub c: Box<[Register]>,
}

/// An instruction; it reads its operands before it writes its results.
#[derive(Clone, Debug)]
pub(super) enum Instruction {
    Unary {
        op: UnaryOp,
        kind: NumberKind,
        dst: Register,
        a: Register,
    },
    Binary {
        op: BinaryOp,
        kind: NumberKind,
        dst: Register,
        a: Register,
        b: Register,
    },
    /// A multiply-add, into which drivers contract a product and a sum.
    Fma {
        op: FmaOp,
        kind: NumberKind,
        dst: Register,
        a: Register,
        b: Register,
        c: Register,
    },
    Select {
        dst: Register,
        condition: Register,
        accept: Register,
        reject: Register,
    },
    Convert {
        from: NumberKind,
        to: NumberKind,
        dst: Register,
        a: Register,
    },
    /// The sum of the products of four bytes.
    DotPacked {
        signed: bool,
        dst: Register,
        a: Register,
        b: Register,
    },
    PackBytes {
        dst: Register,
        parts: [Register; 4],
    },
    PackHalves {
        dst: Register,
        parts: [Register; 2],
    },
    /// Reads a local variable.
    Copy {
        dst: Register,
        src: Register,
    },
    /// Writes a local variable.
    Assign {
        dst: Register,
        src: Register,
    },
    /// Reads element `index` of an array in registers.
    Pick {
        dst: Register,
        choices: Box<[Register]>,
        index: Register,
    },
    /// Writes element `index` of an array in registers.
    Put {
        choices: Box<[Register]>,
        index: Register,
        src: Register,
    },
    /// `base + min(index, count - 1) * stride`.
    Index {
        dst: Register,
        base: Register,
        index: Register,
        stride: u32,
        count: ElementCount,
    },
    ArrayLength {
        dst: Register,
        stride: u32,
        count: ElementCount,
    },
    Load {
        access: MemoryAccess,
        dst: [Register; 4],
    },
    Store {
        access: MemoryAccess,
        src: [Register; 4],
    },
    Atomic {
        op: AtomicOp,
        access: MemoryAccess,
        dst: Register,
        operand: Register,
        /// Read by `AtomicOp::CompareExchange`.
        compare: Register,
    },
    Subgroup {
        op: SubgroupOp,
        kind: NumberKind,
        dst: Register,
        a: Register,
        /// The n of shuffles.
        lane: Register,
    },
    Ballot {
        dst: [Register; 4],
        a: Register,
    },
    CooperativeLoad(Box<CooperativeAccess>),
    CooperativeStore(Box<CooperativeAccess>),
    CooperativeMultiplyAdd(Box<CooperativeProduct>),
    /// Waits for the workgroup and orders accesses of workgroup memory, storage memory, or both.
    Barrier {
        workgroup: bool,
        storage: bool,
    },
    /// Continues with the lanes whose condition holds, or at `otherwise` if there are none.
    If {
        condition: Register,
        otherwise: Target,
    },
    /// Continues with the other lanes, or at `end` if there are none.
    Else {
        end: Target,
    },
    /// Continues with both, or at the end of the enclosing block if all of them have left it.
    EndIf {
        end_of_block: Target,
    },
    Switch,
    EndSwitch {
        end_of_block: Target,
    },
    Loop,
    /// Ends a loop's body; the lanes that reached it and those that continued execute what follows.
    Continuing {
        end: Target,
    },
    BreakIf {
        condition: Register,
    },
    Repeat {
        start: Target,
    },
    EndLoop {
        end_of_block: Target,
    },
    /// Leaves the innermost loop or switch.
    Break,
    Continue,
    Return,
    Call,
    EndCall,
    End,
    /// Replaces a removed instruction until `optimize` deletes it.
    Nop,
}

/// How an instruction uses a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegisterUse {
    Read,
    /// Writes all lanes.
    Write,
    /// Writes some lanes.
    Update,
}

impl Instruction {
    /// Calls `f` with every register: first those that it reads, then those that it writes.
    pub fn registers(&mut self, f: &mut impl FnMut(&mut Register, RegisterUse)) {
        use Instruction::*;
        use RegisterUse::{Read, Update, Write};
        match self {
            Unary { dst, a, .. } | Convert { dst, a, .. } | Copy { dst, src: a } => {
                f(a, Read);
                f(dst, Write);
            }
            Binary { dst, a, b, .. } | DotPacked { dst, a, b, .. } => {
                [a, b].into_iter().for_each(|r| f(r, Read));
                f(dst, Write);
            }
            Fma { dst, a, b, c, .. } | Select { dst, condition: a, accept: b, reject: c } => {
                [a, b, c].into_iter().for_each(|r| f(r, Read));
                f(dst, Write);
            }
            PackBytes { dst, parts } => {
                parts.iter_mut().for_each(|r| f(r, Read));
                f(dst, Write);
            }
            PackHalves { dst, parts } => {
                parts.iter_mut().for_each(|r| f(r, Read));
                f(dst, Write);
            }
            Assign { dst, src } => {
                f(src, Read);
                f(dst, Update);
            }
            Pick { dst, choices, index } => {
                choices.iter_mut().for_each(|r| f(r, Read));
                f(index, Read);
                f(dst, Write);
            }
            Put { choices, index, src } => {
                [index, src].into_iter().for_each(|r| f(r, Read));
                choices.iter_mut().for_each(|r| f(r, Update));
            }
            Index { dst, base, index, .. } => {
                [base, index].into_iter().for_each(|r| f(r, Read));
                f(dst, Write);
            }
            ArrayLength { dst, .. } => f(dst, Write),
            Load { access, dst } => {
                f(&mut access.address, Read);
                dst[..access.components as usize].iter_mut().for_each(|r| f(r, Write));
            }
            Store { access, src } => {
                f(&mut access.address, Read);
                src[..access.components as usize].iter_mut().for_each(|r| f(r, Read));
            }
            Atomic { access, dst, operand, compare, .. } => {
                [&mut access.address, operand, compare].into_iter().for_each(|r| f(r, Read));
                f(dst, Write);
            }
            Subgroup { dst, a, lane, .. } => {
                [a, lane].into_iter().for_each(|r| f(r, Read));
                f(dst, Write);
            }
            Ballot { dst, a } => {
                f(a, Read);
                dst.iter_mut().for_each(|r| f(r, Write));
            }
            CooperativeLoad(access) => {
                [&mut access.memory.address, &mut access.stride].into_iter().for_each(|r| f(r, Read));
                access.registers.iter_mut().for_each(|r| f(r, Write));
            }
            CooperativeStore(access) => {
                [&mut access.memory.address, &mut access.stride].into_iter().for_each(|r| f(r, Read));
                access.registers.iter_mut().for_each(|r| f(r, Read));
            }
            CooperativeMultiplyAdd(product) => {
                let CooperativeProduct { a, b, c, result, .. } = product.as_mut();
                [a, b, c].into_iter().flat_map(|list| list.iter_mut()).for_each(|r| f(r, Read));
                result.iter_mut().for_each(|r| f(r, Write));
            }
            If { condition, .. } | BreakIf { condition } => f(condition, Read),
            Barrier { .. }
            | Else { .. }
            | EndIf { .. }
            | Switch
            | EndSwitch { .. }
            | Loop
            | Continuing { .. }
            | Repeat { .. }
            | EndLoop { .. }
            | Break
            | Continue
            | Return
            | Call
            | EndCall
            | End
            | Nop => {}
        }
    }

    /// The instruction to which it may jump.
    pub fn target(&mut self) -> Option<&mut Target> {
        use Instruction::*;
        match self {
            If { otherwise: target, .. }
            | Else { end: target }
            | EndIf { end_of_block: target }
            | EndSwitch { end_of_block: target }
            | Continuing { end: target }
            | Repeat { start: target }
            | EndLoop { end_of_block: target } => Some(target),
            _ => None,
        }
    }

    /// Whether its only effect is its result.
    pub fn is_pure(&self) -> bool {
        use Instruction::*;
        matches!(
            self,
            Unary { .. }
                | Binary { .. }
                | Fma { .. }
                | Select { .. }
                | Convert { .. }
                | DotPacked { .. }
                | PackBytes { .. }
                | PackHalves { .. }
                | Copy { .. }
                | Pick { .. }
                | Index { .. }
                | ArrayLength { .. }
        )
    }
}

/// A built-in input of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltinInput {
    LocalInvocationIndex,
    LocalInvocationId(u8),
    GlobalInvocationId(u8),
    WorkgroupId(u8),
    WorkgroupCount(u8),
    SubgroupId,
    SubgroupSize,
    SubgroupCount,
    SubgroupInvocationId,
}

/// A kernel for subgroups of one width.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) instructions: Vec<Instruction>,
    /// The line of the shader that each instruction comes from.
    pub(super) lines: Vec<u32>,
    /// The number of registers of a subgroup.
    pub(super) register_count: u32,
    /// Registers with a constant value.
    pub(super) constants: Vec<(Register, u32)>,
    pub(super) inputs: Vec<(Register, BuiltinInput)>,
    pub(super) variables: Vec<Variable>,
    pub(super) workgroup_size: [u32; 3],
    /// Lanes of a subgroup.
    pub(super) width: u32,
    pub(super) text: String,
}

impl Program {
    /// The number of invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        self.workgroup_size.iter().product()
    }

    /// The number of subgroups of a workgroup.
    pub(super) fn subgroups(&self) -> u32 {
        self.invocations().div_ceil(self.width)
    }

    /// The line of the shader that an instruction comes from, without its indentation.
    pub(super) fn line(&self, pc: usize) -> (u32, &str) {
        let number = self.lines[pc];
        (number, self.text.lines().nth((number as usize).saturating_sub(1)).unwrap_or_default().trim())
    }
}
