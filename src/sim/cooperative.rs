//! Cooperative matrices and subgroup operations.
//!
//! A matrix's elements are distributed over the lanes row by row. Drivers distribute them differently; kernels cannot
//! observe it.

use super::arithmetic;
use super::arithmetic::{BinaryOp, NumberKind};
use super::execute::DispatchState;
use super::lanes::{LaneMask, Subgroup, lanes_of};
use super::program::{CooperativeAccess, CooperativeProduct, Register, SubgroupOp};
use super::sanitizer::AccessKind;

impl CooperativeAccess {
    /// The address of an element, for a subgroup whose first lane has the pointer and the stride.
    fn address(&self, subgroup: &Subgroup, element: u32) -> u32 {
        let (row, column) = (element / self.shape.1, element % self.shape.1);
        let stride = subgroup.get(self.stride, 0);
        let at = if self.row_major { row * stride + column } else { column * stride + row };
        subgroup.get(self.memory.address, 0) + self.memory.offset + at * self.memory.kind.bytes()
    }

    fn elements(&self) -> u32 {
        self.shape.0 * self.shape.1
    }
}

impl DispatchState<'_> {
    pub fn cooperative_load(&mut self, subgroup: &Subgroup, access: &CooperativeAccess) {
        self.count_matrix(subgroup, access, AccessKind::Read);
        for element in 0..access.elements() {
            let (register, lane) = (element / self.program.width, element % self.program.width);
            let (address, invocation) = (access.address(subgroup, element), subgroup.invocation(lane as usize));
            let bits = self.load_scalar(&access.memory, address, invocation);
            subgroup.set(access.registers[register as usize], lane as usize, bits);
        }
    }

    pub fn cooperative_store(&mut self, subgroup: &Subgroup, access: &CooperativeAccess) {
        self.count_matrix(subgroup, access, AccessKind::Write);
        for element in 0..access.elements() {
            let (register, lane) = (element / self.program.width, element % self.program.width);
            let bits = subgroup.get(access.registers[register as usize], lane as usize);
            let (address, invocation) = (access.address(subgroup, element), subgroup.invocation(lane as usize));
            self.store_scalar(&access.memory, address, invocation, bits);
        }
    }

    /// Counts one request for each register, whose lanes have neighbouring elements.
    fn count_matrix(&mut self, subgroup: &Subgroup, access: &CooperativeAccess, how: AccessKind) {
        let Some(profile) = &mut self.profile else { return };
        let width = self.program.width;
        for first in (0..access.elements()).step_by(width as usize) {
            let elements = first..(first + width).min(access.elements());
            profile.access(&access.memory, how, elements.map(|element| access.address(subgroup, element)));
        }
    }
}

/// A matrix's elements, row by row.
fn elements(subgroup: &Subgroup, registers: &[Register]) -> Vec<f32> {
    let lanes = registers.iter().flat_map(|register| subgroup.register(*register));
    lanes.map(|lane| f32::from_bits(lane.get())).collect()
}

/// Products of halves are exact in f32; sums are of f32.
pub(super) fn multiply_add(subgroup: &Subgroup, product: &CooperativeProduct) {
    let CooperativeProduct { rows, inner, columns, result, .. } = product;
    let [a, b, mut sums] = [&product.a, &product.b, &product.c].map(|registers| elements(subgroup, registers));
    let (inner, columns) = (*inner as usize, *columns as usize);
    for (a, sums) in a.chunks_exact(inner).zip(sums.chunks_exact_mut(columns)).take(*rows as usize) {
        for (a, b) in a.iter().zip(b.chunks_exact(columns)) {
            sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
        }
    }
    let lanes = result.iter().flat_map(|register| subgroup.register(*register));
    lanes.zip(&sums).for_each(|(lane, sum)| lane.set(sum.to_bits()));
}

/// An operation of the active lanes.
pub(super) fn subgroup_operation(
    subgroup: &Subgroup,
    op: SubgroupOp,
    kind: NumberKind,
    [dst, a, lane_number]: [Register; 3],
) {
    let other = |lane: usize| subgroup.get(a, lane % subgroup.register(a).len());
    let n = |lane| subgroup.get(lane_number, lane) as usize;
    match op {
        SubgroupOp::Reduce(op) => {
            let all = lanes_of(subgroup.mask).map(|lane| subgroup.get(a, lane));
            let all = all.reduce(|a, b| arithmetic::binary_of_two(op, kind, a, b)).unwrap_or(0);
            subgroup.fill(dst, all);
        }
        SubgroupOp::InclusiveScan(op) => scan(subgroup, op, kind, [dst, a], true),
        SubgroupOp::ExclusiveScan(op) => scan(subgroup, op, kind, [dst, a], false),
        SubgroupOp::BroadcastFirst => each(subgroup, dst, |_| other(subgroup.mask.trailing_zeros() as usize)),
        SubgroupOp::Shuffle => each(subgroup, dst, |lane| other(n(lane))),
        SubgroupOp::ShuffleXor => each(subgroup, dst, |lane| other(lane ^ n(lane))),
        SubgroupOp::ShuffleUp => each(subgroup, dst, |lane| other(lane.wrapping_sub(n(lane)))),
        SubgroupOp::ShuffleDown => each(subgroup, dst, |lane| other(lane.wrapping_add(n(lane)))),
        SubgroupOp::QuadBroadcast => each(subgroup, dst, |lane| other(lane / 4 * 4 + n(lane) % 4)),
    }
}

fn scan(subgroup: &Subgroup, op: BinaryOp, kind: NumberKind, [dst, a]: [Register; 2], inclusive: bool) {
    let mut before = arithmetic::identity(op, kind);
    for lane in lanes_of(subgroup.mask) {
        let after = arithmetic::binary_of_two(op, kind, before, subgroup.get(a, lane));
        subgroup.set(dst, lane, if inclusive { after } else { before });
        before = after;
    }
}

fn each(subgroup: &Subgroup, dst: Register, value: impl Fn(usize) -> u32) {
    lanes_of(subgroup.mask).for_each(|lane| subgroup.set(dst, lane, value(lane)));
}

/// The lanes for which a condition holds, 32 in each register.
pub(super) fn ballot(subgroup: &Subgroup, dst: &[Register; 4], a: Register) {
    let holds = |lane: usize| LaneMask::from(subgroup.get(a, lane) != 0) << lane;
    let all: LaneMask = lanes_of(subgroup.mask).map(holds).sum();
    for (i, dst) in dst.iter().enumerate() {
        subgroup.fill(*dst, (all >> (32 * i)) as u32);
    }
}
