//! Shared by the IQ types: an index of a few bits selects one of 256 to 2,048 grid entries, the magnitudes of 8 (or 4)
//! weights. Signs are separate bits: bit n is the sign of weight n.
//!
//! The grids are part of the formats; `tests/data/make_grids.py` writes them to `grids/`. Expanding the weights on the
//! GPU would take 2 to 4 bits a weight, 1.2 to 1.5 times the file, so shaders look entries up instead. The grid follows
//! the planes of every tensor: fused kernels have no binding left for it, and drivers may copy a constant array to each
//! thread. It takes at most 4 KiB, which fits in caches.

use super::bits::word;

/// Entry `index` of a table of 8 quants of 2 bits each. A word holds two entries, the second one shifted by four bits
/// (see [`pack2`](super::bits::pack2)).
pub(super) fn quants(table: &[u8], index: usize) -> [u8; 8] {
    let word = word(table, index / 2) >> (index % 2 * 4);
    std::array::from_fn(|n| ((word >> (n % 4 * 8 + n / 4 * 2)) & 3) as u8)
}

/// Expands four times 7 sign bits to 32: the eighth bit makes the number of negative weights even.
pub(super) fn even_signs(sevens: u32) -> u32 {
    let signs = |e: u32| {
        let seven = (sevens >> (7 * e)) & 0x7F;
        (seven | ((seven.count_ones() & 1) << 7)) << (8 * e)
    };
    (0..4).map(signs).sum()
}

/// 1 or -1 for weight `n`.
pub(super) fn sign(signs: u32, n: usize) -> f32 {
    if (signs >> n) & 1 == 1 { -1.0 } else { 1.0 }
}

/// The 32 weights of a group of the `IQ2` types: `scale * magnitude * sign`, a scale for every 16 of them.
pub(super) fn group_of_eights(table: &[u8], entries: [usize; 4], scales: [f32; 2], signs: u32, out: &mut [f32]) {
    for (n, out) in out[..32].iter_mut().enumerate() {
        let q = quants(table, entries[n / 8])[n % 8];
        *out = scales[n / 16] * magnitude(q) * sign(signs, n);
    }
}

/// The magnitudes of the `IQ2` types: 8, 25, 43.
pub(super) fn magnitude(q: u8) -> f32 {
    f32::from(8 + 17 * q + (q >> 1))
}

/// The 32 weights of a group of the `IQ3` types, whose tables hold the magnitudes themselves, four bytes per entry.
pub(super) fn group_of_fours(table: &[u8], entries: [usize; 8], scale: f32, signs: u32, out: &mut [f32]) {
    for (n, out) in out[..32].iter_mut().enumerate() {
        *out = scale * f32::from(table[4 * entries[n / 4] + n % 4]) * sign(signs, n);
    }
}
