// Attention of many rows: a workgroup takes up to TILE rows of one sequence (one of PARTS of a query tile) and one
// head, and walks the cache one page at a time with an online softmax (arXiv 2205.14135).
//#import lib/step
//#import $mask
//#import $softcap
//#import $temperature
//#import $sink
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> k_cache: array<k_Cell>;
@group(0) @binding(5) var<storage, read> v_cache: array<v_Cell>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;
//#import $keys
//#import $kv as k_
//#import $kv as v_

const SHARES = WG / TILE; // threads per row's softmax
const SHARE = PAGE / SHARES; // positions per thread
// Padded by one, so that rows begin in different banks.
const STRIDE = PAGE + 1u;

var<workgroup> q_s: array<vec4<f32>, TILE * HEAD_DIM4>;
var<workgroup> p_s: array<f32, TILE * STRIDE>;
var<workgroup> most_s: array<f32, WG>; // (SHARES, TILE)
var<workgroup> sum_s: array<f32, WG>;
var<workgroup> scale_s: array<f32, TILE>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let tile = tiles[wg.x / PARTS];
    let skipped = wg.x % PARTS * TILE;
    if (skipped >= tile.y) {
        return;
    }
    let first = tile.x + skipped;
    let count = min(tile.y - skipped, TILE);
    let head = wg.y;
    let sequence = rows[first].z;
    let position = rows[first].y;
    for (var i = lid; i < TILE * HEAD_DIM4; i += WG) {
        let r = min(i / HEAD_DIM4, count - 1u);
        q_s[i] = q[((first + r) * HEADS + head) * HEAD_DIM4 + i % HEAD_DIM4] * (SCALE * temperature(position + r));
    }
    workgroupBarrier();

    // Scores: a thread takes one position of the page and SCORES rows.
    let p = lid % PAGE;
    let first_row = lid / PAGE * SCORES;
    // Softmax: a thread takes a part of a row. The sink is the first score; without a sink, the next score takes its
    // weight to zero.
    let own_row = lid % TILE;
    let share = own_row * STRIDE + lid / TILE * SHARE;
    var top = sink(head);
    var sum = select(0.0, 1.0, lid < TILE);
    // Values: a thread takes ROWS_EACH rows and, in D_TRIPS steps, four dimensions of every D_LANES * 4.
    let lane = lid % D_LANES;
    let row0 = lid / D_LANES * ROWS_EACH;
    var acc: array<vec4<f32>, ACCS>; // (D_TRIPS, ROWS_EACH)
    let end = end_of(position + count - 1u, tile);
    let n = last_visible(position + count - 1u, end) + 1u;
    for (var start = first_visible(position) / PAGE * PAGE; start < n; start += PAGE) {
        let page = page_at(sequence, start, tile);
        let keys = k_place(page, head / GROUP, p);
        var score = array<f32, SCORES>();
        for (var d = 0u; d < HEAD_DIM4; d += 1u) {
            let k = k_load4(keys, d);
            //#unroll r SCORES
            score[r] += dot(q_s[(first_row + r) * HEAD_DIM4 + d], k);
            //#end
        }
        //#unroll r SCORES
        {
            let own = position + first_row + r;
            let seen = start + p <= last_visible(own, end) && start + p >= first_visible(own);
            p_s[(first_row + r) * STRIDE + p] = select(-1e30, softcap(score[r]), seen);
        }
        //#end
        workgroupBarrier();
        var most = top;
        for (var i = 0u; i < SHARE; i += 1u) {
            most = max(most, p_s[share + i]);
        }
        most_s[lid] = most;
        workgroupBarrier();
        for (var i = own_row; i < WG; i += TILE) {
            most = max(most, most_s[i]);
        }
        let scale = exp(top - most);
        top = most;
        sum *= scale;
        for (var i = 0u; i < SHARE; i += 1u) {
            let e = exp(p_s[share + i] - top);
            p_s[share + i] = e;
            sum += e;
        }
        if (lid < TILE) {
            scale_s[lid] = scale;
        }
        workgroupBarrier();
        if (row0 < TILE) {
            // After the last position, a page's contents are undefined and must not be read.
            let filled = min(PAGE, n - start);
            for (var trip = 0u; trip < D_TRIPS; trip += 1u) {
                let d = trip * D_LANES + lane;
                if (d < VALUE_DIM4) {
                    //#unroll r ROWS_EACH
                    acc[trip * ROWS_EACH + r] *= scale_s[min(row0 + r, TILE - 1u)];
                    //#end
                    for (var i = 0u; i < filled; i += 1u) {
                        let v = v_load4(v_place(page, head / GROUP, i), d);
                        //#unroll r ROWS_EACH
                        acc[trip * ROWS_EACH + r] += p_s[min(row0 + r, TILE - 1u) * STRIDE + i] * v;
                        //#end
                    }
                }
            }
        }
        workgroupBarrier();
    }
    sum_s[lid] = sum;
    workgroupBarrier();
    for (var trip = 0u; trip < D_TRIPS; trip += 1u) {
        let d = trip * D_LANES + lane;
        //#unroll r ROWS_EACH
        if (row0 + r < count && d < VALUE_DIM4) {
            var all = 0.0;
            for (var i = row0 + r; i < WG; i += TILE) {
                all += sum_s[i];
            }
            y[((first + row0 + r) * HEADS + head) * VALUE_DIM4 + d] = acc[trip * ROWS_EACH + r] / all;
        }
        //#end
    }
}
