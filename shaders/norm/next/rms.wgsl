// z = y / sqrt(mean(y^2) + NEXT_EPS) * next_weight. A thread reads only the values of y that it wrote.
@group(0) @binding(5) var<storage, read> next_weight: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> z: array<vec4<f32>>;

fn next_norm(base: u32, squares: f32, lid: u32) {
    let scale = inverseSqrt(reduce_sum(squares, lid) / f32(WIDTH4 * 4u) + NEXT_EPS);
    for (var i = lid; i < WIDTH4; i += WG) {
        z[base + i] = y[base + i] * scale * next_weight[i];
    }
}
