//! `F32`, `F16` and `BF16`: plain little-endian numbers, a block of one weight each.
//!
//! GPU layout: one plane, the numbers in order; a row is padded to whole groups of 32.

use half::{bf16, f16};

pub(super) fn f32(block: &[u8; 4], out: &mut [f32; 1]) {
    *out = [f32::from_le_bytes(*block)];
}

pub(super) fn f16(block: &[u8; 2], out: &mut [f32; 1]) {
    *out = [f16::from_le_bytes(*block).to_f32()];
}

pub(super) fn bf16(block: &[u8; 2], out: &mut [f32; 1]) {
    *out = [bf16::from_le_bytes(*block).to_f32()];
}

pub(super) fn to_f32([x]: &[f32; 1]) -> [u8; 4] {
    x.to_le_bytes()
}

pub(super) fn to_f16([x]: &[f32; 1]) -> [u8; 2] {
    f16::from_f32(*x).to_le_bytes()
}

pub(super) fn to_bf16([x]: &[f32; 1]) -> [u8; 2] {
    bf16::from_f32(*x).to_le_bytes()
}

pub(super) fn copy<const N: usize>(blocks: &[[u8; N]], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(blocks.as_flattened());
}
