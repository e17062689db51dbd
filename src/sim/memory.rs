//! Memory: the buffers that a dispatch binds, workgroup memory, and their loads, stores and atomic operations.

use half::f16;

use super::arithmetic::{self, NumberKind};
use super::execute::DispatchState;
use super::lanes::{Subgroup, lanes_of};
use super::program::{AtomicOp, ElementCount, MemoryAccess, Program, Register, VariableSpace};
use super::sanitizer::AccessKind;

/// The range of a buffer that is bound to a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundRange {
    /// Index of the buffer.
    pub buffer: usize,
    /// The first byte, a multiple of 4.
    pub offset: u64,
    /// Its length in bytes, a multiple of 4.
    pub bytes: u64,
}

/// The location of each variable.
pub(super) struct VariablePlaces {
    places: Vec<VariablePlace>,
    /// Words of workgroup memory.
    pub workgroup_words: usize,
}

#[derive(Clone, Copy)]
struct VariablePlace {
    /// `None` for workgroup memory.
    buffer: Option<usize>,
    first_word: usize,
    words: usize,
}

impl VariablePlaces {
    /// `bindings` has the range of each binding number.
    ///
    /// # Errors
    /// If a binding is missing.
    pub fn new(program: &Program, bindings: &[BoundRange]) -> Result<Self, String> {
        let mut workgroup_words = 0;
        let mut place = |variable: &super::program::Variable| match variable.space {
            VariableSpace::Workgroup => {
                let (first_word, words) = (workgroup_words, variable.bytes.next_multiple_of(16) as usize / 4);
                workgroup_words += words;
                Ok(VariablePlace { buffer: None, first_word, words })
            }
            VariableSpace::Binding(number, _) => {
                let range = bindings.get(number as usize).ok_or(format!("nothing is bound to {}", variable.name))?;
                let (first_word, words) = ((range.offset / 4) as usize, (range.bytes / 4) as usize);
                Ok(VariablePlace { buffer: Some(range.buffer), first_word, words })
            }
        };
        let places: Result<Vec<_>, String> = program.variables.iter().map(&mut place).collect();
        Ok(VariablePlaces { places: places?, workgroup_words })
    }
}

fn read_scalar(words: &[u32], kind: NumberKind, address: u32) -> u32 {
    let word = words.get(address as usize / 4).copied().unwrap_or(0);
    match kind {
        NumberKind::Half => f16::from_bits((word >> (8 * (address & 2))) as u16).to_f32().to_bits(),
        _ => word,
    }
}

fn write_scalar(words: &mut [u32], kind: NumberKind, address: u32, bits: u32) {
    let Some(word) = words.get_mut(address as usize / 4) else { return };
    *word = match kind {
        NumberKind::Half => {
            let (half, shift) = (u32::from(f16::from_f32(f32::from_bits(bits)).to_bits()), 8 * (address & 2));
            *word & !(0xffff << shift) | half << shift
        }
        _ => bits,
    };
}

impl VariablePlaces {
    /// The words of a variable.
    pub fn words<'m>(&self, variable: u16, buffers: &'m mut [Vec<u32>], workgroup: &'m mut [u32]) -> &'m mut [u32] {
        let VariablePlace { buffer, first_word, words } = self.places[variable as usize];
        let all = match buffer {
            Some(buffer) => &mut buffers[buffer],
            None => workgroup,
        };
        let end = (first_word + words).min(all.len());
        &mut all[first_word.min(end)..end]
    }
}

impl DispatchState<'_> {
    /// The number of elements of an array.
    pub fn element_count(&self, count: ElementCount, stride: u32) -> u32 {
        match count {
            ElementCount::Fixed(n) => n,
            ElementCount::Runtime { variable, offset } => {
                (self.places.places[variable as usize].words as u32 * 4).saturating_sub(offset) / stride
            }
        }
    }

    /// Counts an access.
    fn count(&mut self, subgroup: &Subgroup, access: &MemoryAccess, how: AccessKind) {
        if let Some(profile) = &mut self.profile {
            let addresses = lanes_of(subgroup.mask).map(|lane| subgroup.get(access.address, lane) + access.offset);
            profile.access(access, how, addresses);
        }
    }

    pub fn load(&mut self, subgroup: &Subgroup, access: &MemoryAccess, dst: &[Register; 4]) {
        self.count(subgroup, access, AccessKind::Read);
        for lane in lanes_of(subgroup.mask) {
            let address = subgroup.get(access.address, lane) + access.offset;
            for (dst, i) in dst.iter().zip(0..access.components.into()) {
                let bits = self.load_scalar(access, address + i * access.kind.bytes(), subgroup.invocation(lane));
                subgroup.set(*dst, lane, bits);
            }
        }
    }

    pub fn store(&mut self, subgroup: &Subgroup, access: &MemoryAccess, src: &[Register; 4]) {
        self.count(subgroup, access, AccessKind::Write);
        for lane in lanes_of(subgroup.mask) {
            let address = subgroup.get(access.address, lane) + access.offset;
            for (src, i) in src.iter().zip(0..access.components.into()) {
                let (address, bits) = (address + i * access.kind.bytes(), subgroup.get(*src, lane));
                self.store_scalar(access, address, subgroup.invocation(lane), bits);
            }
        }
    }

    /// An atomic operation of each active lane, in order.
    pub fn atomic(
        &mut self,
        subgroup: &Subgroup,
        op: AtomicOp,
        access: &MemoryAccess,
        [dst, operand, compare]: [Register; 3],
    ) {
        let how = match op {
            AtomicOp::Exchange => AccessKind::AtomicStore,
            AtomicOp::Load | AtomicOp::Combine(_) | AtomicOp::CompareExchange => AccessKind::Atomic,
        };
        self.count(subgroup, access, how);
        for lane in lanes_of(subgroup.mask) {
            let address = subgroup.get(access.address, lane) + access.offset;
            if let Some(sanitizer) = &mut self.sanitizer {
                sanitizer.atomic(self.pc, access.variable, how, address, subgroup.invocation(lane));
            }
            let words = self.places.words(access.variable, self.buffers, &mut self.workgroup_memory);
            let (old, operand) = (read_scalar(words, access.kind, address), subgroup.get(operand, lane));
            let new = match op {
                AtomicOp::Load => old,
                AtomicOp::Exchange => operand,
                AtomicOp::CompareExchange if old == subgroup.get(compare, lane) => operand,
                AtomicOp::CompareExchange => old,
                AtomicOp::Combine(op) => arithmetic::binary_of_two(op, access.kind, old, operand),
            };
            write_scalar(words, access.kind, address, new);
            subgroup.set(dst, lane, old);
        }
    }

    /// Loads a scalar for an invocation.
    pub fn load_scalar(&mut self, access: &MemoryAccess, address: u32, invocation: u32) -> u32 {
        if let Some(sanitizer) = &mut self.sanitizer {
            sanitizer.read(self.pc, access.variable, address, invocation);
        }
        let words = self.places.words(access.variable, self.buffers, &mut self.workgroup_memory);
        read_scalar(words, access.kind, address)
    }

    /// Stores a scalar for an invocation.
    pub fn store_scalar(&mut self, access: &MemoryAccess, address: u32, invocation: u32, bits: u32) {
        let words = self.places.words(access.variable, self.buffers, &mut self.workgroup_memory);
        let before = read_scalar(words, access.kind, address);
        write_scalar(words, access.kind, address, bits);
        if let Some(sanitizer) = &mut self.sanitizer {
            let same = before == read_scalar(words, access.kind, address);
            sanitizer.write(self.pc, access.variable, same, address, invocation);
        }
    }
}
