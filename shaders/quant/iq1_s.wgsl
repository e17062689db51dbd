// IQ1_S: d * (2 * scale + 1) * (q - 1 + delta), delta 1/8 or -1/8. Plane 0: low 8 bits of four entries a group. Plane
// 1: 16 bits a group, high 3 bits of the entries; a scale of 3 bits; the delta's sign. Plane 2: f16 d for 8 groups.
// Table: the grid.
//#import lib/iq_grid

struct Block {
    q: vec2<u32>,
    offset: f32,
    scale: f32,
}

fn load_block(g: u32) -> Block {
    let more = bits16(PLANE1, g);
    let entry = unpack4xU8(word_at(0u, g)) | ((four_fields(more, 3u) & vec4<u32>(7u)) << vec4<u32>(8u));
    let scale = f16_at(PLANE2, g >> 3u) * f32(2u * ((more >> 12u) & 7u) + 1u);
    return Block(grid_quants(PLANE3, entry), select(-0.875, -1.125, more >= 0x8000u), scale);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.scale * (vec4<f32>(quants2(b.q, i)) + b.offset);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, b.offset, 8.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(0.125 * b.scale, 0.125 * b.scale, 0.0, 0.0);
}
