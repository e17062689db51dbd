//! Bit shuffling for groups of 32 quants: unpacks them from file blocks and packs them into GPU planes.
//!
//! [`Quants`] is the common form. The planes are chosen so that a shader extracts one word of it with a shift and a
//! mask.

use half::f16;

/// The quants of a group of 32 weights, one per byte: weight 4i + k is byte k (lowest first) of word i.
pub(super) type Quants = [u32; 8];

/// The quants of a group as numbers, in order.
pub(super) fn numbers(quants: Quants) -> [u8; 32] {
    bytes(quants)
}

/// The f16 at `bytes[at..at + 2]`.
pub(super) fn read_f16(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The bytes of the nearest f16.
pub(super) fn f16_bytes(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

/// The u32 at `bytes[4 * i..]`.
pub(super) fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
}

/// The first `N` words of `bytes`, with a single bounds check.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let words = &bytes.as_chunks::<4>().0[..N];
    std::array::from_fn(|i| u32::from_le_bytes(words[i]))
}

/// Extracts `width` bits, starting at bit `shift`, of each of the first 32 bytes: a group of a superblock.
pub(super) fn field(bytes: &[u8], shift: usize, width: u32) -> Quants {
    let mask = 0x0101_0101 * ((1 << width) - 1);
    words(bytes).map(|word| (word >> shift) & mask)
}

/// Unpacks 16 bytes whose low nibbles are weights 0..16 and whose high nibbles are weights 16..32.
pub(super) fn nibbles(bytes: &[u8]) -> Quants {
    let words = words::<4>(bytes);
    std::array::from_fn(|i| (words[i & 3] >> (i & 4)) & 0x0F0F_0F0F)
}

/// The inverse of [`nibbles`]; ignores higher bits of the quants.
pub(super) fn to_nibbles(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| (q[j] & 15) | (q[16 + j] << 4))
}

/// The inverse of [`field`]: puts bits `from .. from + width` of each quant at bit `shift` of its byte.
pub(super) fn put_field(bytes: &mut [u8], shift: usize, q: &[u8; 32], from: u32, width: u32) {
    for (byte, q) in bytes.iter_mut().zip(q) {
        *byte |= ((q >> from) & ((1 << width) - 1)) << shift;
    }
}

/// The inverse of [`spread`]: collects bit `from` of each quant.
pub(super) fn gather_bit(q: &[u8; 32], from: u32) -> [u8; 4] {
    q.iter().rev().fold(0u32, |all, q| (all << 1) | u32::from((q >> from) & 1)).to_le_bytes()
}

/// Bit n of `high` becomes quant n.
pub(super) fn spread(high: u32) -> Quants {
    // The product copies the four bits to bits 0, 7, 14 and 21, so that bit k of them is at 8k.
    std::array::from_fn(|i| (((high >> (4 * i)) & 0xF) * 0x0020_4081) & 0x0101_0101)
}

/// Combines each quant of `low` with that of `high`, shifted left by `shift`.
pub(super) fn join(low: Quants, high: Quants, shift: u32) -> Quants {
    std::array::from_fn(|i| low[i] | (high[i] << shift))
}

/// Calls `pack` for each group of a superblock.
pub(super) fn per_group<const N: usize>(pack: impl Fn(usize) -> [u8; N]) -> [[u8; N]; 8] {
    std::array::from_fn(pack)
}

/// Packs a plane of 4 bits per weight: word w combines words 2w (low nibbles) and 2w + 1 (high nibbles).
pub(super) fn pack4(q: Quants) -> [u8; 16] {
    bytes::<4, 16>(std::array::from_fn(|w| q[2 * w] | (q[2 * w + 1] << 4)))
}

/// Packs a plane of 2 bits per weight: word w combines words 4w .. 4w + 4, each shifted by two more bits.
pub(super) fn pack2(q: Quants) -> [u8; 8] {
    bytes::<2, 8>(std::array::from_fn(|w| q[4 * w] | (q[4 * w + 1] << 2) | (q[4 * w + 2] << 4) | (q[4 * w + 3] << 6)))
}

/// Packs a plane of 1 bit per weight: word i is shifted left by i.
pub(super) fn pack1(q: Quants) -> [u8; 4] {
    q.into_iter().zip(0..).fold(0, |all, (word, i)| all | (word << i)).to_le_bytes()
}

/// The bytes of the words, lowest first. `M` is `4 * N`.
pub(super) fn bytes<const N: usize, const M: usize>(words: [u32; N]) -> [u8; M] {
    let mut out = [0; M];
    for (out, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *out = word.to_le_bytes();
    }
    out
}
