//! Statements: control flow, stores, calls, barriers, atomics and subgroup operations.

use std::collections::HashMap;

use naga::valid::FunctionInfo;
use naga::{
    AtomicFunction, Barrier, Block, CollectiveOperation, Expression, Function, GatherMode, Handle, LocalVariable,
    Statement, SubgroupOperation, SwitchCase, SwitchValue,
};

use super::super::arithmetic::{BinaryOp, NumberKind, UnaryOp};
use super::super::program::{AtomicOp, CooperativeAccess, Instruction, Register, SubgroupOp};
use super::expression::Operand;
use super::{Lowered, Lowering};

/// A function that is being lowered; each call has its own scope.
pub(super) struct FunctionScope<'a> {
    pub function: &'a Function,
    pub info: &'a FunctionInfo,
    pub arguments: Vec<Operand>,
    pub locals: HashMap<Handle<LocalVariable>, Vec<Register>>,
    pub operands: HashMap<Handle<Expression>, Operand>,
    /// The value that the function returns.
    result: Vec<Register>,
    /// Whether lanes may return at different places, so that early ones wait for the others.
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

/// The number of return statements in a block.
fn returns(block: &Block) -> usize {
    let of = |statement: &Statement| match statement {
        Statement::Return { .. } => 1,
        Statement::Block(block) => returns(block),
        Statement::If { accept, reject, .. } => returns(accept) + returns(reject),
        Statement::Switch { cases, .. } => cases.iter().map(|case| returns(&case.body)).sum(),
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

    /// Registers of a variable, initialized here: their lifetime must begin outside the loops that write them.
    pub fn variable_registers(&mut self, value: Vec<Register>) -> Vec<Register> {
        let registers = self.registers(value.len() as u32);
        for (dst, src) in registers.iter().zip(value) {
            self.emit(Instruction::Assign { dst: *dst, src });
        }
        registers
    }

    /// Inlines a call.
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

    /// A block's statements, up to one that always leaves the block; whether there is such a statement.
    fn block(&mut self, scope: &mut FunctionScope<'a>, block: &'a Block) -> Lowered<bool> {
        for (statement, span) in block.span_iter() {
            self.at(*span);
            if self.statement(scope, statement)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A nested block; the next instruction is the target of jumps to its end.
    fn inner_block(&mut self, scope: &mut FunctionScope<'a>, block: &'a Block) -> Lowered<()> {
        self.open_blocks.push(Vec::new());
        self.block(scope, block)?;
        self.end_block();
        Ok(())
    }

    /// One statement; whether it always leaves the block.
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
                    None => self.branch(scope, condition, accept, Some(reject).filter(|block| !block.is_empty()))?,
                }
            }
            Statement::Switch { selector, cases } => {
                let selector = self.scalar(scope, *selector)?;
                self.switch(scope, selector, cases)?;
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
            other => self.memory_statement(scope, other)?,
        }
        Ok(false)
    }

    /// Barriers, stores, atomics and calls.
    fn memory_statement(&mut self, scope: &mut FunctionScope<'a>, statement: &'a Statement) -> Lowered<()> {
        match statement {
            Statement::ControlBarrier(barrier) if barrier.intersects(Barrier::WORK_GROUP | Barrier::STORAGE) => {
                let [workgroup, storage] = [Barrier::WORK_GROUP, Barrier::STORAGE].map(|b| barrier.contains(b));
                self.emit(Instruction::Barrier { workgroup, storage });
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
                let (op, dst) = (atomic_op(fun), self.register());
                let mut value = vec![dst];
                let mut compare = operand;
                if let AtomicFunction::Exchange { compare: Some(expected) } = fun {
                    compare = self.scalar(scope, *expected)?;
                }
                self.emit(Instruction::Atomic { op, access, dst, operand, compare });
                if op == AtomicOp::CompareExchange {
                    value.push(self.binary(BinaryOp::Equal, access.kind, dst, compare));
                }
                if let Some(result) = result {
                    scope.operands.insert(*result, Operand::Value(value));
                }
            }
            Statement::WorkGroupUniformLoad { pointer, result } => {
                let place = self.place(scope, *pointer)?;
                self.emit(Instruction::Barrier { workgroup: true, storage: false });
                let value = self.load(&place)?;
                self.emit(Instruction::Barrier { workgroup: true, storage: false });
                scope.operands.insert(*result, Operand::Value(value));
            }
            other => self.subgroup_statement(scope, other)?,
        }
        Ok(())
    }

    fn subgroup_statement(&mut self, scope: &mut FunctionScope<'a>, statement: &'a Statement) -> Lowered<()> {
        match statement {
            Statement::SubgroupCollectiveOperation { op, collective_op, argument, result } => {
                let kind = self.kind_of(scope, *argument)?;
                let (op, a) = (collective(*op, *collective_op), self.value(scope, *argument)?);
                let value = a.into_iter().map(|a| self.subgroup(op, kind, a, a)).collect();
                scope.operands.insert(*result, Operand::Value(value));
            }
            Statement::SubgroupGather { mode, argument, result } => {
                let (op, lane) = self.gather(scope, *mode)?;
                let (kind, a) = (self.kind_of(scope, *argument)?, self.value(scope, *argument)?);
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
                    return Err("the stored value is not a cooperative matrix".into());
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
            other => return Err(format!("the simulator does not support {other:?}")),
        }
        Ok(())
    }

    fn branch(
        &mut self,
        scope: &mut FunctionScope<'a>,
        condition: Register,
        accept: &'a Block,
        reject: Option<&'a Block>,
    ) -> Lowered<()> {
        let branch = self.emit(Instruction::If { condition, otherwise: 0 });
        self.inner_block(scope, accept)?;
        if let Some(reject) = reject {
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

    /// Lowers to one branch per case. A case with several values is several cases, all but the last of them empty.
    fn switch(&mut self, scope: &mut FunctionScope<'a>, selector: Register, cases: &'a [SwitchCase]) -> Lowered<()> {
        let (mut conditions, mut any) = (Vec::new(), self.constant(0));
        for case in cases {
            let value = match case.value {
                SwitchValue::I32(value) => Some(value as u32),
                SwitchValue::U32(value) => Some(value),
                SwitchValue::Default => None,
            };
            let matches = value.map(|value| {
                let value = self.constant(value);
                self.binary(BinaryOp::Equal, NumberKind::Unsigned, selector, value)
            });
            any = matches.map_or(any, |matches| self.binary(BinaryOp::Or, NumberKind::Bool, any, matches));
            conditions.push(matches);
        }
        let default = self.unary(UnaryOp::LogicalNot, NumberKind::Bool, any);
        self.emit(Instruction::Switch);
        self.open_blocks.push(Vec::new());
        let mut condition = self.constant(0);
        for (case, matches) in cases.iter().zip(conditions) {
            condition = self.binary(BinaryOp::Or, NumberKind::Bool, condition, matches.unwrap_or(default));
            if !case.fall_through {
                self.branch(scope, condition, &case.body, None)?;
                condition = self.constant(0);
            }
        }
        self.end_block();
        let end = self.emit(Instruction::EndSwitch { end_of_block: 0 });
        self.jump_to_end_of_block(end);
        Ok(())
    }

    /// The operation of a gather, and the number of the lane that it needs.
    fn gather(&mut self, scope: &mut FunctionScope<'a>, mode: GatherMode) -> Lowered<(SubgroupOp, Register)> {
        let (op, lane) = match mode {
            GatherMode::BroadcastFirst => return Ok((SubgroupOp::BroadcastFirst, self.constant(0))),
            GatherMode::QuadSwap(direction) => {
                return Ok((SubgroupOp::ShuffleXor, self.constant(direction as u32 + 1)));
            }
            GatherMode::Broadcast(lane) | GatherMode::Shuffle(lane) => (SubgroupOp::Shuffle, lane),
            GatherMode::ShuffleXor(lane) => (SubgroupOp::ShuffleXor, lane),
            GatherMode::ShuffleUp(lane) => (SubgroupOp::ShuffleUp, lane),
            GatherMode::ShuffleDown(lane) => (SubgroupOp::ShuffleDown, lane),
            GatherMode::QuadBroadcast(lane) => (SubgroupOp::QuadBroadcast, lane),
        };
        Ok((op, self.scalar(scope, lane)?))
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

fn atomic_op(fun: &AtomicFunction) -> AtomicOp {
    match fun {
        AtomicFunction::Add => AtomicOp::Combine(BinaryOp::Add),
        AtomicFunction::Subtract => AtomicOp::Combine(BinaryOp::Subtract),
        AtomicFunction::And => AtomicOp::Combine(BinaryOp::And),
        AtomicFunction::InclusiveOr => AtomicOp::Combine(BinaryOp::Or),
        AtomicFunction::ExclusiveOr => AtomicOp::Combine(BinaryOp::Xor),
        AtomicFunction::Min => AtomicOp::Combine(BinaryOp::Min),
        AtomicFunction::Max => AtomicOp::Combine(BinaryOp::Max),
        AtomicFunction::Exchange { compare: None } => AtomicOp::Exchange,
        AtomicFunction::Exchange { compare: Some(_) } => AtomicOp::CompareExchange,
    }
}

fn collective(op: SubgroupOperation, collective_op: CollectiveOperation) -> SubgroupOp {
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
        CollectiveOperation::Reduce => SubgroupOp::Reduce(op),
        CollectiveOperation::InclusiveScan => SubgroupOp::InclusiveScan(op),
        CollectiveOperation::ExclusiveScan => SubgroupOp::ExclusiveScan(op),
    }
}
