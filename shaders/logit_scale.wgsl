// y = softcap(SCALE * x), elementwise.
//#import lib/step
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//#import $softcap

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < COLS) {
        y[id.y * COLS + id.x] = softcap(x[id.y * COLS + id.x] * SCALE);
    }
}
