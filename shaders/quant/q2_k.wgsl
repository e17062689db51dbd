// Q2_K: d * scale * q - dmin * min, a scale and a min for 16 weights. Plane 0: 2-bit quants, two words a group; plane 1:
// two bytes a group, scale low and min high; plane 2: f16 d and dmin for 8 groups.
//#import lib/weight

struct Block {
    q: vec2<u32>,
    scale: vec2<f32>,
    min: vec2<f32>,
}

fn load_block(g: u32) -> Block {
    let two = weight[g >> 1u];
    let q = select(two.xy, two.zw, (g & 1u) == 1u);
    let s = word(4u * PLANE1 + (g >> 1u)) >> (16u * (g & 1u));
    let scales = vec2<u32>(s & 0xFu, (s >> 8u) & 0xFu);
    let mins = vec2<u32>((s >> 4u) & 0xFu, (s >> 12u) & 0xFu);
    let d = word(4u * PLANE2 + (g >> 3u));
    return Block(q, f16_bits(d & 0xFFFFu) * vec2<f32>(scales), f16_bits(d >> 16u) * vec2<f32>(mins));
}

fn quants4(b: Block, i: u32) -> u32 {
    return (b.q[i >> 2u] >> (2u * (i & 3u))) & 0x03030303u;
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.scale[i >> 2u] * vec4<f32>(unpack4xU8(quants4(b, i))) - b.min[i >> 2u];
}

const SUB_BLOCKS = 2u;
const HAS_OFFSET = true;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return quants4(b, i);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, -b.min);
}
