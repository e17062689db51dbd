// Q4_K: d * scale * q - dmin * min. Plane 0: 4-bit quants; plane 1, a vec4 for 8 groups: f16 d and dmin; low 4 bits of
// the scales; low 4 bits of the mins; high 2 bits of the scales, then of the mins.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    scale: f32,
    min: f32,
}

fn load_block(g: u32) -> Block {
    let s = weight[PLANE1 + (g >> 3u)];
    let j = g & 7u;
    let high = s.w >> (2u * j);
    let scale = ((s.y >> (4u * j)) & 0xFu) | ((high & 3u) << 4u);
    let low = ((s.z >> (4u * j)) & 0xFu) | ((high >> 12u) & 0x30u);
    return Block(weight[g], f16_bits(s.x & 0xFFFFu) * f32(scale), f16_bits(s.x >> 16u) * f32(low));
}

fn quants4(b: Block, i: u32) -> u32 {
    return (b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu;
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.scale * vec4<f32>(unpack4xU8(quants4(b, i))) - b.min;
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = true;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return quants4(b, i);
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.scale, b.scale, -b.min, -b.min);
}
