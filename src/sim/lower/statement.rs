//! Statements: control flow, stores, calls, and what subgroups and workgroups do together.

use std::collections::HashMap;

use naga::valid::FunctionInfo;
use naga::{
    AtomicFunction, Barrier, Block, CollectiveOperation, Expression, Function, GatherMode, Handle, LocalVariable,
    Statement, SubgroupOperation,
};

use super::super::arithmetic::{BinaryOp, NumberKind};
use super::super::program::{AtomicOp, CooperativeAccess, Instruction, Register, SubgroupOp};
use super::expression::Operand;
use super::{Lowered, Lowering};

/// A function while it is lowered; each call has its own.
pub(super) struct FunctionScope<'a> {
    pub function: &'a Function,
    pub info: &'a FunctionInfo,
    pub arguments: Vec<Operand>,
    pub locals: HashMap<Handle<LocalVariable>, Vec<Register>>,
    pub operands: HashMap<Handle<Expression>, Operand>,
    /// What the function returns.
    result: Vec<Register>,
    /// Whether lanes return at different places, so that they wait for each other.
    returns_early: bool,
}

impl<'a> FunctionScope<'a> {
    pub fn new(function: &'a Function, info: &'a FunctionInfo, arguments: Vec<Operand>) -> Self {
        FunctionScope {
            function,
            info,
            arguments,
            locals: HashMap::new(),
            operands: HashMap::new(),
            result: Vec::new(),
            returns_early: returns(&function.body) > usize::from(ends_with_return(&function.body)),
        }
    }
}

fn ends_with_return(block: &Block) -> bool {
    matches!(block.last(), Some(Statement::Return { .. }))
}

/// How many return statements a block has.
fn returns(block: &Block) -> usize {
    let of = |statement: &Statement| match statement {
        Statement::Return { .. } => 1,
        Statement::Block(block) => returns(block),
        Statement::If { accept, reject, .. } => returns(accept) + returns(reject),
        Statement::Loop { body, continuing, .. } => returns(body) + returns(continuing),
        _ => 0,
    };
    block.iter().map(of).sum()
}

impl<'a> Lowering<'a> {
    /// A function's variables and statements.
    pub fn function_body(&mut self, scope: &mut FunctionScope<'a>) -> Lowered<()> {
        for (handle, local) in scope.function.local_variables.iter() {
            let count = self.layouts.registers(&self.module.types[local.ty].inner)?;
            let first = match local.init {
                Some(init) => self.value(scope, init)?,
                None => vec![self.constant(0); count as usize],
            };
            let registers = self.variable_registers(first);
            scope.locals.insert(handle, registers);
        }
        let function = scope.function;
        self.block(scope, &function.body)?;
        Ok(())
    }

    /// Registers that change. They are set where they come to be, so that their life begins there, outside of the loops
    /// that write them.
    fn variable_registers(&mut self, value: Vec<Register>) -> Vec<Register> {
        let registers = self.registers(value.len() as u32);
        for (dst, src) in registers.iter().zip(value) {
            self.emit(Instruction::Assign { dst: *dst, src });
        }
        registers
    }

    /// Calls a function: its statements, once more.
    fn call(&mut self, function: Handle<naga::Function>, arguments: Vec<Operand>) -> Lowered<Vec<Register>> {
        let (line, callee) = (self.line, &self.module.functions[function]);
        let mut scope = FunctionScope::new(callee, &self.info[function], arguments);
        if scope.returns_early {
            if let Some(result) = &callee.result {
                let count = self.layouts.registers(&self.module.types[result.ty].inner)?;
                let zeros = vec![self.constant(0); count as usize];
                scope.result = self.variable_registers(zeros);
            }
            self.emit(Instruction::Call);
        }
        self.open_blocks.push(Vec::new());
        self.function_body(&mut scope)?;
        self.end_block();
        if scope.returns_early {
            self.emit(Instruction::EndCall);
        }
        self.line = line;
        Ok(scope.result)
    }

    /// A block's statements, up to one after which nothing follows; whether there is such a one.
    fn block(&mut self, scope: &mut FunctionScope<'a>, block: &'a Block) -> Lowered<bool> {
        for (statement, span) in block.span_iter() {
            self.at(*span);
            if self.statement(scope, statement)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A block that jumps can leave; its end is what is emitted next.
    fn inner_block(&mut self, scope: &mut FunctionScope<'a>, block: &'a Block) -> Lowered<()> {
        self.open_blocks.push(Vec::new());
        self.block(scope, block)?;
        self.end_block();
        Ok(())
    }

    /// One statement; whether control never goes on behind it.
    fn statement(&mut self, scope: &mut FunctionScope<'a>, statement: &'a Statement) -> Lowered<bool> {
        match statement {
            Statement::Emit(range) => {
                for handle in range.clone() {
                    self.at(scope.function.expressions.get_span(handle));
                    self.operand(scope, handle)?;
                }
            }
            Statement::Block(block) => return self.block(scope, block),
            Statement::If { condition, accept, reject } => {
                let condition = self.scalar(scope, *condition)?;
                match self.known(condition) {
                    Some(0) => return self.block(scope, reject),
                    Some(_) => return self.block(scope, accept),
                    None => self.branch(scope, condition, [accept, reject])?,
                }
            }
            Statement::Loop { body, continuing, break_if } => self.repeat(scope, [body, continuing], *break_if)?,
            Statement::Break => {
                self.emit(Instruction::Break);
                return Ok(true);
            }
            Statement::Continue => {
                self.emit(Instruction::Continue);
                return Ok(true);
            }
            Statement::Return { value } => {
                self.return_value(scope, *value)?;
                return Ok(true);
            }
            Statement::ControlBarrier(barrier) => {
                self.emit(Instruction::Barrier { storage: barrier.contains(Barrier::STORAGE) });
            }
            Statement::Store { pointer, value } => {
                let (place, value) = (self.place(scope, *pointer)?, self.value(scope, *value)?);
                self.store(&place, &value)?;
            }
            Statement::Call { function, arguments, result } => {
                let arguments: Lowered<Vec<_>> =
                    arguments.iter().map(|argument| self.operand(scope, *argument)).collect();
                let value = self.call(*function, arguments?)?;
                if let Some(result) = result {
                    scope.operands.insert(*result, Operand::Value(value));
                }
            }
            Statement::Atomic { pointer, fun, value, result } => {
                let place = self.place(scope, *pointer)?;
                let (access, operand) = (self.scalar_access(&place)?, self.scalar(scope, *value)?);
                let (op, dst) = (atomic_op(fun)?, self.register());
                self.emit(Instruction::Atomic { op, access, dst, operand });
                if let Some(result) = result {
                    scope.operands.insert(*result, Operand::Value(vec![dst]));
                }
            }
            Statement::WorkGroupUniformLoad { pointer, result } => {
                let place = self.place(scope, *pointer)?;
                self.emit(Instruction::Barrier { storage: false });
                let value = self.load(&place)?;
                self.emit(Instruction::Barrier { storage: false });
                scope.operands.insert(*result, Operand::Value(value));
            }
            Statement::SubgroupCollectiveOperation { op, collective_op, argument, result } => {
                let kind = self.kind_of(scope, *argument)?;
                let (op, a) = (collective(*op, *collective_op)?, self.value(scope, *argument)?);
                let value = a.into_iter().map(|a| self.subgroup(op, kind, a, a)).collect();
                scope.operands.insert(*result, Operand::Value(value));
            }
            Statement::SubgroupGather { mode, argument, result } => {
                let (op, lane) = match mode {
                    GatherMode::Broadcast(lane) | GatherMode::Shuffle(lane) => (SubgroupOp::Shuffle, *lane),
                    GatherMode::ShuffleXor(lane) => (SubgroupOp::ShuffleXor, *lane),
                    other => return Err(format!("the simulator has no {other:?}")),
                };
                let (kind, lane) = (self.kind_of(scope, *argument)?, self.scalar(scope, lane)?);
                let a = self.value(scope, *argument)?;
                let value = a.into_iter().map(|a| self.subgroup(op, kind, a, lane)).collect();
                scope.operands.insert(*result, Operand::Value(value));
            }
            Statement::SubgroupBallot { result, predicate } => {
                let a = match predicate {
                    Some(predicate) => self.scalar(scope, *predicate)?,
                    None => self.constant(1),
                };
                let value = self.registers(4);
                self.emit(Instruction::Ballot { dst: std::array::from_fn(|i| value[i]), a });
                scope.operands.insert(*result, Operand::Value(value));
            }
            Statement::CooperativeStore { target, data } => {
                let place = self.place(scope, data.pointer)?;
                let naga::TypeInner::CooperativeMatrix { rows, columns, .. } = self.type_of(scope, *target) else {
                    return Err("what is stored is no cooperative matrix".into());
                };
                let access = CooperativeAccess {
                    memory: self.scalar_access(&place)?,
                    stride: self.scalar(scope, data.stride)?,
                    row_major: data.row_major,
                    shape: (*rows as u32, *columns as u32),
                    registers: self.value(scope, *target)?.into(),
                };
                self.emit(Instruction::CooperativeStore(Box::new(access)));
            }
            other => return Err(format!("the simulator has no {other:?}")),
        }
        Ok(false)
    }

    fn branch(
        &mut self,
        scope: &mut FunctionScope<'a>,
        condition: Register,
        [accept, reject]: [&'a Block; 2],
    ) -> Lowered<()> {
        let branch = self.emit(Instruction::If { condition, otherwise: 0 });
        self.inner_block(scope, accept)?;
        if !reject.is_empty() {
            let other = self.emit(Instruction::Else { end: 0 });
            self.jump_here(branch);
            // Lanes for which the condition does not hold arrive at the `Else` itself.
            *self.instructions[branch].target().expect("a branch jumps") -= 1;
            self.inner_block(scope, reject)?;
            self.jump_here(other);
        } else {
            self.jump_here(branch);
        }
        let end = self.emit(Instruction::EndIf { end_of_block: 0 });
        self.jump_to_end_of_block(end);
        Ok(())
    }

    fn repeat(
        &mut self,
        scope: &mut FunctionScope<'a>,
        [body, continuing]: [&'a Block; 2],
        break_if: Option<Handle<Expression>>,
    ) -> Lowered<()> {
        self.emit(Instruction::Loop);
        let start = self.here();
        self.inner_block(scope, body)?;
        let end_of_body = self.emit(Instruction::Continuing { end: 0 });
        self.inner_block(scope, continuing)?;
        if let Some(condition) = break_if {
            let condition = self.scalar(scope, condition)?;
            self.emit(Instruction::BreakIf { condition });
        }
        self.emit(Instruction::Repeat { start });
        self.jump_here(end_of_body);
        let end = self.emit(Instruction::EndLoop { end_of_block: 0 });
        self.jump_to_end_of_block(end);
        Ok(())
    }

    fn return_value(&mut self, scope: &mut FunctionScope<'a>, value: Option<Handle<Expression>>) -> Lowered<()> {
        let value = value.map(|value| self.value(scope, value)).transpose()?.unwrap_or_default();
        if !scope.returns_early {
            scope.result = value;
            return Ok(());
        }
        for (dst, src) in scope.result.clone().into_iter().zip(value) {
            self.emit(Instruction::Assign { dst, src });
        }
        self.emit(Instruction::Return);
        Ok(())
    }

    fn subgroup(&mut self, op: SubgroupOp, kind: NumberKind, a: Register, lane: Register) -> Register {
        let dst = self.register();
        self.emit(Instruction::Subgroup { op, kind, dst, a, lane });
        dst
    }
}

fn atomic_op(fun: &AtomicFunction) -> Lowered<AtomicOp> {
    Ok(match fun {
        AtomicFunction::Add => AtomicOp::Combine(BinaryOp::Add),
        AtomicFunction::Subtract => AtomicOp::Combine(BinaryOp::Subtract),
        AtomicFunction::And => AtomicOp::Combine(BinaryOp::And),
        AtomicFunction::InclusiveOr => AtomicOp::Combine(BinaryOp::Or),
        AtomicFunction::ExclusiveOr => AtomicOp::Combine(BinaryOp::Xor),
        AtomicFunction::Min => AtomicOp::Combine(BinaryOp::Min),
        AtomicFunction::Max => AtomicOp::Combine(BinaryOp::Max),
        AtomicFunction::Exchange { compare: None } => AtomicOp::Exchange,
        other => return Err(format!("the simulator has no atomic {other:?}")),
    })
}

fn collective(op: SubgroupOperation, collective_op: CollectiveOperation) -> Lowered<SubgroupOp> {
    let op = match op {
        SubgroupOperation::All | SubgroupOperation::And => BinaryOp::And,
        SubgroupOperation::Any | SubgroupOperation::Or => BinaryOp::Or,
        SubgroupOperation::Add => BinaryOp::Add,
        SubgroupOperation::Mul => BinaryOp::Multiply,
        SubgroupOperation::Min => BinaryOp::Min,
        SubgroupOperation::Max => BinaryOp::Max,
        SubgroupOperation::Xor => BinaryOp::Xor,
    };
    match collective_op {
        CollectiveOperation::Reduce => Ok(SubgroupOp::Reduce(op)),
        CollectiveOperation::InclusiveScan => Ok(SubgroupOp::InclusiveScan(op)),
        CollectiveOperation::ExclusiveScan => Err("the simulator has no exclusive scans".into()),
    }
}
