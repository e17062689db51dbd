// Q3_K: d * (scale - 32) * (q - 4), a scale for 16 weights. Plane 0: low 2 bits, two words a group; plane 1: third bits,
// a word a group; plane 2, a vec4 for 8 groups: low 4 bits of the 16 scales; their high 2 bits; f16 d.
//#import lib/weight

struct Block {
    q: vec2<u32>,
    high: u32,
    scale: vec2<f32>,
}

fn load_block(g: u32) -> Block {
    let two = weight[g >> 1u];
    let q = select(two.xy, two.zw, (g & 1u) == 1u);
    let s = weight[PLANE2 + (g >> 3u)];
    let j = g & 7u;
    let low = select(s.x, s.y, j >= 4u) >> (8u * (j & 3u));
    let high = s.z >> (4u * j);
    let first = (low & 0xFu) | ((high & 3u) << 4u);
    let second = ((low >> 4u) & 0xFu) | ((high << 2u) & 0x30u);
    let scale = f16_bits(s.w) * (vec2<f32>(vec2<u32>(first, second)) - 32.0);
    return Block(q, word(4u * PLANE1 + g), scale);
}

fn quants4(b: Block, i: u32) -> u32 {
    let low = (b.q[i >> 2u] >> (2u * (i & 3u))) & 0x03030303u;
    return low | (((b.high >> i) & 0x01010101u) << 2u);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.scale[i >> 2u] * (vec4<f32>(unpack4xU8(quants4(b, i))) - 4.0);
}

const SUB_BLOCKS = 2u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return minus4(quants4(b, i), 4u);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, 0.0, 0.0);
}
