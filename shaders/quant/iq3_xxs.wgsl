// IQ3_XXS: d * (0.5 + scale) / 2 * magnitude * sign. Plane 0: eight entries a group, a byte each. Plane 1: a word a
// group, four times 7 bits of signs and a scale of 4 bits. Plane 2: f16 d for 8 groups. Table: the grid.
//#import lib/iq_grid

struct Block {
    entry: vec2<u32>,
    signs: u32,
    scale: f32,
}

fn load_block(g: u32) -> Block {
    let last = word_at(PLANE1, g);
    let scale = f16_at(PLANE2, g >> 3u) * (0.5 + f32(last >> 28u)) * 0.5;
    return Block(two_words(0u, g), even_signs(four_fields(last, 7u)), scale);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let entry = (b.entry[i >> 2u] >> (8u * (i & 3u))) & 0xFFu;
    return b.scale * with_signs(sizes3(PLANE3, entry), b.signs, i);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.entry, b.signs, 1.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, b.scale, 0.0, 0.0);
}
