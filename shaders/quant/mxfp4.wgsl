// MXFP4: 2^(e - 128) * value[q]. Plane 0: 4-bit quants; plane 1: e, a byte a group.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    d: f32,
}

fn load_block(g: u32) -> Block {
    let e = (word(4u * PLANE1 + (g >> 2u)) >> (8u * (g & 3u))) & 0xFFu;
    return Block(weight[g], bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << (e & 1u), e < 2u)));
}

// The magnitudes are 0, 1, 2, 3, 4, 6, 8, 12, packed in a word, four bits each; the fourth bit of a quant is its sign.
fn mxfp4_values(q: vec4<u32>) -> vec4<f32> {
    let magnitude = vec4<f32>((vec4<u32>(0xC8643210u) >> (4u * (q & vec4<u32>(7u)))) & vec4<u32>(0xFu));
    return select(magnitude, -magnitude, q >= vec4<u32>(8u));
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let q = unpack4xU8((b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu);
    return b.d * mxfp4_values(q);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, 1.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, 0.0, 0.0);
}
