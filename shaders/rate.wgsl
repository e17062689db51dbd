// Multiplies and adds in registers: the arithmetic rate of `bench --ops`. A thread has eight independent sums, which
// hides the latency of each.
//#import $element
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let w = Four(x[id.x]);
    var sums: array<Four, 8>;
    //#unroll n 8
    sums[n] = Four(vec4<f32>(f32(n)));
    //#end
    for (var i = 0u; i < ROUNDS; i += 1u) {
        //#unroll n 8
        sums[n] = fma(sums[n], w, w);
        //#end
    }
    var all = vec4<f32>(0.0);
    //#unroll n 8
    all += vec4<f32>(sums[n]);
    //#end
    y[id.x] = all;
}
