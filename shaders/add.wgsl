// y = a + SCALE * b, elementwise.
//#import lib/step
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < COLS4) {
        y[id.y * COLS4 + id.x] = a[id.y * COLS4 + id.x] + SCALE * b[id.y * COLS4 + id.x];
    }
}
