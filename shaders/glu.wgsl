// y = gated(gate, up), elementwise. Either may be one value per row (GATES or UPS is 1), or the same for all rows
// (GATE_STRIDE or UP_STRIDE is 0).
//#import lib/step
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $activation

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < COLS) {
        let i = id.y * COLS + id.x;
        y[i] = gated(gate[id.y * GATE_STRIDE + min(id.x, GATES - 1u)], up[id.y * UP_STRIDE + min(id.x, UPS - 1u)]);
    }
}
