// Q5_0: d * (q - 16). Plane 0: low 4 bits; plane 1: fifth bits, a word a group; plane 2: f16 d a group.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    high: u32,
    d: f32,
}

fn load_block(g: u32) -> Block {
    return Block(weight[g], word(4u * PLANE1 + g), f16_at(PLANE2, g));
}

fn quants4(b: Block, i: u32) -> u32 {
    let low = (b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu;
    return low | (((b.high >> i) & 0x01010101u) << 4u);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.d * (vec4<f32>(unpack4xU8(quants4(b, i))) - 16.0);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return minus4(quants4(b, i), 16u);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, 0.0, 0.0);
}
