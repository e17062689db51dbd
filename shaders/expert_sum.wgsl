// y[row] = sum over the row's slots of weights[slot] * x[slot] (+ residual[row]).
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $epilogue

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < OUT) {
        var sum = 0.0;
        //#unroll s USED
        sum += weights[id.y * USED + s] * x[(id.y * USED + s) * OUT + id.x];
        //#end
        y[id.y * OUT + id.x] = epilogue(sum, id.y, id.x);
    }
}
