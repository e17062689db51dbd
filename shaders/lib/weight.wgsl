// Reads the planes of a weight tensor. The kernel declares `weight: array<vec4<u32>>`.

// u32 number i of the buffer.
fn word(i: u32) -> u32 {
    return weight[i >> 2u][i & 3u];
}

// The f16 in the low 16 bits, exact even for subnormals, which unpack2x16float may flush to zero: their mantissa counts
// steps of 2^-24. Infinities and NaNs, which valid files do not contain, become large numbers.
fn f16_bits(h: u32) -> f32 {
    let magnitude = h & 0x7FFFu;
    let normal = bitcast<f32>((magnitude << 13u) + 0x38000000u);
    let value = select(normal, f32(magnitude) * 0x1p-24f, magnitude < 0x400u);
    return select(value, -value, (h & 0x8000u) != 0u);
}

// f16 number i of the plane that starts at vec4 number `plane`.
fn f16_at(plane: u32, i: u32) -> f32 {
    return f16_bits((word(4u * plane + (i >> 1u)) >> (16u * (i & 1u))) & 0xFFFFu);
}

// Subtracts n from the four bytes of q, each below 128; gives signed bytes. The set highest bits prevent borrows.
fn minus4(q: u32, n: u32) -> u32 {
    return ((q | 0x80808080u) - n * 0x01010101u) ^ 0x80808080u;
}
