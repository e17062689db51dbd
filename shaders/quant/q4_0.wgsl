// Q4_0: d * (q - 8). Plane 0: 4-bit quants; plane 1: f16 d a group.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    d: f32,
}

fn load_block(g: u32) -> Block {
    return Block(weight[g], f16_at(PLANE1, g));
}

fn quants4(b: Block, i: u32) -> u32 {
    return (b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu;
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.d * (vec4<f32>(unpack4xU8(quants4(b, i))) - 8.0);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return minus4(quants4(b, i), 8u);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, 0.0, 0.0);
}
