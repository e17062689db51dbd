// Concatenates heads of A values and heads of B values: y (row, HEADS, A + B).
//#import lib/step
@group(0) @binding(1) var<storage, read> a: array<f32>; // (row, HEADS, A)
@group(0) @binding(2) var<storage, read> b: array<f32>; // (row, HEADS, B)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= HEADS * (A + B)) {
        return;
    }
    let head = id.y * HEADS + id.x / (A + B);
    let i = id.x % (A + B);
    if (i < A) {
        y[head * (A + B) + i] = a[head * A + i];
    } else {
        y[head * (A + B) + i] = b[head * B + i - A];
    }
}
