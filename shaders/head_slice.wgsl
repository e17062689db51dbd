// Takes LEN values from START on of each head of x (row, HEADS, HEAD_DIM): y (row, HEADS, LEN).
//#import lib/step
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < HEADS * LEN) {
        y[id.y * HEADS * LEN + id.x] = x[(id.y * HEADS + id.x / LEN) * HEAD_DIM + START + id.x % LEN];
    }
}
