// F16. Plane 0: 32 numbers a group, in order.
//#import lib/weight

struct Block {
    g: u32,
}

fn load_block(g: u32) -> Block {
    return Block(g);
}

// A GPU may flush subnormal weights (below 6.2e-5) to zero here; scales, where that would matter, use f16_bits.
fn decode4(b: Block, i: u32) -> vec4<f32> {
    let eight = weight[4u * b.g + (i >> 1u)];
    let four = select(eight.xy, eight.zw, (i & 1u) == 1u);
    return vec4<f32>(unpack2x16float(four.x), unpack2x16float(four.y));
}
