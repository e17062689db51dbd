//! What the types with a grid share: a few bits name one of 256 to 2,048 entries, each the sizes of 8 (or 4) weights.
//!
//! The grids are facts of the formats and lie in `grids/`, written by `tests/data/make_grids.py`. Written out, sizes
//! and signs would take 2 to 4 bits a weight, 1.2 to 1.5 times the file's. So weights stay in place on the GPU too, and
//! shaders look entries up. The grid is a table behind the planes of every tensor: no binding of its own, of which
//! fused kernels have none left, and no constant array, which drivers may copy to each thread. It takes at most 4 KiB,
//! which caches hold. Signs are bits of their own: bit n belongs to weight n.

use super::bits::word;

/// Entry `index` of a table of 8 quants of 2 bits each: of two entries a word, the second one lies four bits further up
/// (see [`pack2`](super::bits::pack2)).
pub(super) fn quants(table: &[u8], index: usize) -> [u8; 8] {
    let word = word(table, index / 2) >> (index % 2 * 4);
    std::array::from_fn(|n| ((word >> (n % 4 * 8 + n / 4 * 2)) & 3) as u8)
}

/// Signs of 32 weights from four times 7 bits: the eighth of each makes the number of minuses even.
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

/// The 32 weights of a group of the `IQ2` types: `scale * size * sign`, a scale for every 16 of them.
pub(super) fn group_of_eights(table: &[u8], entries: [usize; 4], scales: [f32; 2], signs: u32, out: &mut [f32]) {
    for (n, out) in out[..32].iter_mut().enumerate() {
        let q = quants(table, entries[n / 8])[n % 8];
        *out = scales[n / 16] * size(q) * sign(signs, n);
    }
}

/// What the quants of the `IQ2` types stand for: 8, 25, 43.
pub(super) fn size(q: u8) -> f32 {
    f32::from(8 + 17 * q + (q >> 1))
}

/// The 32 weights of a group of the `IQ3` types, whose tables hold the sizes themselves, four bytes an entry.
pub(super) fn group_of_fours(table: &[u8], entries: [usize; 8], scale: f32, signs: u32, out: &mut [f32]) {
    for (n, out) in out[..32].iter_mut().enumerate() {
        *out = scale * f32::from(table[4 * entries[n / 4] + n % 4]) * sign(signs, n);
    }
}
