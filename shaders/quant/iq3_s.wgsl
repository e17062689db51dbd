// IQ3_S: d * (1 + 2 * scale) * magnitude * sign. Plane 0: low 8 bits of eight entries a group. Plane 1: a word of
// signs. Plane 2, a vec4 for 8 groups: the entries' ninth bits, a byte a group; scales of 4 bits; f16 d. Table: the
// grid.
//#import lib/iq_grid

struct Block {
    entry: vec2<u32>,
    high: u32,
    signs: u32,
    scale: f32,
}

fn load_block(g: u32) -> Block {
    let s = weight[PLANE2 + (g >> 3u)];
    let j = g & 7u;
    let high = select(s.x, s.y, j >= 4u) >> (8u * (j & 3u));
    let scale = f16_bits(s.w) * f32(1u + 2u * ((s.z >> (4u * j)) & 0xFu));
    return Block(two_words(0u, g), high, word_at(PLANE1, g), scale);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let low = (b.entry[i >> 2u] >> (8u * (i & 3u))) & 0xFFu;
    let entry = low | (((b.high >> i) & 1u) << 8u);
    return b.scale * with_signs(sizes3(PLANE3, entry), b.signs, i);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.entry, b.high, b.signs, 1.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, b.scale, 0.0, 0.0);
}
