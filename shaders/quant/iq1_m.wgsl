// IQ1_M: d * (2 * scale + 1) * (q - 1 + delta), delta 1/8 or -1/8 for 8 weights, a scale for 16. Plane 0: low 8 bits
// of four entries a group. Plane 1: 16 bits a group, for each entry its high 3 bits and the delta's sign. Plane 2:
// four times 16 bits for 8 groups, four scales of 3 bits and four bits of the f16 d, lowest first. Table: the grid.
//#import lib/iq_grid

struct Block {
    q: vec2<u32>,
    minus: u32,
    scale: vec2<f32>,
}

fn load_block(g: u32) -> Block {
    let more = bits16(PLANE1, g);
    let high = four_fields(more, 4u) & vec4<u32>(7u);
    let entry = unpack4xU8(word_at(0u, g)) | (high << vec4<u32>(8u));
    let s = two_words(PLANE2, g >> 3u);
    let d = ((s.x >> 12u) & 0xFu) | ((s.x >> 24u) & 0xF0u) | ((s.y >> 4u) & 0xF00u) | ((s.y >> 16u) & 0xF000u);
    let scales = bits16(PLANE2, g >> 1u) >> (6u * (g & 1u));
    let scale = f16_bits(d) * vec2<f32>(2u * vec2<u32>(scales & 7u, (scales >> 3u) & 7u) + 1u);
    return Block(grid_quants(PLANE3, entry), more, scale);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let minus = ((b.minus >> (4u * (i >> 1u))) & 8u) != 0u;
    return b.scale[i >> 2u] * (vec4<f32>(quants2(b.q, i)) + select(-0.875, -1.125, minus));
}

const SUB_BLOCKS = 2u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, b.minus, vec2<f32>(8.0)), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(0.125 * b.scale, 0.0, 0.0);
}
