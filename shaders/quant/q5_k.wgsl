// Q5_K: d * scale * q - dmin * min. Plane 0: low 4 bits; plane 1: fifth bits, a word a group; plane 2, a vec4 for 8
// groups: f16 d and dmin; low 4 bits of the scales; low 4 bits of the mins; high 2 bits of the scales, then of the mins.
//#import lib/weight

struct Block {
    q: vec4<u32>,
    high: u32,
    scale: f32,
    min: f32,
}

fn load_block(g: u32) -> Block {
    let s = weight[PLANE2 + (g >> 3u)];
    let j = g & 7u;
    let high = s.w >> (2u * j);
    let scale = ((s.y >> (4u * j)) & 0xFu) | ((high & 3u) << 4u);
    let low = ((s.z >> (4u * j)) & 0xFu) | ((high >> 12u) & 0x30u);
    let d = f16_bits(s.x & 0xFFFFu);
    let dmin = f16_bits(s.x >> 16u);
    return Block(weight[g], word(4u * PLANE1 + g), d * f32(scale), dmin * f32(low));
}

fn quants4(b: Block, i: u32) -> u32 {
    let low = (b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu;
    return low | (((b.high >> i) & 0x01010101u) << 4u);
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
