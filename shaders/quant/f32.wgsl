// F32. Plane 0: 32 numbers a group, in order.

struct Block {
    g: u32,
}

fn load_block(g: u32) -> Block {
    return Block(g);
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(weight[8u * b.g + i]);
}
