//! Expressions: each becomes a list of registers, or a place.

use naga::{BinaryOperator, Expression, Handle, Literal, RelationalFunction, ScalarKind, TypeInner, UnaryOperator};

use super::super::arithmetic::{BinaryOp, NumberKind, UnaryOp};
use super::super::program::{CooperativeAccess, CooperativeProduct, ElementCount, Instruction, Register};
use super::layout::number_kind;
use super::place::Place;
use super::statement::FunctionScope;
use super::{Lowered, Lowering};

/// An expression after lowering.
#[derive(Clone)]
pub(super) enum Operand {
    Value(Vec<Register>),
    Pointer(Place),
}

impl<'a> Lowering<'a> {
    /// The type of an expression.
    pub fn type_of(&self, scope: &FunctionScope<'a>, handle: Handle<Expression>) -> &'a TypeInner {
        scope.info[handle].ty.inner_with(&self.module.types)
    }

    /// The type of the scalars of an expression.
    pub fn kind_of(&self, scope: &FunctionScope<'a>, handle: Handle<Expression>) -> Lowered<NumberKind> {
        let ty = self.type_of(scope, handle);
        number_kind(ty.scalar().ok_or_else(|| format!("{ty:?} is not numeric"))?)
    }

    /// Lowers an expression, or returns its earlier result; constants, arguments and variables are lowered on first
    /// use.
    pub fn operand(&mut self, scope: &mut FunctionScope<'a>, handle: Handle<Expression>) -> Lowered<Operand> {
        if let Some(operand) = scope.operands.get(&handle) {
            return Ok(operand.clone());
        }
        let operand = self.expression(scope, handle)?;
        scope.operands.insert(handle, operand.clone());
        Ok(operand)
    }

    /// The registers of an expression that is not a pointer.
    pub fn value(&mut self, scope: &mut FunctionScope<'a>, handle: Handle<Expression>) -> Lowered<Vec<Register>> {
        match self.operand(scope, handle)? {
            Operand::Value(registers) => Ok(registers),
            Operand::Pointer(_) => Err("a pointer is used as a value".into()),
        }
    }

    pub fn scalar(&mut self, scope: &mut FunctionScope<'a>, handle: Handle<Expression>) -> Lowered<Register> {
        Ok(self.value(scope, handle)?[0])
    }

    pub fn place(&mut self, scope: &mut FunctionScope<'a>, handle: Handle<Expression>) -> Lowered<Place> {
        match self.operand(scope, handle)? {
            Operand::Pointer(place) => Ok(place),
            Operand::Value(_) => Err("a value is used as a pointer".into()),
        }
    }

    fn expression(&mut self, scope: &mut FunctionScope<'a>, handle: Handle<Expression>) -> Lowered<Operand> {
        let function = scope.function;
        let pointer = |place| Ok(Operand::Pointer(place));
        let value = match &function.expressions[handle] {
            Expression::FunctionArgument(i) => return Ok(scope.arguments[*i as usize].clone()),
            Expression::GlobalVariable(variable) => {
                let ty = self.module.types[self.module.global_variables[*variable].ty].inner.clone();
                if let Some(registers) = self.private_variables.get(variable) {
                    return pointer(Place::Local { choices: vec![registers.clone()], index: None, ty });
                }
                let (variable, address) = (self.variable(*variable)?, self.constant(0));
                return pointer(Place::Memory { variable, address, offset: 0, ty });
            }
            Expression::LocalVariable(variable) => {
                let ty = self.module.types[function.local_variables[*variable].ty].inner.clone();
                let choices = vec![scope.locals[variable].clone()];
                return pointer(Place::Local { choices, index: None, ty });
            }
            Expression::AccessIndex { base, index } => {
                if let Operand::Pointer(place) = self.operand(scope, *base)? {
                    return pointer(self.member_place(place, *index)?);
                }
                self.member_of_value(scope, *base, *index)?
            }
            Expression::Access { base, index } => {
                let index = self.scalar(scope, *index)?;
                if let Operand::Pointer(place) = self.operand(scope, *base)? {
                    return pointer(self.element_place(place, index)?);
                }
                self.element_of_value(scope, *base, index)?
            }
            Expression::ArrayLength(array) => {
                let place = self.place(scope, *array)?;
                vec![self.array_length(&place)?]
            }
            Expression::Load { pointer } => {
                let place = self.place(scope, *pointer)?;
                self.load(&place)?
            }
            Expression::Splat { size, value } => vec![self.scalar(scope, *value)?; *size as usize],
            Expression::Swizzle { size, vector, pattern } => {
                let vector = self.value(scope, *vector)?;
                pattern[..*size as usize].iter().map(|component| vector[*component as usize]).collect()
            }
            Expression::Compose { components, .. } => {
                let mut all = Vec::new();
                for component in components {
                    all.extend(self.value(scope, *component)?);
                }
                all
            }
            Expression::Unary { op, expr } => {
                let (kind, a) = (self.kind_of(scope, *expr)?, self.value(scope, *expr)?);
                let op = match op {
                    UnaryOperator::Negate => UnaryOp::Negate,
                    UnaryOperator::LogicalNot => UnaryOp::LogicalNot,
                    UnaryOperator::BitwiseNot => UnaryOp::Not,
                };
                a.into_iter().map(|a| self.unary(op, kind, a)).collect()
            }
            Expression::Binary { op, left, right } => {
                let kind = self.kind_of(scope, *left)?;
                let (a, b) = (self.value(scope, *left)?, self.value(scope, *right)?);
                self.each2(binary_op(*op), kind, &a, &b)
            }
            Expression::Select { condition, accept, reject } => {
                let condition = self.value(scope, *condition)?;
                let (accept, reject) = (self.value(scope, *accept)?, self.value(scope, *reject)?);
                let conditions = condition.iter().cycle();
                let each = accept.iter().zip(&reject).zip(conditions);
                each.map(|((accept, reject), condition)| self.select(*condition, *accept, *reject)).collect()
            }
            Expression::Relational { fun, argument } => {
                let a = self.value(scope, *argument)?;
                let op = match fun {
                    RelationalFunction::All => BinaryOp::And,
                    RelationalFunction::Any => BinaryOp::Or,
                    other => return Err(format!("the simulator does not support {other:?}")),
                };
                let all = a.into_iter().reduce(|a, b| self.binary(op, NumberKind::Bool, a, b));
                all.into_iter().collect()
            }
            Expression::As { expr, kind, convert } => {
                let (from, a) = (self.kind_of(scope, *expr)?, self.value(scope, *expr)?);
                self.cast(from, *kind, *convert, a)?
            }
            Expression::Math { fun, arg, arg1, arg2, .. } => {
                let kind = self.kind_of(scope, *arg)?;
                let mut arguments = vec![self.value(scope, *arg)?];
                for argument in [arg1, arg2].into_iter().flatten() {
                    arguments.push(self.value(scope, *argument)?);
                }
                self.math(*fun, kind, &arguments)?
            }
            Expression::CooperativeLoad { columns, rows, data, .. } => {
                let (rows, columns) = (*rows as u32, *columns as u32);
                let memory = self.place(scope, data.pointer)?;
                let access = CooperativeAccess {
                    memory: self.scalar_access(&memory)?,
                    stride: self.scalar(scope, data.stride)?,
                    row_major: data.row_major,
                    shape: (rows, columns),
                    registers: self.registers((rows * columns).div_ceil(self.layouts.width)).into(),
                };
                let value = access.registers.to_vec();
                self.emit(Instruction::CooperativeLoad(Box::new(access)));
                value
            }
            Expression::CooperativeMultiplyAdd { a, b, c } => self.multiply_add(scope, [*a, *b, *c])?,
            other => self.constant_expression(other, |lowering, handle| lowering.value(scope, handle))?,
        };
        Ok(Operand::Value(value))
    }

    /// An expression that may be part of a function or of the module.
    fn constant_expression(
        &mut self,
        expression: &Expression,
        mut value: impl FnMut(&mut Self, Handle<Expression>) -> Lowered<Vec<Register>>,
    ) -> Lowered<Vec<Register>> {
        Ok(match expression {
            Expression::Literal(literal) => vec![self.literal(*literal)?],
            Expression::ZeroValue(ty) => {
                let count = self.layouts.registers(&self.module.types[*ty].inner)?;
                vec![self.constant(0); count as usize]
            }
            Expression::Constant(constant) => self.global_expression(self.module.constants[*constant].init)?,
            Expression::Splat { size, value: scalar } => vec![value(self, *scalar)?[0]; *size as usize],
            Expression::Compose { components, .. } => {
                let mut all = Vec::new();
                for component in components {
                    all.extend(value(self, *component)?);
                }
                all
            }
            other => return Err(format!("the simulator does not support {other:?}")),
        })
    }

    pub fn global_expression(&mut self, handle: Handle<Expression>) -> Lowered<Vec<Register>> {
        let module = self.module;
        self.constant_expression(&module.global_expressions[handle], |lowering, handle| {
            lowering.global_expression(handle)
        })
    }

    fn literal(&mut self, literal: Literal) -> Lowered<Register> {
        let bits = match literal {
            Literal::F32(v) => v.to_bits(),
            Literal::F16(v) => v.to_f32().to_bits(),
            Literal::U32(v) => v,
            Literal::I32(v) => v as u32,
            Literal::Bool(v) => v.into(),
            other => return Err(format!("the simulator does not support {other:?}")),
        };
        Ok(self.constant(bits))
    }

    fn member_of_value(
        &mut self,
        scope: &mut FunctionScope<'a>,
        base: Handle<Expression>,
        index: u32,
    ) -> Lowered<Vec<Register>> {
        let member = self.layouts.member(self.type_of(scope, base), index)?;
        let (first, count) = (member.register as usize, self.layouts.registers(&member.ty)? as usize);
        Ok(self.value(scope, base)?[first..first + count].to_vec())
    }

    fn element_of_value(
        &mut self,
        scope: &mut FunctionScope<'a>,
        base: Handle<Expression>,
        index: Register,
    ) -> Lowered<Vec<Register>> {
        let elements = self.layouts.elements(self.type_of(scope, base))?;
        let (value, each) = (self.value(scope, base)?, elements.registers as usize);
        let all: Vec<&[Register]> = value.chunks(each).collect();
        if let Some(known) = self.known(index) {
            return Ok(all[(known as usize).min(all.len() - 1)].to_vec());
        }
        let index = self.index(index, 1, ElementCount::Fixed(all.len() as u32));
        let pick = |i: usize| {
            let dst = self.register();
            let choices = all.iter().map(|element| element[i]).collect();
            self.emit(Instruction::Pick { dst, choices, index });
            dst
        };
        Ok((0..each).map(pick).collect())
    }

    /// An operation on each pair of components; a scalar is paired with every component of a vector.
    pub fn each2(&mut self, op: BinaryOp, kind: NumberKind, a: &[Register], b: &[Register]) -> Vec<Register> {
        let count = a.len().max(b.len());
        let pairs = a.iter().cycle().zip(b.iter().cycle()).take(count);
        pairs.map(|(a, b)| self.binary(op, kind, *a, *b)).collect()
    }

    fn cast(
        &mut self,
        from: NumberKind,
        kind: ScalarKind,
        convert: Option<u8>,
        a: Vec<Register>,
    ) -> Lowered<Vec<Register>> {
        let Some(width) = convert else {
            return match from {
                NumberKind::Half => Err("the simulator does not support bitcasts of f16".into()),
                _ => Ok(a),
            };
        };
        let to = number_kind(naga::Scalar { kind, width })?;
        Ok(a.into_iter().map(|a| self.convert(from, to, a)).collect())
    }

    fn multiply_add(&mut self, scope: &mut FunctionScope<'a>, abc: [Handle<Expression>; 3]) -> Lowered<Vec<Register>> {
        let shape = |handle| match self.type_of(scope, handle) {
            TypeInner::CooperativeMatrix { rows, columns, .. } => Ok((*rows as u32, *columns as u32)),
            other => Err(format!("{other:?} is not a cooperative matrix")),
        };
        let ((rows, inner), (_, columns)) = (shape(abc[0])?, shape(abc[1])?);
        let [a, b, c] = abc.map(|handle| self.value(scope, handle));
        let (a, b, c) = (a?, b?, c?);
        let result = self.registers(c.len() as u32);
        let product = CooperativeProduct {
            rows,
            inner,
            columns,
            result: result.clone().into(),
            a: a.into(),
            b: b.into(),
            c: c.into(),
        };
        self.emit(Instruction::CooperativeMultiplyAdd(Box::new(product)));
        Ok(result)
    }
}

fn binary_op(op: BinaryOperator) -> BinaryOp {
    match op {
        BinaryOperator::Add => BinaryOp::Add,
        BinaryOperator::Subtract => BinaryOp::Subtract,
        BinaryOperator::Multiply => BinaryOp::Multiply,
        BinaryOperator::Divide => BinaryOp::Divide,
        BinaryOperator::Modulo => BinaryOp::Remainder,
        BinaryOperator::Equal => BinaryOp::Equal,
        BinaryOperator::NotEqual => BinaryOp::NotEqual,
        BinaryOperator::Less => BinaryOp::Less,
        BinaryOperator::LessEqual => BinaryOp::LessEqual,
        BinaryOperator::Greater => BinaryOp::Greater,
        BinaryOperator::GreaterEqual => BinaryOp::GreaterEqual,
        BinaryOperator::And | BinaryOperator::LogicalAnd => BinaryOp::And,
        BinaryOperator::InclusiveOr | BinaryOperator::LogicalOr => BinaryOp::Or,
        BinaryOperator::ExclusiveOr => BinaryOp::Xor,
        BinaryOperator::ShiftLeft => BinaryOp::ShiftLeft,
        BinaryOperator::ShiftRight => BinaryOp::ShiftRight,
    }
}
