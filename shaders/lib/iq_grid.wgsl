// Helpers for the types with at most three bits: 2-bit quants, grid entries, signs. A grid follows the planes.
//#import lib/weight

// Quants 4i .. 4i + 4 of a group: quant 16w + 4j + k is at bit 8k + 2j of word w.
fn quants2(q: vec2<u32>, i: u32) -> vec4<u32> {
    return unpack4xU8((q[i >> 2u] >> (2u * (i & 3u))) & 0x03030303u);
}

// Four entries of 8 quants from the grid at vec4 number `table`; a word holds two interleaved entries.
fn grid_quants(table: u32, entry: vec4<u32>) -> vec2<u32> {
    let at = 4u * table + (entry >> vec4<u32>(1u));
    let words = vec4<u32>(word(at.x), word(at.y), word(at.z), word(at.w));
    let q = (words >> (4u * (entry & vec4<u32>(1u)))) & vec4<u32>(0x0F0F0F0Fu);
    return q.xz | (q.yw << vec2<u32>(4u));
}

// Four fields of `width` bits in the low bits of the result, from the lowest field on; higher bits are not masked.
fn four_fields(bits: u32, width: u32) -> vec4<u32> {
    return vec4<u32>(bits) >> (width * vec4<u32>(0u, 1u, 2u, 3u));
}

// Signs of 32 weights from four times 7 bits: the eighth bit of each makes the number of negative signs even.
fn even_signs(sevens: vec4<u32>) -> u32 {
    let s = sevens & vec4<u32>(0x7Fu);
    let all = (s | ((countOneBits(s) & vec4<u32>(1u)) << vec4<u32>(7u))) << vec4<u32>(0u, 8u, 16u, 24u);
    return all.x | all.y | all.z | all.w;
}

// Applies the signs of weights 4i .. 4i + 4; bit n is the sign of weight n.
fn with_signs(v: vec4<f32>, signs: u32, i: u32) -> vec4<f32> {
    let minus = (vec4<u32>(signs >> (4u * i)) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u);
    return select(v, -v, minus);
}

// The magnitudes of the IQ2 quants 0, 1, 2: 8, 25, 43.
fn sizes2(q: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(8u + 17u * q + (q >> vec4<u32>(1u)));
}

// The four magnitudes of entry `index` of an IQ3 grid.
fn sizes3(table: u32, index: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(word(4u * table + index)));
}

// Word number g of the plane that starts at vec4 number `plane`.
fn word_at(plane: u32, g: u32) -> u32 {
    return word(4u * plane + g);
}

// Words 2g and 2g + 1 of a plane.
fn two_words(plane: u32, g: u32) -> vec2<u32> {
    let two = weight[plane + (g >> 1u)];
    return select(two.xy, two.zw, (g & 1u) == 1u);
}

// 16-bit number g of a plane.
fn bits16(plane: u32, g: u32) -> u32 {
    return (word(4u * plane + (g >> 1u)) >> (16u * (g & 1u))) & 0xFFFFu;
}
