//! How types are laid out: in memory as WGSL specifies, in registers as one register per scalar without padding.

use naga::{ArraySize, Handle, Module, Scalar, ScalarKind, Type, TypeInner};

use super::super::arithmetic::NumberKind;
use super::Lowered;

/// The types of a module; subgroups of `width` lanes hold cooperative matrices.
pub(super) struct TypeLayouts<'a> {
    pub module: &'a Module,
    pub width: u32,
}

/// Up to four adjacent scalars in memory.
pub(super) struct Leaf {
    /// The first byte.
    pub offset: u32,
    pub kind: NumberKind,
    pub components: u8,
    pub atomic: bool,
}

/// The elements of an array or a vector.
pub(super) struct Elements {
    pub ty: TypeInner,
    /// `None` for a runtime-sized array.
    pub count: Option<u32>,
    /// Registers of an element.
    pub registers: u32,
    /// Bytes from one element to the next.
    pub stride: u32,
}

/// A member of a composite.
pub(super) struct Member {
    pub ty: TypeInner,
    /// The first of its registers.
    pub register: u32,
    /// Its first byte.
    pub offset: u32,
}

pub(super) fn number_kind(scalar: Scalar) -> Lowered<NumberKind> {
    match (scalar.kind, scalar.width) {
        (ScalarKind::Float, 4) => Ok(NumberKind::Float),
        (ScalarKind::Float, 2) => Ok(NumberKind::Half),
        (ScalarKind::Sint, 4) => Ok(NumberKind::Signed),
        (ScalarKind::Uint, 4) => Ok(NumberKind::Unsigned),
        (ScalarKind::Bool, _) => Ok(NumberKind::Bool),
        _ => Err(format!("the simulator does not support {scalar:?}")),
    }
}

impl TypeLayouts<'_> {
    fn inner(&self, ty: Handle<Type>) -> &TypeInner {
        &self.module.types[ty].inner
    }

    /// The number of registers of a value.
    pub fn registers(&self, ty: &TypeInner) -> Lowered<u32> {
        match ty {
            TypeInner::Scalar(_) | TypeInner::Atomic(_) => Ok(1),
            TypeInner::Vector { size, .. } => Ok(*size as u32),
            TypeInner::Array { base, size: ArraySize::Constant(n), .. } => {
                Ok(n.get() * self.registers(self.inner(*base))?)
            }
            TypeInner::Struct { members, .. } => members.iter().map(|m| self.registers(self.inner(m.ty))).sum(),
            TypeInner::CooperativeMatrix { columns, rows, .. } => {
                Ok((*columns as u32 * *rows as u32).div_ceil(self.width))
            }
            _ => Err(format!("the simulator does not support values of {ty:?}")),
        }
    }

    /// The scalars and vectors that a value consists of in memory.
    pub fn leaves(&self, ty: &TypeInner) -> Lowered<Vec<Leaf>> {
        let mut out = Vec::new();
        self.add_leaves(ty, 0, &mut out)?;
        Ok(out)
    }

    fn add_leaves(&self, ty: &TypeInner, offset: u32, out: &mut Vec<Leaf>) -> Lowered<()> {
        let leaf = |scalar: Scalar, components, atomic| {
            Ok::<_, String>(Leaf { offset, kind: number_kind(scalar)?, components, atomic })
        };
        match ty {
            TypeInner::Scalar(scalar) => out.push(leaf(*scalar, 1, false)?),
            TypeInner::Atomic(scalar) => out.push(leaf(*scalar, 1, true)?),
            TypeInner::Vector { size, scalar } => out.push(leaf(*scalar, *size as u8, false)?),
            TypeInner::Array { base, size: ArraySize::Constant(n), stride } => {
                for i in 0..n.get() {
                    self.add_leaves(self.inner(*base), offset + i * stride, out)?;
                }
            }
            TypeInner::Struct { members, .. } => {
                for member in members {
                    self.add_leaves(self.inner(member.ty), offset + member.offset, out)?;
                }
            }
            _ => return Err(format!("the simulator does not support {ty:?} in memory")),
        }
        Ok(())
    }

    /// The size in bytes of the smallest scalar.
    pub fn granule(&self, ty: &TypeInner) -> u32 {
        match ty {
            TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => scalar.width.into(),
            TypeInner::Array { base, .. } => self.granule(self.inner(*base)),
            TypeInner::Struct { members, .. } => {
                members.iter().map(|m| self.granule(self.inner(m.ty))).min().unwrap_or(4)
            }
            _ => 4,
        }
    }

    /// The elements of an array or a vector.
    pub fn elements(&self, ty: &TypeInner) -> Lowered<Elements> {
        match ty {
            TypeInner::Vector { size, scalar } => Ok(Elements {
                ty: TypeInner::Scalar(*scalar),
                count: Some(*size as u32),
                registers: 1,
                stride: scalar.width.into(),
            }),
            TypeInner::Array { base, size, stride } => {
                let ty = self.inner(*base).clone();
                let count = match size {
                    ArraySize::Constant(n) => Some(n.get()),
                    ArraySize::Dynamic => None,
                    ArraySize::Pending(_) => return Err("the simulator does not support overrides".into()),
                };
                Ok(Elements { registers: self.registers(&ty)?, ty, count, stride: *stride })
            }
            _ => Err(format!("{ty:?} has no elements")),
        }
    }

    /// A member of a struct, or an element with a constant index.
    pub fn member(&self, ty: &TypeInner, index: u32) -> Lowered<Member> {
        let TypeInner::Struct { members, .. } = ty else {
            let Elements { ty, registers, stride, .. } = self.elements(ty)?;
            return Ok(Member { ty, register: index * registers, offset: index * stride });
        };
        let (before, member) = (&members[..index as usize], &members[index as usize]);
        let register = before.iter().map(|m| self.registers(self.inner(m.ty))).sum::<Lowered<u32>>()?;
        Ok(Member { ty: self.inner(member.ty).clone(), register, offset: member.offset })
    }
}
