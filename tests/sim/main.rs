//! The simulator of kernels: what it computes, what its sanitizer finds, and what its profiler counts.

mod catalog;
mod execution;
mod profile;
mod roofline;
mod sanitizer;
mod step;

use firelight::sim::{BoundRange, Program, SimulationOptions, SimulationReport, dispatch};

/// Widths of subgroups.
const WIDTHS: [u32; 6] = [4, 8, 16, 32, 64, 128];

/// Runs a kernel whose binding number i is buffer number i.
fn run(
    (text, width): (&str, u32),
    buffers: &mut [Vec<u32>],
    workgroups: [u32; 3],
    options: SimulationOptions,
) -> SimulationReport {
    let program = Program::compile(text, width).unwrap_or_else(|e| panic!("{e}"));
    let whole = |(buffer, words): (usize, &Vec<u32>)| BoundRange { buffer, offset: 0, bytes: 4 * words.len() as u64 };
    let ranges: Vec<BoundRange> = buffers.iter().enumerate().map(whole).collect();
    dispatch(&program, buffers, &ranges, workgroups, options).unwrap_or_else(|e| panic!("{e}"))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|v| f32::from_bits(*v)).collect()
}
