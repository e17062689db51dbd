// Attention of many rows by cooperative matrices (tensor cores): a workgroup takes up to 64 rows of one sequence (one
// of PARTS of a query tile) and one head, 16 rows for each of four subgroups, and walks the cache one page at a time.
// Queries, keys, values and softmax weights are rounded to f16; scores, sums and means are f32.
//
// The softmax is online, as in attention_prefill.wgsl. But means are cooperative matrices, which are costly to scale,
// so they are not scaled for every page: weights are relative to a score `top` that moves only when a score exceeds it
// by more than 8. So weights are below e^8, far from the largest f16.
//#enable subgroups
//#enable f16
//#enable wgpu_cooperative_matrix
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
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
//#import $keys
//#import $kv as k_
//#import $kv as v_
//#import $cooperative

const HEAD_DIM = 4u * HEAD_DIM4;
const SLICE = 16u * PAGE; // scores of a subgroup
const MOST = vec4<f32>(65504.0);
// Padded by 8 values, so that rows begin in different banks.
const STRIDE = HEAD_DIM + 8u;
const P_STRIDE = PAGE + 8u;

var<workgroup> tile_s: vec4<u32>;
var<workgroup> work: vec4<u32>; // first row, rows, sequence, position of the first row
var<workgroup> kv_s: array<f16, PAGE * STRIDE>; // (PAGE positions, HEAD_DIM): keys, then values
var<workgroup> p_s: array<f16, TILE * P_STRIDE>; // (TILE rows, PAGE): weights; before, 32 values of each query
var<workgroup> s_s: array<f32, TILE * PAGE>; // (4 subgroups, PAGE positions, 16 rows): scores; 32 values of each mean
var<workgroup> most_s: array<f32, 2u * TILE>; // (each half of the page, TILE rows)
var<workgroup> sum_s: array<f32, 2u * TILE>;
var<workgroup> top_s: array<f32, 2u * TILE>; // (this page and the next, TILE rows)
var<workgroup> scale_s: array<f32, TILE>;
var<workgroup> moved: atomic<u32>; // the last page, counted from 1, in which a top has moved
var<workgroup> move_now: u32;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    if (lid == 0u) {
        let tile = tiles[wg.x / PARTS];
        let skipped = min(wg.x % PARTS * TILE, tile.y);
        let row = rows[tile.x];
        tile_s = tile;
        work = vec4<u32>(tile.x + skipped, min(tile.y - skipped, TILE), row.z, row.y + skipped);
        atomicStore(&moved, 0u);
    }
    // naga requires uniform control flow where matrices are multiplied.
    let all = workgroupUniformLoad(&work);
    let whole_tile = workgroupUniformLoad(&tile_s);
    if (all.y == 0u) {
        return;
    }
    let first = all.x;
    let count = all.y;
    let position = all.w;
    let head = wg.y;
    let end = end_of(position + count - 1u, whole_tile);
    let n = last_visible(position + count - 1u, end) + 1u;
    let own = subgroup % 4u * 16u;
    let slice = subgroup % 4u * SLICE;
    for (var at = lid; at < TILE; at += WG) {
        // The sink is the first score; without a sink, the next score takes its weight to zero.
        top_s[at] = sink(head);
        sum_s[at] = 1.0;
        sum_s[TILE + at] = 0.0;
    }
    var queries: array<Left, COOP_R * COOP_D>;
    //#unroll c CHUNKS
    {
        for (var at = lid; at < TILE * 8u; at += WG) {
            let r = min(at / 8u, count - 1u);
            let i = at % 8u;
            let query = q[((first + r) * HEADS + head) * HEAD_DIM4 + c * 8u + i] * (SCALE * temperature(position + r));
            let v = vec4<f16>(clamp(query, -MOST, MOST));
            //#unroll e 4
            p_s[at / 8u * P_STRIDE + 4u * i + e] = v[e];
            //#end
        }
        workgroupBarrier();
        //#unroll r COOP_R
        //#unroll k COOP_P
        queries[r * COOP_D + c * COOP_P + k] =
            coopLoadT<Left>(&p_s[(own + r * COOP) * P_STRIDE + k * COOP], P_STRIDE);
        //#end
        //#end
        workgroupBarrier();
    }
    //#end

    var mean: array<Sum, COOP_R * COOP_D>;
    var turn = 0u;
    for (var start = first_visible(position) / PAGE * PAGE; start < n; start += PAGE) {
        let page = page_at(all.z, start, whole_tile);
        let filled = min(PAGE, n - start);
        for (var at = lid; at < PAGE * HEAD_DIM4; at += WG) {
            let i = at % HEAD_DIM4;
            let v = vec4<f16>(k_load4(k_place(page, head / GROUP, at / HEAD_DIM4), i));
            //#unroll e 4
            kv_s[at / HEAD_DIM4 * STRIDE + 4u * i + e] = v[e];
            //#end
        }
        workgroupBarrier();
        for (var p = 0u; p < COOP_P; p += 1u) {
            var scores = array<Sum, COOP_R>();
            //#unroll d COOP_D
            {
                let key = coopLoad<Right>(&kv_s[p * COOP * STRIDE + d * COOP], STRIDE);
                //#unroll r COOP_R
                scores[r] = coopMultiplyAdd(queries[r * COOP_D + d], key, scores[r]);
                //#end
            }
            //#end
            //#unroll r COOP_R
            coopStore(scores[r], &s_s[slice + p * COOP * 16u + r * COOP], 16u);
            //#end
        }
        workgroupBarrier();
        for (var at = lid; at < 2u * TILE; at += WG) {
            let r = at % TILE;
            let seer = min(position + r, position + count - 1u);
            var most = -1e30;
            for (var i = 0u; i < PAGE / 2u; i += 1u) {
                let p = at / TILE * (PAGE / 2u) + i;
                let cell = r / 16u * SLICE + p * 16u + r % 16u;
                // After the last position, a page's contents are undefined and must be masked.
                let seen = start + p <= last_visible(seer, end) && start + p >= first_visible(seer);
                let score = select(-1e30, softcap(s_s[cell]), seen);
                s_s[cell] = score;
                most = max(most, score);
            }
            most_s[at] = most;
        }
        workgroupBarrier();
        for (var at = lid; at < 2u * TILE; at += WG) {
            let r = at % TILE;
            let before = top_s[turn % 2u * TILE + r];
            let most = max(most_s[r], most_s[TILE + r]);
            let top = select(before, most, most > before + 8.0);
            let scale = exp(before - top);
            var sum = sum_s[at] * scale;
            for (var i = 0u; i < PAGE / 2u; i += 1u) {
                let p = at / TILE * (PAGE / 2u) + i;
                let weight = f16(exp(s_s[r / 16u * SLICE + p * 16u + r % 16u] - top));
                p_s[r * P_STRIDE + p] = weight;
                sum += f32(weight);
            }
            sum_s[at] = sum;
            if (at < TILE) {
                top_s[(turn + 1u) % 2u * TILE + r] = top;
                scale_s[r] = scale;
                // Before the first page there is no mean.
                if (scale != 1.0 && turn != 0u) {
                    atomicStore(&moved, turn);
                }
            }
        }
        for (var at = lid; at < PAGE * HEAD_DIM4; at += WG) {
            let slot = at / HEAD_DIM4;
            let i = at % HEAD_DIM4;
            var v = vec4<f16>();
            if (slot < filled) {
                v = vec4<f16>(v_load4(v_place(page, head / GROUP, slot), i));
            }
            //#unroll e 4
            kv_s[slot * STRIDE + 4u * i + e] = v[e];
            //#end
        }
        workgroupBarrier();
        if (lid == 0u) {
            move_now = u32(turn != 0u && atomicLoad(&moved) == turn);
        }
        if (workgroupUniformLoad(&move_now) != 0u) {
            //#unroll c CHUNKS
            {
                //#unroll r COOP_R
                //#unroll k COOP_P
                coopStore(mean[r * COOP_D + c * COOP_P + k], &s_s[slice + k * COOP * 16u + r * COOP], 16u);
                //#end
                //#end
                workgroupBarrier();
                for (var at = lid; at < 4u * SLICE; at += WG) {
                    s_s[at] *= scale_s[at / SLICE * 16u + at % 16u];
                }
                workgroupBarrier();
                //#unroll r COOP_R
                //#unroll k COOP_P
                mean[r * COOP_D + c * COOP_P + k] = coopLoad<Sum>(&s_s[slice + k * COOP * 16u + r * COOP], 16u);
                //#end
                //#end
                workgroupBarrier();
            }
            //#end
        }
        for (var p = 0u; p < COOP_P; p += 1u) {
            var weights: array<Left, COOP_R>;
            //#unroll r COOP_R
            weights[r] = coopLoadT<Left>(&p_s[(own + r * COOP) * P_STRIDE + p * COOP], P_STRIDE);
            //#end
            //#unroll d COOP_D
            {
                let value = coopLoadT<Right>(&kv_s[p * COOP * STRIDE + d * COOP], STRIDE);
                //#unroll r COOP_R
                mean[r * COOP_D + d] = coopMultiplyAdd(weights[r], value, mean[r * COOP_D + d]);
                //#end
            }
            //#end
        }
        workgroupBarrier();
        turn += 1u;
    }
    //#unroll c CHUNKS
    {
        //#unroll r COOP_R
        //#unroll k COOP_P
        coopStore(mean[r * COOP_D + c * COOP_P + k], &s_s[slice + k * COOP * 16u + r * COOP], 16u);
        //#end
        //#end
        workgroupBarrier();
        for (var at = lid; at < count * 32u; at += WG) {
            let r = at / 32u;
            let d = at % 32u;
            let value = s_s[r / 16u * SLICE + d * 16u + r % 16u] / (sum_s[r] + sum_s[TILE + r]);
            y[((first + r) * HEADS + head) * HEAD_DIM + c * 32u + d] = value;
        }
        workgroupBarrier();
    }
    //#end
}
