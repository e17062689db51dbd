// Everything between the projections and attention, for one head of one row per workgroup: norms (head_norm) and
// rotates queries and keys (see rope), norms values if NORM_VALUES, writes queries to y, and keys and values into the
// page of their position.
//#import lib/step
//#import $reduce
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> angles: array<vec2<f32>>; // (256 + coarse, ROT / 2) of (cos, sin)
@group(0) @binding(4) var<storage, read> qkv: array<vec4<f32>>; // (row, head: q, k, v, HEAD_DIM)
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> k_cache: array<k_Cell>;
@group(0) @binding(7) var<storage, read_write> v_cache: array<v_Cell>;
//#import $head_norm
//#import $kv $kv_store as k_
//#import $kv $kv_store as v_

const HEAD_DIM4 = HEAD_DIM / 4u;
var<workgroup> head_s: array<f32, HEAD_DIM>;
var<workgroup> turned_s: array<vec4<f32>, HEAD_DIM4>;

// Value `j` of the head, rotated.
fn turned(j: u32, position: u32) -> f32 {
    if (j >= ROT) {
        return head_s[j];
    }
    let second = select(j % 2u == 1u, j >= ROT / 2u, NEOX);
    let i = select(j / 2u, j % (ROT / 2u), NEOX);
    let other = select(select(j + 1u, j - 1u, second), select(j + ROT / 2u, j - ROT / 2u, second), NEOX);
    let fine = angles[(position % 256u) * (ROT / 2u) + i];
    let coarse = angles[(256u + position / 256u) * (ROT / 2u) + i];
    let c = fine.x * coarse.x - fine.y * coarse.y;
    let s = fine.y * coarse.x + fine.x * coarse.y;
    return head_s[j] * c + select(-head_s[other], head_s[other], second) * s;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let head = wg.x;
    let row = wg.y;
    let is_v = head >= HEADS + KV_HEADS;
    let base = (row * (HEADS + 2u * KV_HEADS) + head) * HEAD_DIM4;
    let position = rows[row].y;
    var squares = 0.0;
    for (var d = lid; d < HEAD_DIM4; d += WG) {
        squares += dot(qkv[base + d], qkv[base + d]);
    }
    let scale = head_scale(squares, lid);
    for (var d = lid; d < HEAD_DIM4; d += WG) {
        let v = head_normed(qkv[base + d], scale, head, d);
        turned_s[d] = qkv[base + d] * select(1.0, scale, NORM_VALUES);
        head_s[4u * d] = v.x;
        head_s[4u * d + 1u] = v.y;
        head_s[4u * d + 2u] = v.z;
        head_s[4u * d + 3u] = v.w;
    }
    workgroupBarrier();
    if (!is_v) {
        for (var d = lid; d < HEAD_DIM4; d += WG) {
            let j = 4u * d;
            turned_s[d] = vec4<f32>(
                turned(j, position),
                turned(j + 1u, position),
                turned(j + 2u, position),
                turned(j + 3u, position),
            );
        }
    }
    workgroupBarrier();
    if (head < HEADS) {
        for (var d = lid; d < HEAD_DIM4; d += WG) {
            y[(row * HEADS + head) * HEAD_DIM4 + d] = turned_s[d];
        }
        return;
    }
    let page = pages[rows[row].z * PAGES_PER_SEQUENCE + position / PAGE];
    for (var d = lid; d < HEAD_DIM4; d += WG) {
        if (is_v) {
            v_store(page, head - HEADS - KV_HEADS, position % PAGE, d);
        } else {
            k_store(page, head - HEADS, position % PAGE, d);
        }
    }
}
