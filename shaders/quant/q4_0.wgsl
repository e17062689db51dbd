// Q4_0: d * (q - 8). Plane 0: 4-bit quants; plane 1: f16 d a group.

struct Block {
    q: vec4<u32>,
    d: f32,
}

fn load_block(g: u32) -> Block {
    return Block(weight[g], half_at(PLANE1, g));
}

fn decode4(b: Block, i: u32) -> vec4<f32> {
    let q = unpack4xU8((b.q[i >> 1u] >> (4u * (i & 1u))) & 0x0F0F0F0Fu);
    return b.d * (vec4<f32>(q) - 8.0);
}
