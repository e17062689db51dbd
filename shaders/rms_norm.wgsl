// y = x / sqrt(mean(x^2) + EPS) * weight over segments of WIDTH values; one workgroup per segment.
//#import $reduce
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let base = (wg.y * SEGMENTS + wg.x) * WIDTH4;
    var sum = 0.0;
    for (var i = lid; i < WIDTH4; i += WG) {
        let v = x[base + i];
        sum += dot(v, v);
    }
    let scale = inverseSqrt(reduce_sum(sum, lid) / f32(WIDTH4 * 4u) + EPS);
    for (var i = lid; i < WIDTH4; i += WG) {
        y[base + i] = x[base + i] * scale * weight[i];
    }
}
