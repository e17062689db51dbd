//! Programs: the instructions that a subgroup executes.
//!
//! A *register* holds one 32-bit scalar of every lane of a subgroup. Vectors, structs, arrays and cooperative matrices
//! are lists of registers, so that taking them apart and putting them together costs nothing. Values of 16 bits are
//! held as the f32 of the same value and rounded after each operation; booleans are 0 or 1.
//!
//! Control flow is structured and works on the *execution mask*, the set of active lanes: a branch whose mask is empty
//! is skipped. Only instructions with effects look at the mask; arithmetic computes all lanes, because nothing reads
//! the results of inactive ones.

use super::arithmetic::{BinaryOp, FmaOp, NumberKind, UnaryOp};

/// The index of a register.
pub(super) type Register = u32;
/// The index of an instruction.
pub(super) type Target = u32;

/// Where a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableSpace {
    /// Workgroup memory.
    Workgroup,
    /// A storage or uniform buffer: its binding number, and whether the shader may write to it.
    Binding(u32, bool),
}

/// A variable of the module.
#[derive(Clone, Debug)]
pub struct SimulatedVariable {
    /// As the text has it.
    pub name: String,
    /// Where it is.
    pub space: VariableSpace,
    /// Bytes, if its type says how many.
    pub bytes: u32,
    /// Bytes of its smallest scalar.
    pub granule: u32,
}

/// How many elements an array has.
#[derive(Clone, Copy, Debug)]
pub(super) enum ElementCount {
    /// As its type says.
    Fixed(u32),
    /// As many as the binding of this variable has bytes for, which begin at `offset`.
    Runtime { variable: u16, offset: u32 },
}

/// A place in memory that each lane reads or writes: up to four scalars side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryAccess {
    /// Which variable.
    pub variable: u16,
    /// What its scalars are.
    pub kind: NumberKind,
    /// How many.
    pub components: u8,
    /// Bytes from the variable's beginning.
    pub address: Register,
    /// Bytes more.
    pub offset: u32,
}

/// What an atomic operation stores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AtomicOp {
    /// The result of an operation on the old value and the operand.
    Combine(BinaryOp),
    /// The operand.
    Exchange,
    /// Nothing.
    Load,
}

/// Which lanes' values a subgroup operation gives to a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SubgroupOp {
    /// Those of all lanes, combined.
    Reduce(BinaryOp),
    /// Those of the lanes up to its own, combined.
    InclusiveScan(BinaryOp),
    /// That of the lane whose number is in a register.
    Shuffle,
    /// That of the lane whose number is its own with the bits of a register flipped.
    ShuffleXor,
}

/// Elements of a cooperative matrix in memory.
#[derive(Clone, Debug)]
pub(super) struct CooperativeAccess {
    /// The first element.
    pub memory: MemoryAccess,
    /// Elements from a row to the next (`row_major`), or from a column to the next.
    pub stride: Register,
    /// Which.
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

/// See the module. Registers are read before they are written.
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
    /// A product and a sum, as drivers join them.
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
    /// The sum of `c` and the products of four bytes each.
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
    /// Reads a variable of the function.
    Copy {
        dst: Register,
        src: Register,
    },
    /// Writes a variable of the function.
    Assign {
        dst: Register,
        src: Register,
    },
    /// Reads the register that `index` says.
    Pick {
        dst: Register,
        choices: Box<[Register]>,
        index: Register,
    },
    /// Writes the register that `index` says.
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
    },
    Subgroup {
        op: SubgroupOp,
        kind: NumberKind,
        dst: Register,
        a: Register,
        lane: Register,
    },
    Ballot {
        dst: [Register; 4],
        a: Register,
    },
    CooperativeLoad(Box<CooperativeAccess>),
    CooperativeStore(Box<CooperativeAccess>),
    CooperativeMultiplyAdd(Box<CooperativeProduct>),
    /// Waits for the workgroup; `storage` says whether it orders storage memory too.
    Barrier {
        storage: bool,
    },
    /// Goes on with the lanes for which the condition holds, or at `otherwise` if there are none.
    If {
        condition: Register,
        otherwise: Target,
    },
    /// Goes on with the others, or at `end` if there are none.
    Else {
        end: Target,
    },
    /// Goes on with both, or at the end of the block around it if all of them have left.
    EndIf {
        end_of_block: Target,
    },
    Loop,
    /// Ends a loop's body; what follows is for those that reach it and those that continued, if any.
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
    Break,
    Continue,
    Return,
    Call,
    EndCall,
    End,
    /// What a removed instruction leaves behind until the gaps are closed.
    Nothing,
}

/// How an instruction uses a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegisterUse {
    Read,
    /// Of all lanes.
    Write,
    /// Of some lanes.
    Update,
}

impl Instruction {
    /// Calls `f` with every register, those that are read first.
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
            Load { access, dst } => {
                f(&mut access.address, Read);
                dst[..access.components as usize].iter_mut().for_each(|r| f(r, Write));
            }
            Store { access, src } => {
                f(&mut access.address, Read);
                src[..access.components as usize].iter_mut().for_each(|r| f(r, Read));
            }
            Atomic { access, dst, operand, .. } => {
                [&mut access.address, operand].into_iter().for_each(|r| f(r, Read));
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
            | Nothing => {}
        }
    }

    /// Where it may jump to.
    pub fn target(&mut self) -> Option<&mut Target> {
        use Instruction::*;
        match self {
            If { otherwise: target, .. }
            | Else { end: target }
            | EndIf { end_of_block: target }
            | Continuing { end: target }
            | Repeat { start: target }
            | EndLoop { end_of_block: target } => Some(target),
            _ => None,
        }
    }

    /// Whether it does nothing but write its result.
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
        )
    }
}

/// Something that each invocation or workgroup is told when it begins.
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
    /// The line of the text that each instruction is from.
    pub(super) lines: Vec<u32>,
    /// Registers of a subgroup.
    pub(super) register_count: u32,
    /// Registers that keep one value.
    pub(super) constants: Vec<(Register, u32)>,
    pub(super) inputs: Vec<(Register, BuiltinInput)>,
    pub(super) variables: Vec<SimulatedVariable>,
    pub(super) workgroup_size: [u32; 3],
    /// Lanes of a subgroup.
    pub(super) width: u32,
    pub(super) text: String,
}

impl Program {
    /// Its variables.
    pub fn variables(&self) -> &[SimulatedVariable] {
        &self.variables
    }

    /// Invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        self.workgroup_size.iter().product()
    }

    /// Subgroups of a workgroup.
    pub(super) fn subgroups(&self) -> u32 {
        self.invocations().div_ceil(self.width)
    }

    /// The line of the text that an instruction is from, without its indentation.
    pub(super) fn line(&self, pc: usize) -> (u32, &str) {
        let number = self.lines[pc];
        (number, self.text.lines().nth((number as usize).saturating_sub(1)).unwrap_or_default().trim())
    }
}
