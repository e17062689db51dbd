// y = (x - mean(x)) / sqrt(variance(x) + EPS) * weight + bias; one workgroup per row.
//#import $reduce
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let base = wg.x * WIDTH4;
    let width = f32(WIDTH4 * 4u);
    var sum = 0.0;
    for (var i = lid; i < WIDTH4; i += WG) {
        sum += dot(x[base + i], vec4<f32>(1.0));
    }
    let mean = reduce_sum(sum, lid) / width;
    var squares = 0.0;
    for (var i = lid; i < WIDTH4; i += WG) {
        let v = x[base + i] - mean;
        squares += dot(v, v);
    }
    let scale = inverseSqrt(reduce_sum(squares, lid) / width + EPS);
    for (var i = lid; i < WIDTH4; i += WG) {
        y[base + i] = (x[base + i] - mean) * scale * weight[i] + bias[i];
    }
}
