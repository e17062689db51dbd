// Q8_0: d * q. Plane 0: int8 quants in order; plane 1: f16 d a group.
//#import lib/weight

struct Block {
    first: vec4<u32>,
    second: vec4<u32>,
    d: f32,
}

fn load_block(g: u32) -> Block {
    return Block(weight[2u * g], weight[2u * g + 1u], f16_at(PLANE1, g));
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let q = unpack4xI8(select(b.first[i & 3u], b.second[i & 3u], i >= 4u));
    return b.d * vec4<f32>(q);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return select(b.first[i & 3u], b.second[i & 3u], i >= 4u);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, 0.0, 0.0);
}
