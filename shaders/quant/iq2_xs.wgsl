// IQ2_XS: d * (0.5 + scale) / 4 * magnitude * sign, a scale for 16 weights. Plane 0: 16 bits for 8 weights, a 9-bit
// entry and 7 signs. Plane 1: two scales a byte. Plane 2: f16 d for 8 groups. Table: the grid.
//#import lib/iq_grid

struct Block {
    q: vec2<u32>,
    signs: u32,
    scale: vec2<f32>,
}

fn load_block(g: u32) -> Block {
    let two = two_words(0u, g);
    let eights = vec4<u32>(two.x & 0xFFFFu, two.x >> 16u, two.y & 0xFFFFu, two.y >> 16u);
    let scales = word_at(PLANE1, g >> 2u) >> (8u * (g & 3u));
    let scale = f16_at(PLANE2, g >> 3u) * (0.5 + vec2<f32>(vec2<u32>(scales & 0xFu, (scales >> 4u) & 0xFu))) * 0.25;
    return Block(grid_quants(PLANE3, eights & vec4<u32>(511u)), even_signs(eights >> vec4<u32>(9u)), scale);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.scale[i >> 2u] * with_signs(sizes2(quants2(b.q, i)), b.signs, i);
}

const SUB_BLOCKS = 2u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, b.signs, vec2<f32>(1.0)), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, 0.0, 0.0);
}
