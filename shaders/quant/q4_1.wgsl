// Q4_1: d * q + m. Plane 0: 4-bit quants; plane 1: f16 d and f16 m a group.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    d: f32,
    m: f32,
}

fn load_block(g: u32) -> Block {
    let s = word(4u * PLANE1 + g);
    return Block(weight[g], f16_bits(s & 0xFFFFu), f16_bits(s >> 16u));
}

fn quants4(b: Block, i: u32) -> u32 {
    return (b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu;
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.d * vec4<f32>(unpack4xU8(quants4(b, i))) + b.m;
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = true;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return quants4(b, i);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, b.m, b.m);
}
