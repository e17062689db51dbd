//! `TQ1_0`: 256 weights `d * (q - 1)`, q of 0, 1, 2; a byte holds five of them (or four).
//!
//! A byte is a fraction b / 256 in base three: its digits come out one by one as the integer part of b * 3 / 256. File
//! block, 54 bytes: 32 bytes, digit t of byte j is weight 32t + j; 16 bytes, digit t of byte j is weight 160 + 16t + j;
//! 4 bytes of four digits, digit t of byte j is weight 240 + 4t + j; f16 d.
//!
//! GPU planes, of the same size, with the digits rearranged so that each group has its own: 4 bytes per group, digit t
//! of byte k is weight 4t + k; 2 bytes per group, digit t of byte k is weight 20 + 4t + 2k, for t of 3 and 4 weight 9 +
//! 4t + 2k; a byte for two groups, two digits each (weights 29 and 31); d.

use super::bits::read_f16;

const LONG: usize = 32;
const SHORT: usize = 48;
const D: usize = 52;

/// Digit `t` of a byte.
fn digit(byte: u8, t: usize) -> u8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    ((u16::from(byte.wrapping_mul(POWERS[t])) * 3) >> 8) as u8
}

/// The smallest byte with these five digits.
fn byte(digits: [u8; 5]) -> u8 {
    let number = digits.iter().fold(0, |n, digit| 3 * n + u32::from(*digit));
    (number * 256).div_ceil(243) as u8
}

/// The quant of weight `n`.
fn quant(block: &[u8; 54], n: usize) -> u8 {
    match n {
        0..160 => digit(block[n % 32], n / 32),
        160..240 => digit(block[LONG + n % 16], (n - 160) / 16),
        _ => digit(block[SHORT + n % 4], (n - 240) / 4),
    }
}

pub(super) fn dequantize(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = read_f16(block, D);
    for (n, out) in out.iter_mut().enumerate() {
        *out = d * (f32::from(quant(block, n)) - 1.0);
    }
}

pub(super) fn pack(blocks: &[[u8; 54]], planes: &mut [Vec<u8>]) {
    for block in blocks {
        let q = |g: usize, n: usize| quant(block, 32 * g + n);
        for g in 0..8 {
            planes[0].extend((0..4).map(|k| byte(std::array::from_fn(|t| q(g, 4 * t + k)))));
            planes[1].extend((0..2).map(|k| {
                let weights = [20, 24, 28, 21, 25].map(|n| n + 2 * k);
                byte(weights.map(|n| q(g, n)))
            }));
        }
        planes[2].extend((0..4).map(|i| byte([q(2 * i, 29), q(2 * i, 31), q(2 * i + 1, 29), q(2 * i + 1, 31), 0])));
        planes[3].extend_from_slice(&block[D..]);
    }
}
