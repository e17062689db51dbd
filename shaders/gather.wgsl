// y[i] = x[logit row i]: gathers the rows that need logits.
//#import lib/step
@group(0) @binding(1) var<storage, read> logit_rows: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < COLS4) {
        y[id.y * COLS4 + id.x] = x[logit_rows[id.y] * COLS4 + id.x];
    }
}
