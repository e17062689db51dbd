//! Built-in functions: each is one instruction, or is composed of several.

use naga::MathFunction;

use super::super::arithmetic::{BinaryOp, FmaOp, NumberKind, UnaryOp};
use super::super::program::{Instruction, Register};
use super::{Lowered, Lowering};

impl Lowering<'_> {
    /// Calls a built-in function; the scalars of its first argument are of `kind`.
    pub fn math(&mut self, fun: MathFunction, kind: NumberKind, args: &[Vec<Register>]) -> Lowered<Vec<Register>> {
        if let Some(op) = unary_op(fun) {
            return Ok(args[0].iter().map(|a| self.unary(op, kind, *a)).collect());
        }
        let binary = match fun {
            MathFunction::Min => Some(BinaryOp::Min),
            MathFunction::Max => Some(BinaryOp::Max),
            MathFunction::Pow => Some(BinaryOp::Power),
            MathFunction::Atan2 => Some(BinaryOp::Atan2),
            _ => None,
        };
        if let Some(op) = binary {
            return Ok(self.each2(op, kind, &args[0], &args[1]));
        }
        match fun {
            MathFunction::Clamp => Ok(self.clamp(kind, &args[0], &args[1], &args[2])),
            MathFunction::Fma => {
                let each = args[0].iter().zip(&args[1]).zip(&args[2]);
                Ok(each.map(|((a, b), c)| self.fma(kind, *a, *b, *c)).collect())
            }
            MathFunction::Dot => Ok(vec![self.dot(kind, &args[0], &args[1])]),
            MathFunction::Dot4I8Packed | MathFunction::Dot4U8Packed => {
                let (signed, dst) = (fun == MathFunction::Dot4I8Packed, self.register());
                self.emit(Instruction::DotPacked { signed, dst, a: args[0][0], b: args[1][0] });
                Ok(vec![dst])
            }
            MathFunction::Unpack4xU8 => Ok(self.unpack(UnpackTo::Unsigned, args[0][0])),
            MathFunction::Unpack4xI8 => Ok(self.unpack(UnpackTo::Signed, args[0][0])),
            MathFunction::Unpack2x16float => Ok(self.unpack(UnpackTo::Half, args[0][0])),
            MathFunction::Pack4xU8 | MathFunction::Pack4xI8 => {
                let dst = self.register();
                self.emit(Instruction::PackBytes { dst, parts: std::array::from_fn(|i| args[0][i]) });
                Ok(vec![dst])
            }
            MathFunction::Pack2x16float => {
                let dst = self.register();
                self.emit(Instruction::PackHalves { dst, parts: [args[0][0], args[0][1]] });
                Ok(vec![dst])
            }
            other => self.float_function(other, kind, args),
        }
    }

    /// A function of floats that is composed of several instructions.
    fn float_function(
        &mut self,
        fun: MathFunction,
        kind: NumberKind,
        args: &[Vec<Register>],
    ) -> Lowered<Vec<Register>> {
        use BinaryOp::{Add, Divide, Multiply, Subtract};
        let (a, one) = (&args[0], [self.number(1.0)]);
        match fun {
            MathFunction::Saturate => {
                let zero = [self.number(0.0)];
                Ok(self.clamp(kind, a, &zero, &one))
            }
            MathFunction::Radians | MathFunction::Degrees => {
                let factor = if fun == MathFunction::Radians { 1f32.to_radians() } else { 1f32.to_degrees() };
                let factor = [self.number(factor)];
                Ok(self.each2(Multiply, kind, a, &factor))
            }
            MathFunction::Fract => {
                let floors: Vec<Register> = a.iter().map(|a| self.unary(UnaryOp::Floor, kind, *a)).collect();
                Ok(self.each2(Subtract, kind, a, &floors))
            }
            MathFunction::Step => {
                let zero = self.number(0.0);
                let reached = self.each2(BinaryOp::LessEqual, kind, a, &args[1]);
                Ok(reached.into_iter().map(|reached| self.select(reached, one[0], zero)).collect())
            }
            MathFunction::Mix => {
                let rest = self.each2(Subtract, kind, &one, &args[2]);
                let (a, b) = (self.each2(Multiply, kind, a, &rest), self.each2(Multiply, kind, &args[1], &args[2]));
                Ok(self.each2(Add, kind, &a, &b))
            }
            MathFunction::SmoothStep => {
                let (part, whole) = (self.each2(Subtract, kind, &args[2], a), self.each2(Subtract, kind, &args[1], a));
                let (quotient, zero) = (self.each2(Divide, kind, &part, &whole), [self.number(0.0)]);
                let t = self.clamp(kind, &quotient, &zero, &one);
                let (two, three) = ([self.number(2.0)], [self.number(3.0)]);
                let (square, twice) = (self.each2(Multiply, kind, &t, &t), self.each2(Multiply, kind, &two, &t));
                let rest = self.each2(Subtract, kind, &three, &twice);
                Ok(self.each2(Multiply, kind, &square, &rest))
            }
            MathFunction::Length => Ok(vec![self.length(kind, a)]),
            MathFunction::Distance => {
                let difference = self.each2(Subtract, kind, a, &args[1]);
                Ok(vec![self.length(kind, &difference)])
            }
            MathFunction::Normalize => {
                let length = [self.length(kind, a)];
                Ok(self.each2(Divide, kind, a, &length))
            }
            MathFunction::Cross => {
                let rotated =
                    |v: &[Register], by: usize| -> Vec<Register> { (0..3).map(|i| v[(i + by) % 3]).collect() };
                let b = &args[1];
                let plus = self.each2(Multiply, kind, &rotated(a, 1), &rotated(b, 2));
                let minus = self.each2(Multiply, kind, &rotated(a, 2), &rotated(b, 1));
                Ok(self.each2(Subtract, kind, &plus, &minus))
            }
            MathFunction::QuantizeToF16 => {
                Ok(a.iter().map(|a| self.convert(NumberKind::Float, NumberKind::Half, *a)).collect())
            }
            other => Err(format!("the simulator does not support {other:?}")),
        }
    }

    fn number(&mut self, value: f32) -> Register {
        self.constant(value.to_bits())
    }

    fn clamp(&mut self, kind: NumberKind, a: &[Register], low: &[Register], high: &[Register]) -> Vec<Register> {
        let at_least = self.each2(BinaryOp::Max, kind, a, low);
        self.each2(BinaryOp::Min, kind, &at_least, high)
    }

    fn length(&mut self, kind: NumberKind, a: &[Register]) -> Register {
        let square = self.dot(kind, a, a);
        self.unary(UnaryOp::Sqrt, kind, square)
    }

    fn fma(&mut self, kind: NumberKind, a: Register, b: Register, c: Register) -> Register {
        let dst = self.register();
        self.emit(Instruction::Fma { op: FmaOp::Add, kind, dst, a, b, c });
        dst
    }

    fn dot(&mut self, kind: NumberKind, a: &[Register], b: &[Register]) -> Register {
        let mut sum = self.binary(BinaryOp::Multiply, kind, a[0], b[0]);
        for (a, b) in a.iter().zip(b).skip(1) {
            sum = match kind.is_float() {
                true => self.fma(kind, *a, *b, sum),
                false => {
                    let product = self.binary(BinaryOp::Multiply, kind, *a, *b);
                    self.binary(BinaryOp::Add, kind, sum, product)
                }
            };
        }
        sum
    }

    fn unpack(&mut self, to: UnpackTo, a: Register) -> Vec<Register> {
        let (count, kind) = match to {
            UnpackTo::Half => (2, NumberKind::Float),
            UnpackTo::Signed => (4, NumberKind::Signed),
            UnpackTo::Unsigned => (4, NumberKind::Unsigned),
        };
        let op = |n| match to {
            UnpackTo::Half => UnaryOp::UnpackHalf(n),
            UnpackTo::Signed => UnaryOp::UnpackSigned(n),
            UnpackTo::Unsigned => UnaryOp::UnpackUnsigned(n),
        };
        (0..count).map(|n| self.unary(op(n), kind, a)).collect()
    }
}

#[derive(Clone, Copy)]
enum UnpackTo {
    Half,
    Signed,
    Unsigned,
}

fn unary_op(fun: MathFunction) -> Option<UnaryOp> {
    Some(match fun {
        MathFunction::Abs => UnaryOp::Abs,
        MathFunction::Sign => UnaryOp::Sign,
        MathFunction::Floor => UnaryOp::Floor,
        MathFunction::Ceil => UnaryOp::Ceil,
        MathFunction::Round => UnaryOp::Round,
        MathFunction::Trunc => UnaryOp::Trunc,
        MathFunction::Sqrt => UnaryOp::Sqrt,
        MathFunction::InverseSqrt => UnaryOp::InverseSqrt,
        MathFunction::Exp => UnaryOp::Exp,
        MathFunction::Exp2 => UnaryOp::Exp2,
        MathFunction::Log => UnaryOp::Log,
        MathFunction::Log2 => UnaryOp::Log2,
        MathFunction::Sin => UnaryOp::Sin,
        MathFunction::Cos => UnaryOp::Cos,
        MathFunction::Tan => UnaryOp::Tan,
        MathFunction::Asin => UnaryOp::Asin,
        MathFunction::Acos => UnaryOp::Acos,
        MathFunction::Atan => UnaryOp::Atan,
        MathFunction::Sinh => UnaryOp::Sinh,
        MathFunction::Cosh => UnaryOp::Cosh,
        MathFunction::Tanh => UnaryOp::Tanh,
        MathFunction::CountOneBits => UnaryOp::CountOneBits,
        MathFunction::CountLeadingZeros => UnaryOp::CountLeadingZeros,
        MathFunction::CountTrailingZeros => UnaryOp::CountTrailingZeros,
        MathFunction::ReverseBits => UnaryOp::ReverseBits,
        _ => return None,
    })
}
