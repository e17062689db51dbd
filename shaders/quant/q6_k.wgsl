// Q6_K: d * scale * (q - 32), a scale for 16 weights. Plane 0: low 4 bits; plane 1: high 2 bits, two words a group;
// plane 2: two int8 scales a group; plane 3: f16 d for 8 groups.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    high: vec2<u32>,
    scale: vec2<f32>,
}

fn load_block(g: u32) -> Block {
    let h = weight[PLANE1 + (g >> 1u)];
    let high = select(h.xy, h.zw, (g & 1u) == 1u);
    let scales = unpack4xI8(word(4u * PLANE2 + (g >> 1u)) >> (16u * (g & 1u)));
    return Block(weight[g], high, f16_at(PLANE3, g >> 3u) * vec2<f32>(scales.xy));
}

fn quants4(b: Block, i: u32) -> u32 {
    let low = (b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu;
    let high = (b.high[i >> 2u] >> (2u * (i & 3u))) & 0x03030303u;
    return low | (high << 4u);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.scale[i >> 2u] * (vec4<f32>(unpack4xU8(quants4(b, i))) - 32.0);
}

const SUB_BLOCKS = 2u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return minus4(quants4(b, i), 32u);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, 0.0, 0.0);
}
