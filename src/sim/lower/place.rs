//! Places: the targets of pointers. Pointers exist only during lowering; at run time only their indices are computed.

use naga::TypeInner;

use super::super::arithmetic::{BinaryOp, NumberKind};
use super::super::program::{AtomicOp, ElementCount, Instruction, MemoryAccess, Register};
use super::layout::{Elements, Leaf};
use super::{Lowered, Lowering};

#[derive(Clone)]
pub(super) enum Place {
    /// The registers of a local variable; of an array, those of each element, selected by `index`.
    Local { choices: Vec<Vec<Register>>, index: Option<Register>, ty: TypeInner },
    /// Byte `address + offset` of a variable of the module.
    Memory { variable: u16, address: Register, offset: u32, ty: TypeInner },
}

impl Place {
    pub fn ty(&self) -> &TypeInner {
        match self {
            Place::Local { ty, .. } | Place::Memory { ty, .. } => ty,
        }
    }
}

impl Lowering<'_> {
    /// A member of a place, or an element with a constant index.
    pub fn member_place(&mut self, place: Place, index: u32) -> Lowered<Place> {
        let member = self.layouts.member(place.ty(), index)?;
        let count = match member.ty {
            // Only memory has runtime-sized arrays.
            TypeInner::Array { size: naga::ArraySize::Dynamic, .. } => 0,
            _ => self.layouts.registers(&member.ty)?,
        };
        Ok(match place {
            Place::Local { choices, index, .. } => {
                let range = member.register as usize..(member.register + count) as usize;
                let choices = choices.iter().map(|registers| registers[range.clone()].to_vec()).collect();
                Place::Local { choices, index, ty: member.ty }
            }
            Place::Memory { variable, address, offset, .. } => {
                Place::Memory { variable, address, offset: offset + member.offset, ty: member.ty }
            }
        })
    }

    /// An element of a place.
    pub fn element_place(&mut self, place: Place, index: Register) -> Lowered<Place> {
        let elements = self.layouts.elements(place.ty())?;
        if let (Some(index), Some(count)) = (self.known(index), elements.count) {
            return self.member_place(place, index.min(count - 1));
        }
        let Elements { ty, count, registers, stride } = elements;
        match place {
            Place::Local { choices, index: outer, .. } => {
                let count = count.ok_or("an array in registers has a size")?;
                let inner = self.index(index, 1, ElementCount::Fixed(count));
                let index = match outer {
                    None => inner,
                    Some(outer) => {
                        let count = self.constant(count);
                        let before = self.binary(BinaryOp::Multiply, NumberKind::Unsigned, outer, count);
                        self.binary(BinaryOp::Add, NumberKind::Unsigned, before, inner)
                    }
                };
                let each = choices.iter().flat_map(|all| all.chunks(registers as usize).map(<[Register]>::to_vec));
                Ok(Place::Local { choices: each.collect(), index: Some(index), ty })
            }
            Place::Memory { variable, address, offset, .. } => {
                let count = match count {
                    Some(count) => ElementCount::Fixed(count),
                    None => ElementCount::Runtime { variable, offset },
                };
                let address = self.index_from(address, index, stride, count);
                Ok(Place::Memory { variable, address, offset, ty })
            }
        }
    }

    /// A dynamic index, clamped to the last element, times `stride`.
    pub fn index(&mut self, index: Register, stride: u32, count: ElementCount) -> Register {
        let zero = self.constant(0);
        self.index_from(zero, index, stride, count)
    }

    fn index_from(&mut self, base: Register, index: Register, stride: u32, count: ElementCount) -> Register {
        let dst = self.register();
        self.emit(Instruction::Index { dst, base, index, stride, count });
        dst
    }

    /// The number of elements of a runtime-sized array.
    pub fn array_length(&mut self, place: &Place) -> Lowered<Register> {
        let (Place::Memory { variable, offset, .. }, Elements { stride, .. }) =
            (place, self.layouts.elements(place.ty())?)
        else {
            return Err(format!("{:?} has no length", place.ty()));
        };
        let (dst, count) = (self.register(), ElementCount::Runtime { variable: *variable, offset: *offset });
        self.emit(Instruction::ArrayLength { dst, stride, count });
        Ok(dst)
    }

    /// The value of a place.
    pub fn load(&mut self, place: &Place) -> Lowered<Vec<Register>> {
        match place {
            Place::Local { choices, index: None, .. } => {
                let read = |src: &Register| {
                    let dst = self.register();
                    self.emit(Instruction::Copy { dst, src: *src });
                    dst
                };
                Ok(choices[0].iter().map(read).collect())
            }
            Place::Local { choices, index: Some(index), .. } => {
                let pick = |i: usize| {
                    let dst = self.register();
                    let choices = choices.iter().map(|choice| choice[i]).collect();
                    self.emit(Instruction::Pick { dst, choices, index: *index });
                    dst
                };
                Ok((0..choices[0].len()).map(pick).collect())
            }
            Place::Memory { variable, address, offset, ty } => {
                let mut value = Vec::new();
                for leaf in self.layouts.leaves(ty)? {
                    let registers = self.registers(leaf.components.into());
                    let access = access((*variable, *address, *offset), &leaf);
                    let (dst, operand) = (registers[0], *address);
                    self.emit(match leaf.atomic {
                        true => Instruction::Atomic { op: AtomicOp::Load, access, dst, operand, compare: operand },
                        false => Instruction::Load { access, dst: four(&registers) },
                    });
                    value.extend(registers);
                }
                Ok(value)
            }
        }
    }

    /// Stores a value in a place.
    pub fn store(&mut self, place: &Place, value: &[Register]) -> Lowered<()> {
        match place {
            Place::Local { choices, index: None, .. } => {
                for (dst, src) in choices[0].iter().zip(value) {
                    self.emit(Instruction::Assign { dst: *dst, src: *src });
                }
            }
            Place::Local { choices, index: Some(index), .. } => {
                for (i, src) in value.iter().enumerate() {
                    let choices = choices.iter().map(|choice| choice[i]).collect();
                    self.emit(Instruction::Put { choices, index: *index, src: *src });
                }
            }
            Place::Memory { variable, address, offset, ty } => {
                let mut rest = value;
                for leaf in self.layouts.leaves(ty)? {
                    let (src, after) = rest.split_at(leaf.components.into());
                    let access = access((*variable, *address, *offset), &leaf);
                    if leaf.atomic {
                        let (op, dst, operand) = (AtomicOp::Exchange, self.register(), src[0]);
                        self.emit(Instruction::Atomic { op, access, dst, operand, compare: operand });
                    } else {
                        self.emit(Instruction::Store { access, src: four(src) });
                    }
                    rest = after;
                }
            }
        }
        Ok(())
    }

    /// The access of a scalar in memory.
    pub fn scalar_access(&mut self, place: &Place) -> Lowered<MemoryAccess> {
        let Place::Memory { variable, address, offset, ty } = place else {
            return Err("the simulator supports atomics and cooperative matrices only in memory".into());
        };
        let leaves = self.layouts.leaves(ty)?;
        Ok(access((*variable, *address, *offset), &leaves[0]))
    }
}

fn access((variable, address, offset): (u16, Register, u32), leaf: &Leaf) -> MemoryAccess {
    MemoryAccess { variable, kind: leaf.kind, components: leaf.components, address, offset: offset + leaf.offset }
}

/// The registers, padded to four.
fn four(registers: &[Register]) -> [Register; 4] {
    std::array::from_fn(|i| registers.get(i).copied().unwrap_or(registers[0]))
}
