// TQ1_0: d * (q - 1), where q are the base-3 digits of fractions: the integer part of byte * 3 / 256 is a digit, and
// the fraction gives the next digits. Plane 0: a word a group, digit t of byte k is weight 4t + k. Plane 1: two bytes a
// group, digit t of byte k is weight 20 + 4t + 2k, and 9 + 4t + 2k from t = 3 on. Plane 2: four bits a group, weights
// 29 and 31. Plane 3: f16 d for 8 groups. The digits become 2-bit quants.
//#import lib/iq_grid

struct Block {
    q: vec2<u32>,
    d: f32,
}

// Digit t of each byte; a word has two bytes, at bits 0 and 16. power is 3^t.
fn digits(bytes: vec4<u32>, power: u32) -> vec4<u32> {
    let rest = (bytes * power) & vec4<u32>(0x00FF00FFu);
    return ((rest * 3u) >> vec4<u32>(8u)) & vec4<u32>(0x00030003u);
}

fn load_block(g: u32) -> Block {
    let four = word_at(0u, g);
    let two = bits16(PLANE1, g);
    // Moves the last two digits to the first digits of two bytes.
    let half = word_at(PLANE2, g >> 3u) >> (8u * ((g >> 1u) & 3u));
    let last = (half & 0xFFu) * select(1u, 9u, (g & 1u) == 1u);
    let bytes = vec4<u32>(
        four & 0x00FF00FFu,
        (four >> 8u) & 0x00FF00FFu,
        (two & 0xFFu) | ((two & 0xFF00u) << 8u),
        (last & 0xFFu) | (((3u * last) & 0xFFu) << 16u),
    );
    let t0 = digits(bytes, 1u);
    let t1 = digits(bytes, 3u);
    let t2 = digits(bytes, 9u);
    let t3 = digits(bytes, 27u);
    let t4 = digits(bytes, 81u);
    let low = vec4<u32>(t0.x, t1.x, t2.x, t3.x) | (vec4<u32>(t0.y, t1.y, t2.y, t3.y) << vec4<u32>(8u));
    let high = vec4<u32>(t4.x, t0.z, t1.z, t2.z) | (vec4<u32>(t4.y, t3.z, t4.z, t0.w) << vec4<u32>(8u));
    return Block(vec2<u32>(stack(low), stack(high)), f16_at(PLANE3, g >> 3u));
}

// Packs four words of 2-bit quants, each shifted two bits further than the one before.
fn stack(q: vec4<u32>) -> u32 {
    return q.x | (q.y << 2u) | (q.z << 4u) | (q.w << 6u);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return b.d * (vec4<f32>(quants2(b.q, i)) - 1.0);
}

const SUB_BLOCKS = 1u;
const HAS_OFFSET = false;

fn quants_i8x4(b: Block, i: u32) -> u32 {
    return pack4xI8(vec4<i32>(decode4(Block(b.q, 1.0), i)));
}

fn block_scales(b: Block) -> vec4<f32> {
    return vec4<f32>(b.d, b.d, 0.0, 0.0);
}
