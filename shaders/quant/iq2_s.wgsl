// IQ2_S: d * (0.5 + scale) / 4 * magnitude * sign, a scale for 16 weights. Plane 0: two words a group, low 8 bits of
// four entries; signs. Plane 1: two bytes a group, high 2 bits of the entries; two scales. Plane 2: f16 d for 8 groups.
// Table: the grid.
//#import lib/iq_grid

struct Block {
    q: vec2<u32>,
    signs: u32,
    scale: vec2<f32>,
}

fn load_block(g: u32) -> Block {
    let two = two_words(0u, g);
    let more = bits16(PLANE1, g);
    let entry = unpack4xU8(two.x) | ((four_fields(more, 2u) & vec4<u32>(3u)) << vec4<u32>(8u));
    let scales = vec2<u32>((more >> 8u) & 0xFu, more >> 12u);
    let scale = f16_at(PLANE2, g >> 3u) * (0.5 + vec2<f32>(scales)) * 0.25;
    return Block(grid_quants(PLANE3, entry), two.y, scale);
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
