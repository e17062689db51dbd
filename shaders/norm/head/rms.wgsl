// QK norm: RMSNorm of each head of queries and keys.
@group(0) @binding(8) var<storage, read> head_norms: array<vec4<f32>>; // (q, k; HEAD_DIM)

fn head_scale(squares: f32, lid: u32) -> f32 {
    return inverseSqrt(reduce_sum(squares, lid) / f32(HEAD_DIM) + EPS);
}

fn head_normed(v: vec4<f32>, scale: f32, head: u32, d: u32) -> vec4<f32> {
    return v * scale * head_norms[select(HEAD_DIM4, 0u, head < HEADS) + d];
}
