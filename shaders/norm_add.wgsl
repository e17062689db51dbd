// y = residual + x / sqrt(mean(x^2) + EPS) * weight; one workgroup per row. With next_norm, also the next norm of y.
//#import $reduce
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
//#import $next_norm

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let base = wg.y * WIDTH4;
    var sum = 0.0;
    for (var i = lid; i < WIDTH4; i += WG) {
        let v = x[base + i];
        sum += dot(v, v);
    }
    let scale = inverseSqrt(reduce_sum(sum, lid) / f32(WIDTH4 * 4u) + EPS);
    var squares = 0.0;
    for (var i = lid; i < WIDTH4; i += WG) {
        let v = residual[base + i] + x[base + i] * scale * weight[i];
        y[base + i] = v;
        squares += dot(v, v);
    }
    next_norm(base, squares, lid);
}
