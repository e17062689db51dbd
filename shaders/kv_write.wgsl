// Writes the keys and values of each row into the page of its position. One thread writes four of each.
//#import lib/step
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<k_Cell>;
//#import $kv as k_
//#import $values

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y;
    if (id.x >= KV_HEADS * HEAD_DIM4) {
        return;
    }
    let position = rows[row].y;
    let page = pages[rows[row].z * PAGES_PER_SEQUENCE + position / PAGE];
    let at = k_place(page, id.x / HEAD_DIM4, position % PAGE) + id.x % HEAD_DIM4;
    let i = row * KV_HEADS * HEAD_DIM4 + id.x;
    k_cache[at] = k_pack(k[i]);
    keep(at, k_pack(value(i)));
}
