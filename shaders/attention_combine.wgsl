// Combines the KV splits of attention_decode: each has its softmax maximum and sum.
//#import lib/step
//#import $mask
//#import $sink
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> spans: array<vec4<f32>>; // (row, head, MAX_SPLITS, VALUE_DIM4 + 1)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let d = id.x;
    if (d >= VALUE_DIM4) {
        return;
    }
    let head = id.z * HEADS + id.y;
    let base = head * MAX_SPLITS * (VALUE_DIM4 + 1u);
    let position = rows[id.z].y;
    let first = first_visible(position) / KV_SPLIT;
    let n = position / KV_SPLIT + 1u;
    let own = sink(id.y);
    var top = own;
    for (var s = first; s < n; s += 1u) {
        top = max(top, spans[base + s * (VALUE_DIM4 + 1u) + VALUE_DIM4].x);
    }
    var sum = exp(own - top);
    var acc = vec4<f32>(0.0);
    for (var s = first; s < n; s += 1u) {
        let at = base + s * (VALUE_DIM4 + 1u);
        let stats = spans[at + VALUE_DIM4];
        let scale = exp(stats.x - top);
        sum += stats.y * scale;
        acc += spans[at + d] * scale;
    }
    y[head * VALUE_DIM4 + d] = acc / sum;
}
