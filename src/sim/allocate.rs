//! Register allocation by linear scan: values with disjoint lifetimes share a register.
//!
//! Arithmetic writes all lanes, including inactive ones. That is safe: a value is read only by lanes for which its
//! instruction was executed, and a value that the next iteration of a loop reads lives until the end of the loop.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use super::optimize::{kept_until, loops};
use super::program::{Program, Register, RegisterUse};

/// The instructions from the first to the last at which a register must keep its value.
#[derive(Clone, Copy)]
struct Lifetime {
    first: usize,
    last: usize,
}

/// Renames the registers of a program to use as few as possible.
pub(super) fn allocate(program: &mut Program) {
    let lifetimes = lifetimes(program);
    let names = assign(program, &lifetimes);
    program.constants.retain(|(register, _)| lifetimes[*register as usize].is_some());
    program.inputs.retain(|(register, _)| lifetimes[*register as usize].is_some());
    program.constants.iter_mut().for_each(|(register, _)| *register = names[*register as usize]);
    program.inputs.iter_mut().for_each(|(register, _)| *register = names[*register as usize]);
    for instruction in &mut program.instructions {
        instruction.registers(&mut |register, _| *register = names[*register as usize]);
    }
    program.register_count = names.iter().copied().filter(|name| *name != Register::MAX).max().map_or(0, |n| n + 1);
}

/// Constants and inputs live throughout, because the program runs once per workgroup.
fn lifetimes(program: &mut Program) -> Vec<Option<Lifetime>> {
    let (loops, end) = (loops(program), program.instructions.len());
    let preset: HashSet<Register> = {
        let constants = program.constants.iter().map(|(register, _)| *register);
        constants.chain(program.inputs.iter().map(|(register, _)| *register)).collect()
    };
    let mut lifetimes: Vec<Option<Lifetime>> = vec![None; program.register_count as usize];
    for (at, instruction) in program.instructions.iter_mut().enumerate() {
        instruction.registers(&mut |register, how| {
            let lifetime = lifetimes[*register as usize].get_or_insert(match preset.contains(register) {
                true => Lifetime { first: 0, last: end },
                false => Lifetime { first: at, last: at },
            });
            let last = match how {
                RegisterUse::Write => at,
                RegisterUse::Read | RegisterUse::Update => kept_until(&loops, lifetime.first, at),
            };
            lifetime.last = lifetime.last.max(last);
        });
    }
    lifetimes
}

/// The new name of each used register.
fn assign(program: &Program, lifetimes: &[Option<Lifetime>]) -> Vec<Register> {
    let mut starts: Vec<(usize, Register)> =
        (0..).zip(lifetimes).filter_map(|(register, lifetime)| Some(((*lifetime)?.first, register))).collect();
    starts.sort();
    let mut names = vec![Register::MAX; program.register_count as usize];
    let mut ends: BinaryHeap<Reverse<(usize, Register)>> = BinaryHeap::new();
    let (mut free, mut next) = (Vec::new(), 0);
    for (first, register) in starts {
        while let Some(Reverse((_, name))) = ends.peek().copied().filter(|Reverse((last, _))| *last < first) {
            ends.pop();
            free.push(name);
        }
        let name = free.pop().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        names[register as usize] = name;
        let last = lifetimes[register as usize].expect("it is used").last;
        ends.push(Reverse((last, name)));
    }
    names
}
