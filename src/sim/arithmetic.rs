//! Arithmetic over the lanes of a subgroup, as WGSL defines it.
//!
//! Operands are slices of [`Cell`]s, because a result may overwrite an operand. An f16 is held as an f32 that is
//! rounded after every operation.

use std::cell::Cell;

use half::f16;

/// The type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NumberKind {
    Float,
    Half,
    Signed,
    Unsigned,
    Bool,
}

impl NumberKind {
    pub fn is_float(self) -> bool {
        matches!(self, NumberKind::Float | NumberKind::Half)
    }

    /// Bytes in memory.
    pub fn bytes(self) -> u32 {
        if self == NumberKind::Half { 2 } else { 4 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum UnaryOp {
    Negate,
    Not,
    LogicalNot,
    Abs,
    Sign,
    Floor,
    Ceil,
    Round,
    Trunc,
    Sqrt,
    InverseSqrt,
    Exp,
    Exp2,
    Log,
    Log2,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    CountOneBits,
    CountLeadingZeros,
    CountTrailingZeros,
    ReverseBits,
    /// Byte n, zero-extended.
    UnpackUnsigned(u8),
    /// Byte n, sign-extended.
    UnpackSigned(u8),
    /// The f16 in half n of the word.
    UnpackHalf(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Min,
    Max,
    Power,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

/// The signs of a multiply-add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FmaOp {
    /// a * b + c
    Add,
    /// a * b - c
    Subtract,
    /// c - a * b
    SubtractFrom,
}

pub(super) type Lanes<'a> = &'a [Cell<u32>];

fn round_to_half(v: f32) -> f32 {
    f16::from_f32(v).to_f32()
}

/// Applies `f` to each lane's bits.
#[inline(always)]
fn map(dst: Lanes, a: Lanes, f: impl Fn(u32) -> u32) {
    for (dst, a) in dst.iter().zip(a) {
        dst.set(f(a.get()));
    }
}

#[inline(always)]
fn map2(dst: Lanes, a: Lanes, b: Lanes, f: impl Fn(u32, u32) -> u32) {
    for ((dst, a), b) in dst.iter().zip(a).zip(b) {
        dst.set(f(a.get(), b.get()));
    }
}

/// Applies `f` to each lane's number.
#[inline(always)]
fn map_float(dst: Lanes, a: Lanes, f: impl Fn(f32) -> f32) {
    map(dst, a, |a| f(f32::from_bits(a)).to_bits());
}

#[inline(always)]
fn map_float2(dst: Lanes, a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) {
    map2(dst, a, b, |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits());
}

#[inline(always)]
fn compare_float(dst: Lanes, a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> bool) {
    map2(dst, a, b, |a, b| f(f32::from_bits(a), f32::from_bits(b)).into());
}

#[inline(always)]
fn compare_signed(dst: Lanes, a: Lanes, b: Lanes, f: impl Fn(i32, i32) -> bool) {
    map2(dst, a, b, |a, b| f(a as i32, b as i32).into());
}

fn round_if_half(kind: NumberKind, dst: Lanes) {
    if kind == NumberKind::Half {
        map_float(dst, dst, round_to_half);
    }
}

pub(super) fn unary(op: UnaryOp, kind: NumberKind, dst: Lanes, a: Lanes) {
    use UnaryOp::*;
    match (op, kind.is_float()) {
        (Negate, true) => map_float(dst, a, |a| -a),
        (Negate, false) => map(dst, a, u32::wrapping_neg),
        (Abs, true) => map_float(dst, a, f32::abs),
        (Abs, false) if kind == NumberKind::Signed => map(dst, a, |a| (a as i32).wrapping_abs() as u32),
        (Abs, false) => map(dst, a, |a| a),
        (Sign, true) => map_float(dst, a, |a| if a == 0.0 { 0.0 } else { 1f32.copysign(a) }),
        (Sign, false) => map(dst, a, |a| (a as i32).signum() as u32),
        (Not, _) => map(dst, a, |a| !a),
        (LogicalNot, _) => map(dst, a, |a| a ^ 1),
        (Floor, _) => map_float(dst, a, f32::floor),
        (Ceil, _) => map_float(dst, a, f32::ceil),
        (Round, _) => map_float(dst, a, f32::round_ties_even),
        (Trunc, _) => map_float(dst, a, f32::trunc),
        (Sqrt, _) => map_float(dst, a, f32::sqrt),
        (InverseSqrt, _) => map_float(dst, a, |a| 1.0 / a.sqrt()),
        (Exp, _) => map_float(dst, a, f32::exp),
        (Exp2, _) => map_float(dst, a, f32::exp2),
        (Log, _) => map_float(dst, a, f32::ln),
        (Log2, _) => map_float(dst, a, f32::log2),
        (Sin, _) => map_float(dst, a, f32::sin),
        (Cos, _) => map_float(dst, a, f32::cos),
        (Tan, _) => map_float(dst, a, f32::tan),
        (Asin, _) => map_float(dst, a, f32::asin),
        (Acos, _) => map_float(dst, a, f32::acos),
        (Atan, _) => map_float(dst, a, f32::atan),
        (Sinh, _) => map_float(dst, a, f32::sinh),
        (Cosh, _) => map_float(dst, a, f32::cosh),
        (Tanh, _) => map_float(dst, a, f32::tanh),
        (CountOneBits, _) => map(dst, a, u32::count_ones),
        (CountLeadingZeros, _) => map(dst, a, u32::leading_zeros),
        (CountTrailingZeros, _) => map(dst, a, u32::trailing_zeros),
        (ReverseBits, _) => map(dst, a, u32::reverse_bits),
        (UnpackUnsigned(n), _) => map(dst, a, |a| u32::from(a.to_le_bytes()[n as usize])),
        (UnpackSigned(n), _) => map(dst, a, |a| i32::from(a.to_le_bytes()[n as usize] as i8) as u32),
        (UnpackHalf(n), _) => map(dst, a, |a| f16::from_bits((a >> (16 * n)) as u16).to_f32().to_bits()),
    }
    round_if_half(kind, dst);
}

pub(super) fn binary(op: BinaryOp, kind: NumberKind, dst: Lanes, a: Lanes, b: Lanes) {
    match kind {
        NumberKind::Float | NumberKind::Half => float(op, dst, a, b),
        NumberKind::Signed => signed(op, dst, a, b),
        NumberKind::Unsigned | NumberKind::Bool => unsigned(op, dst, a, b),
    }
    if !is_comparison(op) {
        round_if_half(kind, dst);
    }
}

/// Whether its result is a boolean.
pub(super) fn is_comparison(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
}

fn float(op: BinaryOp, dst: Lanes, a: Lanes, b: Lanes) {
    use BinaryOp::*;
    match op {
        Add => map_float2(dst, a, b, |a, b| a + b),
        Subtract => map_float2(dst, a, b, |a, b| a - b),
        Multiply => map_float2(dst, a, b, |a, b| a * b),
        Divide => map_float2(dst, a, b, |a, b| a / b),
        Remainder => map_float2(dst, a, b, |a, b| a % b),
        Min => map_float2(dst, a, b, f32::min),
        Max => map_float2(dst, a, b, f32::max),
        Power => map_float2(dst, a, b, f32::powf),
        Atan2 => map_float2(dst, a, b, f32::atan2),
        Equal => compare_float(dst, a, b, |a, b| a == b),
        NotEqual => compare_float(dst, a, b, |a, b| a != b),
        Less => compare_float(dst, a, b, |a, b| a < b),
        LessEqual => compare_float(dst, a, b, |a, b| a <= b),
        Greater => compare_float(dst, a, b, |a, b| a > b),
        GreaterEqual => compare_float(dst, a, b, |a, b| a >= b),
        And | Or | Xor | ShiftLeft | ShiftRight => unreachable!("WGSL has no {op:?} of floats"),
    }
}

fn signed(op: BinaryOp, dst: Lanes, a: Lanes, b: Lanes) {
    use BinaryOp::*;
    match op {
        // By zero, and of the smallest number by -1: the dividend, as WGSL says.
        Divide => map2(dst, a, b, |a, b| (a as i32).checked_div(b as i32).unwrap_or(a as i32) as u32),
        Remainder => map2(dst, a, b, |a, b| (a as i32).checked_rem(b as i32).unwrap_or(0) as u32),
        Min => map2(dst, a, b, |a, b| (a as i32).min(b as i32) as u32),
        Max => map2(dst, a, b, |a, b| (a as i32).max(b as i32) as u32),
        Less => compare_signed(dst, a, b, |a, b| a < b),
        LessEqual => compare_signed(dst, a, b, |a, b| a <= b),
        Greater => compare_signed(dst, a, b, |a, b| a > b),
        GreaterEqual => compare_signed(dst, a, b, |a, b| a >= b),
        ShiftRight => map2(dst, a, b, |a, b| ((a as i32) >> (b & 31)) as u32),
        _ => unsigned(op, dst, a, b),
    }
}

fn unsigned(op: BinaryOp, dst: Lanes, a: Lanes, b: Lanes) {
    use BinaryOp::*;
    match op {
        Add => map2(dst, a, b, u32::wrapping_add),
        Subtract => map2(dst, a, b, u32::wrapping_sub),
        Multiply => map2(dst, a, b, u32::wrapping_mul),
        Divide => map2(dst, a, b, |a, b| a.checked_div(b).unwrap_or(a)),
        Remainder => map2(dst, a, b, |a, b| a.checked_rem(b).unwrap_or(0)),
        Min => map2(dst, a, b, u32::min),
        Max => map2(dst, a, b, u32::max),
        Equal => map2(dst, a, b, |a, b| (a == b).into()),
        NotEqual => map2(dst, a, b, |a, b| (a != b).into()),
        Less => map2(dst, a, b, |a, b| (a < b).into()),
        LessEqual => map2(dst, a, b, |a, b| (a <= b).into()),
        Greater => map2(dst, a, b, |a, b| (a > b).into()),
        GreaterEqual => map2(dst, a, b, |a, b| (a >= b).into()),
        And => map2(dst, a, b, |a, b| a & b),
        Or => map2(dst, a, b, |a, b| a | b),
        Xor => map2(dst, a, b, |a, b| a ^ b),
        ShiftLeft => map2(dst, a, b, |a, b| a << (b & 31)),
        ShiftRight => map2(dst, a, b, |a, b| a >> (b & 31)),
        Power | Atan2 => unreachable!("WGSL has no {op:?} of integers"),
    }
}

/// A product and a sum, each rounded, as WGSL allows.
pub(super) fn fma(op: FmaOp, kind: NumberKind, dst: Lanes, [a, b, c]: [Lanes; 3]) {
    let each = |f: fn(f32, f32) -> f32| {
        for (((dst, a), b), c) in dst.iter().zip(a).zip(b).zip(c) {
            let product = f32::from_bits(a.get()) * f32::from_bits(b.get());
            dst.set(f(product, f32::from_bits(c.get())).to_bits());
        }
    };
    match op {
        FmaOp::Add => each(|product, c| product + c),
        FmaOp::Subtract => each(|product, c| product - c),
        FmaOp::SubtractFrom => each(|product, c| c - product),
    }
    round_if_half(kind, dst);
}

pub(super) fn select(dst: Lanes, condition: Lanes, accept: Lanes, reject: Lanes) {
    for (((dst, condition), accept), reject) in dst.iter().zip(condition).zip(accept).zip(reject) {
        dst.set(if condition.get() != 0 { accept.get() } else { reject.get() });
    }
}

pub(super) fn convert(from: NumberKind, to: NumberKind, dst: Lanes, a: Lanes) {
    use NumberKind::*;
    match (from, to) {
        (Float | Half, Float | Half) => map(dst, a, |a| a),
        (Float | Half, Signed) => map(dst, a, |a| f32::from_bits(a) as i32 as u32),
        (Float | Half, Unsigned) => map(dst, a, |a| f32::from_bits(a) as u32),
        (Float | Half, Bool) => map(dst, a, |a| (f32::from_bits(a) != 0.0).into()),
        (Signed, Float | Half) => map(dst, a, |a| (a as i32 as f32).to_bits()),
        (Unsigned | Bool, Float | Half) => map(dst, a, |a| (a as f32).to_bits()),
        (Signed | Unsigned, Bool) => map(dst, a, |a| (a != 0).into()),
        (Signed | Unsigned | Bool, Signed | Unsigned | Bool) => map(dst, a, |a| a),
    }
    round_if_half(to, dst);
}

pub(super) fn dot_packed(signed: bool, dst: Lanes, a: Lanes, b: Lanes) {
    let products = |a: u32, b: u32| a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    if signed {
        map2(dst, a, b, |a, b| {
            products(a, b).map(|(a, b)| i32::from(a as i8) * i32::from(b as i8)).sum::<i32>() as u32
        });
    } else {
        map2(dst, a, b, |a, b| products(a, b).map(|(a, b)| u32::from(a) * u32::from(b)).sum());
    }
}

pub(super) fn pack_bytes(dst: Lanes, parts: [Lanes; 4]) {
    for (lane, dst) in dst.iter().enumerate() {
        dst.set(u32::from_le_bytes(parts.map(|part| part[lane].get() as u8)));
    }
}

pub(super) fn pack_halves(dst: Lanes, [low, high]: [Lanes; 2]) {
    let bits = |v| u32::from(f16::from_f32(f32::from_bits(v)).to_bits());
    map2(dst, low, high, |low, high| bits(low) | bits(high) << 16);
}

/// The identity of an associative operation.
pub(super) fn identity(op: BinaryOp, kind: NumberKind) -> u32 {
    match (op, kind.is_float()) {
        (BinaryOp::Multiply, true) => 1f32.to_bits(),
        (BinaryOp::Multiply, false) => 1,
        _ => 0,
    }
}

/// An operation on two values.
pub(super) fn binary_of_two(op: BinaryOp, kind: NumberKind, a: u32, b: u32) -> u32 {
    let (dst, a, b) = ([Cell::new(0)], [Cell::new(a)], [Cell::new(b)]);
    binary(op, kind, &dst, &a, &b);
    dst[0].get()
}
