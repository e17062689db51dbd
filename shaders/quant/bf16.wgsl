// BF16, the upper 16 bits of an f32. Plane 0: 32 numbers a group, in order.
//#import lib/weight

struct Block {
    g: u32,
}

fn load_block(g: u32) -> Block {
    return Block(g);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let eight = weight[4u * b.g + (i >> 1u)];
    let four = select(eight.xxyy, eight.zzww, (i & 1u) == 1u);
    return bitcast<vec4<f32>>(vec4<u32>(four.x << 16u, four.y & 0xFFFF0000u, four.z << 16u, four.w & 0xFFFF0000u));
}
