// IQ4_NL: d * value[q]. Plane 0: 4-bit quants; plane 1: f16 d a group.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    d: f32,
}

fn load_block(g: u32) -> Block {
    return Block(weight[g], f16_at(PLANE1, g));
}

// The sixteen int8 values are in four words: bits 2 and 3 of a quant choose the word, bits 0 and 1 the byte.
fn iq4_nl_values(q: vec4<u32>) -> vec4<f32> {
    let odd = (q & vec4<u32>(4u)) != vec4<u32>(0u);
    let negative = select(vec4<u32>(0xBFAD9881u), vec4<u32>(0xF6EADDCFu), odd);
    let positive = select(vec4<u32>(0x26190D01u), vec4<u32>(0x71594535u), odd);
    let four = select(negative, positive, q >= vec4<u32>(8u));
    let top = bitcast<vec4<i32>>(four << ((~q & vec4<u32>(3u)) * 8u));
    return vec4<f32>(top >> vec4<u32>(24u));
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let q = unpack4xU8((b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu);
    return b.d * iq4_nl_values(q);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, 1.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, 0.0, 0.0);
}
