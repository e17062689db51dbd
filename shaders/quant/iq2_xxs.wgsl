// IQ2_XXS: d * (0.5 + scale) / 4 * magnitude * sign. Plane 0: two words a group, four entries; four times 7 bits of
// signs and a scale of 4 bits. Plane 1: f16 d for 8 groups. Table: the grid.
//#import lib/iq_grid

struct Block {
    q: vec2<u32>,
    signs: u32,
    scale: f32,
}

fn load_block(g: u32) -> Block {
    let two = two_words(0u, g);
    let scale = f16_at(PLANE1, g >> 3u) * (0.5 + f32(two.y >> 28u)) * 0.25;
    return Block(grid_quants(PLANE2, unpack4xU8(two.x)), even_signs(four_fields(two.y, 7u)), scale);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.scale * with_signs(sizes2(quants2(b.q, i)), b.signs, i);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, b.signs, 1.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, b.scale, 0.0, 0.0);
}
