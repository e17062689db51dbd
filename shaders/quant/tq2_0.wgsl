// TQ2_0: d * (q - 1). Plane 0: 2-bit quants, two words a group; plane 1: f16 d for 8 groups.
//#import lib/iq_grid

struct Block {
    q: vec2<u32>,
    d: f32,
}

fn load_block(g: u32) -> Block {
    return Block(two_words(0u, g), f16_at(PLANE1, g >> 3u));
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.d * (vec4<f32>(quants2(b.q, i)) - 1.0);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, 1.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, 0.0, 0.0);
}
