//! Lowers WGSL to a [`Program`]: naga parses and validates the text; its functions become one list of instructions.
//!
//! Calls are inlined. Every expression gets new registers; `optimize` and `allocate` reduce them. Constants are folded,
//! as every driver does: otherwise the indices of unrolled loops would select registers at run time.

mod expression;
mod layout;
mod math;
mod place;
mod statement;

use std::cell::Cell;
use std::collections::HashMap;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, BuiltIn, GlobalVariable, Handle, Module, Span};

use super::arithmetic::{self, BinaryOp, NumberKind, UnaryOp};
use super::program::{BuiltinInput, Instruction, Program, Register, Target, Variable, VariableSpace};
use super::{allocate, optimize};
use expression::Operand;
use layout::TypeLayouts;
use statement::FunctionScope;

/// Errors say what is invalid or unsupported.
type Lowered<T> = Result<T, String>;

impl Program {
    /// Compiles the first entry point of a WGSL text for subgroups of `width` lanes.
    ///
    /// # Panics
    /// Unless `width` is a power of two from 4 to 128.
    ///
    /// # Errors
    /// If the text is invalid or uses a feature that the simulator does not support.
    pub fn compile(text: &str, width: u32) -> Result<Self, String> {
        assert!(width.is_power_of_two() && (4..=128).contains(&width), "subgroups of {width} lanes");
        let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .map_err(|e| e.emit_to_string(text))?;
        let mut lowering = Lowering::new(&module, &info, text, width);
        let inputs = lowering.entry_point()?;
        let mut program = Program {
            instructions: lowering.instructions,
            lines: lowering.lines,
            register_count: lowering.next_register,
            constants: lowering.registers_of_constants.iter().map(|(bits, register)| (*register, *bits)).collect(),
            inputs,
            variables: lowering.variables,
            workgroup_size: module.entry_points[0].workgroup_size,
            width,
            text: text.into(),
        };
        program.constants.sort();
        optimize::optimize(&mut program);
        allocate::allocate(&mut program);
        Ok(program)
    }
}

struct Lowering<'a> {
    module: &'a Module,
    info: &'a ModuleInfo,
    layouts: TypeLayouts<'a>,
    /// The first byte of each line.
    line_starts: Vec<u32>,
    instructions: Vec<Instruction>,
    lines: Vec<u32>,
    /// The current line.
    line: u32,
    next_register: Register,
    registers_of_constants: HashMap<u32, Register>,
    constants: HashMap<Register, u32>,
    variables: Vec<Variable>,
    variable_numbers: HashMap<Handle<GlobalVariable>, u16>,
    /// The registers of variables in the private address space.
    private_variables: HashMap<Handle<GlobalVariable>, Vec<Register>>,
    /// For each open block, the instructions that jump to its end.
    open_blocks: Vec<Vec<usize>>,
}

impl<'a> Lowering<'a> {
    fn new(module: &'a Module, info: &'a ModuleInfo, text: &str, width: u32) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at as u32 + 1);
        Lowering {
            module,
            info,
            layouts: TypeLayouts { module, width },
            line_starts: std::iter::once(0).chain(newlines).collect(),
            instructions: Vec::new(),
            lines: Vec::new(),
            line: 1,
            next_register: 0,
            registers_of_constants: HashMap::new(),
            constants: HashMap::new(),
            variables: Vec::new(),
            variable_numbers: HashMap::new(),
            private_variables: HashMap::new(),
            open_blocks: Vec::new(),
        }
    }

    /// Lowers the entry point; returns the registers of its built-in inputs.
    fn entry_point(&mut self) -> Lowered<Vec<(Register, BuiltinInput)>> {
        let module = self.module;
        let entry = module.entry_points.first().ok_or("the text has no entry point")?;
        let mut inputs = Vec::new();
        let mut arguments = Vec::new();
        for argument in &entry.function.arguments {
            let Some(naga::Binding::BuiltIn(builtin)) = argument.binding else {
                return Err(format!("the argument {:?} is not a builtin", argument.name));
            };
            let count = self.layouts.registers(&module.types[argument.ty].inner)?;
            let registers = self.registers(count);
            for (i, register) in (0..).zip(&registers) {
                inputs.push((*register, builtin_input(builtin, i)?));
            }
            arguments.push(Operand::Value(registers));
        }
        self.open_blocks.push(Vec::new());
        self.initialize_private_variables()?;
        let mut scope = FunctionScope::new(&entry.function, self.info.get_entry_point(0), arguments);
        self.function_body(&mut scope)?;
        self.end_block();
        self.emit(Instruction::End);
        Ok(inputs)
    }

    fn initialize_private_variables(&mut self) -> Lowered<()> {
        let module = self.module;
        let all = module.global_variables.iter();
        for (handle, variable) in all.filter(|(_, variable)| variable.space == AddressSpace::Private) {
            let count = self.layouts.registers(&module.types[variable.ty].inner)?;
            let first = match variable.init {
                Some(init) => self.global_expression(init)?,
                None => vec![self.constant(0); count as usize],
            };
            let registers = self.variable_registers(first);
            self.private_variables.insert(handle, registers);
        }
        Ok(())
    }

    /// `n` new registers.
    fn registers(&mut self, n: u32) -> Vec<Register> {
        let first = self.next_register;
        self.next_register += n;
        (first..self.next_register).collect()
    }

    fn register(&mut self) -> Register {
        self.registers(1)[0]
    }

    /// A register with a constant value.
    fn constant(&mut self, bits: u32) -> Register {
        if let Some(register) = self.registers_of_constants.get(&bits) {
            return *register;
        }
        let register = self.register();
        self.registers_of_constants.insert(bits, register);
        self.constants.insert(register, bits);
        register
    }

    /// The value of a constant register.
    fn known(&self, register: Register) -> Option<u32> {
        self.constants.get(&register).copied()
    }

    fn emit(&mut self, instruction: Instruction) -> usize {
        self.instructions.push(instruction);
        self.lines.push(self.line);
        self.instructions.len() - 1
    }

    fn here(&self) -> Target {
        self.instructions.len() as Target
    }

    /// Makes an earlier jump go to the next instruction.
    fn jump_here(&mut self, jump: usize) {
        let here = self.here();
        if let Some(target) = self.instructions[jump].target() {
            *target = here;
        }
    }

    /// Ends the innermost block: jumps to its end go to the next instruction.
    fn end_block(&mut self) {
        for jump in self.open_blocks.pop().unwrap_or_default() {
            self.jump_here(jump);
        }
    }

    fn jump_to_end_of_block(&mut self, jump: usize) {
        self.open_blocks.last_mut().expect("a block is open").push(jump);
    }

    /// Sets the current line.
    fn at(&mut self, span: Span) {
        if let Some(range) = span.to_range() {
            self.line = self.line_starts.partition_point(|start| *start as usize <= range.start) as u32;
        }
    }

    fn variable(&mut self, handle: Handle<GlobalVariable>) -> Lowered<u16> {
        if let Some(number) = self.variable_numbers.get(&handle) {
            return Ok(*number);
        }
        let variable = &self.module.global_variables[handle];
        let ty = &self.module.types[variable.ty].inner;
        let binding = |writable| match variable.binding {
            Some(at) => Ok(VariableSpace::Binding(at.binding, writable)),
            None => Err(format!("{:?} is not bound", variable.name)),
        };
        let space = match variable.space {
            AddressSpace::WorkGroup => VariableSpace::Workgroup,
            AddressSpace::Uniform => binding(false)?,
            AddressSpace::Storage { access } => binding(access.contains(naga::StorageAccess::STORE))?,
            other => return Err(format!("the simulator does not support variables in {other:?}")),
        };
        let number = self.variables.len() as u16;
        self.variable_numbers.insert(handle, number);
        self.variables.push(Variable {
            name: variable.name.clone().unwrap_or_default(),
            space,
            bytes: ty.size(self.module.to_ctx()),
            granule: self.layouts.granule(ty),
        });
        Ok(number)
    }

    fn unary(&mut self, op: UnaryOp, kind: NumberKind, a: Register) -> Register {
        if let Some(a) = self.known(a) {
            let (dst, a) = ([Cell::new(0)], [Cell::new(a)]);
            arithmetic::unary(op, kind, &dst, &a);
            return self.constant(dst[0].get());
        }
        let dst = self.register();
        self.emit(Instruction::Unary { op, kind, dst, a });
        dst
    }

    fn binary(&mut self, op: BinaryOp, kind: NumberKind, a: Register, b: Register) -> Register {
        if let (Some(a), Some(b)) = (self.known(a), self.known(b)) {
            let (dst, a, b) = ([Cell::new(0)], [Cell::new(a)], [Cell::new(b)]);
            arithmetic::binary(op, kind, &dst, &a, &b);
            return self.constant(dst[0].get());
        }
        if let Some(same) = self.simplified(op, kind, a, b) {
            return same;
        }
        let dst = self.register();
        self.emit(Instruction::Binary { op, kind, dst, a, b });
        dst
    }

    /// The result of an integer operation that needs no instruction.
    fn simplified(&mut self, op: BinaryOp, kind: NumberKind, a: Register, b: Register) -> Option<Register> {
        use BinaryOp::*;
        if kind.is_float() {
            return None;
        }
        match (op, self.known(a), self.known(b)) {
            (Add | Or | Xor, Some(0), _) | (Multiply, Some(1), _) => Some(b),
            (Add | Subtract | Or | Xor | ShiftLeft | ShiftRight, _, Some(0)) => Some(a),
            (Multiply | Divide, _, Some(1)) => Some(a),
            (Multiply | And, Some(0), _) | (Multiply | And, _, Some(0)) => Some(self.constant(0)),
            (Remainder, _, Some(1)) => Some(self.constant(0)),
            _ => None,
        }
    }

    fn select(&mut self, condition: Register, accept: Register, reject: Register) -> Register {
        match self.known(condition) {
            Some(0) => reject,
            Some(_) => accept,
            None => {
                let dst = self.register();
                self.emit(Instruction::Select { dst, condition, accept, reject });
                dst
            }
        }
    }

    fn convert(&mut self, from: NumberKind, to: NumberKind, a: Register) -> Register {
        let integers = !from.is_float() && !to.is_float() && to != NumberKind::Bool;
        if from == to || integers {
            return a;
        }
        if let Some(a) = self.known(a) {
            let (dst, a) = ([Cell::new(0)], [Cell::new(a)]);
            arithmetic::convert(from, to, &dst, &a);
            return self.constant(dst[0].get());
        }
        let dst = self.register();
        self.emit(Instruction::Convert { from, to, dst, a });
        dst
    }
}

fn builtin_input(builtin: BuiltIn, component: u8) -> Lowered<BuiltinInput> {
    Ok(match builtin {
        BuiltIn::LocalInvocationIndex => BuiltinInput::LocalInvocationIndex,
        BuiltIn::LocalInvocationId => BuiltinInput::LocalInvocationId(component),
        BuiltIn::GlobalInvocationId => BuiltinInput::GlobalInvocationId(component),
        BuiltIn::WorkGroupId => BuiltinInput::WorkgroupId(component),
        BuiltIn::NumWorkGroups => BuiltinInput::WorkgroupCount(component),
        BuiltIn::SubgroupId => BuiltinInput::SubgroupId,
        BuiltIn::SubgroupSize => BuiltinInput::SubgroupSize,
        BuiltIn::NumSubgroups => BuiltinInput::SubgroupCount,
        BuiltIn::SubgroupInvocationId => BuiltinInput::SubgroupInvocationId,
        other => return Err(format!("the simulator does not support the builtin {other:?}")),
    })
}
