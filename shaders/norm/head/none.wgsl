// Heads are rotated as they are.
fn head_scale(squares: f32, lid: u32) -> f32 {
    return 1.0;
}

fn head_normed(v: vec4<f32>, scale: f32, head: u32, d: u32) -> vec4<f32> {
    return v;
}
