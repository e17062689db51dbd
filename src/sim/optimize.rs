//! Optimizations that every driver performs: contracts products and sums into multiply-adds, and removes copies of
//! unchanged variables and unused results.
//!
//! The input is a program in which each register is written by one instruction, except for those of variables.

use std::collections::HashMap;

use super::arithmetic::{BinaryOp, FmaOp};
use super::program::{Instruction, Program, Register, RegisterUse};

/// Optimizes a newly lowered program.
pub(super) fn optimize(program: &mut Program) {
    join_products_and_sums(program);
    Copies::new(program).remove(program);
    remove_unused(program);
    remove_nops(program);
}

/// The number of reads of each register.
fn count_reads(program: &mut Program) -> Vec<u32> {
    let mut reads = vec![0; program.register_count as usize];
    for instruction in &mut program.instructions {
        instruction.registers(&mut |register, how| reads[*register as usize] += u32::from(how == RegisterUse::Read));
    }
    reads
}

/// Contracts a product into the only sum or difference that reads it.
fn join_products_and_sums(program: &mut Program) {
    let reads = count_reads(program);
    let mut products: HashMap<Register, [Register; 2]> = HashMap::new();
    for instruction in &mut program.instructions {
        let Instruction::Binary { op, kind, dst, a, b } = *instruction else { continue };
        if !kind.is_float() {
            continue;
        }
        let product = |register: Register| products.get(&register).filter(|_| reads[register as usize] == 1);
        let joined = match op {
            BinaryOp::Multiply => {
                products.insert(dst, [a, b]);
                None
            }
            BinaryOp::Add => match (product(a), product(b)) {
                (Some(factors), _) => Some((FmaOp::Add, *factors, b)),
                (None, Some(factors)) => Some((FmaOp::Add, *factors, a)),
                (None, None) => None,
            },
            BinaryOp::Subtract => match (product(a), product(b)) {
                (Some(factors), _) => Some((FmaOp::Subtract, *factors, b)),
                (None, Some(factors)) => Some((FmaOp::SubtractFrom, *factors, a)),
                (None, None) => None,
            },
            _ => None,
        };
        if let Some((op, [a, b], c)) = joined {
            *instruction = Instruction::Fma { op, kind, dst, a, b, c };
        }
    }
}

/// The ranges of loops, from `Loop` to `EndLoop`.
pub(super) fn loops(program: &Program) -> Vec<(usize, usize)> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    for (at, instruction) in program.instructions.iter().enumerate() {
        match instruction {
            Instruction::Loop => open.push(at),
            Instruction::EndLoop { .. } => all.push((open.pop().expect("loops are nested"), at)),
            _ => {}
        }
    }
    all
}

/// The last instruction that may read a value written at `write` and read at `read`: if a loop begins between them,
/// each of its iterations reads the value.
pub(super) fn kept_until(loops: &[(usize, usize)], write: usize, read: usize) -> usize {
    let repeats = loops.iter().filter(|(start, end)| write < *start && (*start..*end).contains(&read));
    repeats.map(|(_, end)| *end).max().unwrap_or(read)
}

/// Reads and writes of variables and their copies.
struct Copies {
    /// The instructions that write each variable.
    writes: HashMap<Register, Vec<usize>>,
    /// The last instruction that may read each register.
    last_reads: Vec<usize>,
}

impl Copies {
    fn new(program: &mut Program) -> Self {
        let loops = loops(program);
        let count = program.register_count as usize;
        let (mut written, mut last_reads) = (vec![0; count], vec![0; count]);
        let mut writes: HashMap<Register, Vec<usize>> = HashMap::new();
        for (at, instruction) in program.instructions.iter_mut().enumerate() {
            instruction.registers(&mut |register, how| match how {
                RegisterUse::Read => {
                    let last = &mut last_reads[*register as usize];
                    *last = (*last).max(kept_until(&loops, written[*register as usize], at));
                }
                RegisterUse::Write => written[*register as usize] = at,
                RegisterUse::Update => writes.entry(*register).or_default().push(at),
            });
        }
        Copies { writes, last_reads }
    }

    /// Whether the variable `src`, copied to `dst` at `at`, keeps its value while the copy is in use.
    fn removable(&self, at: usize, dst: Register, src: Register) -> bool {
        let Some(writes) = self.writes.get(&src) else { return true };
        let next = writes.get(writes.partition_point(|write| *write < at));
        // The last reader may write the variable: instructions read before they write.
        next.is_none_or(|next| *next >= self.last_reads[dst as usize])
    }

    fn remove(&self, program: &mut Program) {
        let mut same: HashMap<Register, Register> = HashMap::new();
        for (at, instruction) in program.instructions.iter_mut().enumerate() {
            instruction.registers(&mut |register, how| {
                if how == RegisterUse::Read {
                    *register = same.get(register).copied().unwrap_or(*register);
                }
            });
            if let Instruction::Copy { dst, src } = *instruction
                && self.removable(at, dst, src)
            {
                same.insert(dst, src);
                *instruction = Instruction::Nop;
            }
        }
    }
}

fn remove_unused(program: &mut Program) {
    let mut reads = count_reads(program);
    for instruction in program.instructions.iter_mut().rev() {
        let mut unused = instruction.is_pure();
        instruction
            .registers(&mut |register, how| unused &= how == RegisterUse::Read || reads[*register as usize] == 0);
        if unused {
            instruction
                .registers(&mut |register, how| reads[*register as usize] -= u32::from(how == RegisterUse::Read));
            *instruction = Instruction::Nop;
        }
    }
}

/// Deletes `Nop`s and adjusts jumps.
fn remove_nops(program: &mut Program) {
    let mut places = Vec::with_capacity(program.instructions.len());
    let mut count = 0;
    for instruction in &program.instructions {
        places.push(count);
        count += u32::from(!matches!(instruction, Instruction::Nop));
    }
    let kept = |at: &usize| !matches!(program.instructions[*at], Instruction::Nop);
    let kept: Vec<usize> = (0..program.instructions.len()).filter(kept).collect();
    program.lines = kept.iter().map(|at| program.lines[*at]).collect();
    program.instructions.retain(|instruction| !matches!(instruction, Instruction::Nop));
    for instruction in &mut program.instructions {
        if let Some(target) = instruction.target() {
            *target = places[*target as usize];
        }
    }
}
