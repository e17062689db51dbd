// Writes the keys and values of each row into the page of its position, in blocks of 32 values with a scale (kv/q8_0).
// One thread takes four values of each; the eight threads of a block share its largest magnitude. A head has
// HEAD_THREADS threads, padded to whole words of scales, so that both scales of a word are known in one workgroup.
//#import lib/step
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<k_Cell>;
//#import $kv as k_
//#import $values

var<workgroup> most_s: array<vec2<f32>, 64>; // largest magnitudes of each thread's keys and values

fn most(v: vec4<f32>) -> f32 {
    let a = abs(v);
    return max(max(a.x, a.y), max(a.z, a.w));
}

// The scales of keys and of values of the block whose first thread is `first`.
fn scales(first: u32) -> vec2<f32> {
    var top = most_s[first];
    for (var i = 1u; i < 8u; i += 1u) {
        top = max(top, most_s[first + i]);
    }
    return min(top / 127.0, vec2<f32>(65504.0));
}

// Quantizes four values with the scale that will be read back.
fn quants(v: vec4<f32>, scale: f32) -> u32 {
    let d = unpack2x16float(pack2x16float(vec2<f32>(scale, 0.0))).x;
    let inverse = select(1.0 / d, 0.0, d == 0.0);
    return pack4xI8(vec4<i32>(clamp(round(v * inverse), vec4<f32>(-127.0), vec4<f32>(127.0))));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row = id.y;
    let head = id.x / HEAD_THREADS;
    let d = id.x % HEAD_THREADS;
    let inside = head < KV_HEADS && d < HEAD_DIM4;
    var key = vec4<f32>(0.0);
    var own = vec4<f32>(0.0);
    if (inside) {
        let start = (row * KV_HEADS + head) * HEAD_DIM4 + d;
        key = k[start];
        own = value(start);
    }
    most_s[lid] = vec2<f32>(most(key), most(own));
    workgroupBarrier();
    if (!inside) {
        return;
    }
    let position = rows[row].y;
    let page = pages[rows[row].z * PAGES_PER_SEQUENCE + position / PAGE];
    let at = k_place(page, head, position % PAGE);
    let first = lid & 0x38u;
    let scale = scales(first);
    k_cache[at.x + d] = quants(key, scale.x);
    keep(at.x + d, quants(own, scale.y));
    if (d % 16u == 0u) {
        let second = scales(first + 8u);
        k_cache[k_scales_at(at, d)] = pack2x16float(vec2<f32>(scale.x, second.x));
        keep(k_scales_at(at, d), pack2x16float(vec2<f32>(scale.y, second.y)));
    }
}
