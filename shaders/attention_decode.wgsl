// Attention of few rows over the paged cache. A workgroup takes one row, HEADS_PER_WG query heads of one kv head, and a
// split of KV_SPLIT positions, so that keys and values are read once for all its heads. With one split it writes the
// result (DIRECT); otherwise it writes a partial result with the softmax's maximum and sum, for attention_combine.
//#import lib/step
//#import $reduce
//#import $mask
//#import $softcap
//#import $temperature
//#import $sink
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> k_cache: array<k_Cell>;
@group(0) @binding(5) var<storage, read> v_cache: array<v_Cell>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;
//#import $kv as k_
//#import $kv as v_

var<workgroup> q_s: array<vec4<f32>, HEADS_PER_WG * HEAD_DIM4>;
var<workgroup> p_s: array<vec4<f32>, KV_SPLIT * HEADS_PER_WG4>; // four heads in a vector
var<workgroup> acc_s: array<vec4<f32>, WG>;

// The page of position `p` of the sequence.
fn page_of(sequence: u32, p: u32) -> u32 {
    return pages[sequence * PAGES_PER_SEQUENCE + p / PAGE];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row = wg.z;
    let sequence = rows[row].z;
    let position = rows[row].y;
    let start = max(wg.x * KV_SPLIT, first_visible(position));
    let end = min(wg.x * KV_SPLIT + KV_SPLIT, position + 1u);
    if (start >= end) {
        return;
    }
    let n = end - start;
    let head0 = wg.y * HEADS_PER_WG;
    let kv_head = head0 / GROUP;
    let q_base = (row * HEADS + head0) * HEAD_DIM4;
    let scale = SCALE * temperature(position);
    for (var i = lid; i < HEADS_PER_WG * HEAD_DIM4; i += WG) {
        q_s[i] = q[q_base + i] * scale;
    }
    workgroupBarrier();

    var top: array<vec4<f32>, HEADS_PER_WG4>;
    var sinks4: array<vec4<f32>, HEADS_PER_WG4>;
    //#unroll c HEADS_PER_WG4
    {
        var four = vec4<f32>(-1e30);
        //#unroll j 4
        if (c * 4u + j < HEADS_PER_WG) {
            four[j] = sink(head0 + c * 4u + j);
        }
        //#end
        sinks4[c] = four;
        top[c] = four;
    }
    //#end
    for (var p = lid; p < n; p += WG) {
        let at = k_place(page_of(sequence, start + p), kv_head, (start + p) % PAGE);
        var score = array<f32, HEADS_PER_WG>();
        for (var d = 0u; d < HEAD_DIM4; d += 1u) {
            let k = k_load4(at, d);
            //#unroll h HEADS_PER_WG
            score[h] += dot(q_s[h * HEAD_DIM4 + d], k);
            //#end
        }
        //#unroll c HEADS_PER_WG4
        {
            var four = vec4<f32>(-1e30);
            //#unroll j 4
            if (c * 4u + j < HEADS_PER_WG) {
                four[j] = softcap(score[min(c * 4u + j, HEADS_PER_WG - 1u)]);
            }
            //#end
            p_s[p * HEADS_PER_WG4 + c] = four;
            top[c] = max(top[c], four);
        }
        //#end
    }
    var sum: array<vec4<f32>, HEADS_PER_WG4>;
    //#unroll c HEADS_PER_WG4
    {
        top[c] = reduce_max4(top[c], lid);
        var part = select(vec4<f32>(0.0), exp(sinks4[c] - top[c]), lid == 0u);
        for (var p = lid; p < n; p += WG) {
            let e = exp(p_s[p * HEADS_PER_WG4 + c] - top[c]);
            p_s[p * HEADS_PER_WG4 + c] = e;
            part += e;
        }
        sum[c] = reduce_sum4(part, lid);
    }
    //#end
    workgroupBarrier();

    let lane = lid % D_LANES;
    let phase = lid / D_LANES;
    for (var trip = 0u; trip < D_TRIPS; trip += 1u) {
        let d = trip * D_LANES + lane;
        var acc = array<vec4<f32>, HEADS_PER_WG>();
        if (phase < PHASES && d < VALUE_DIM4) {
            for (var p = phase; p < n; p += PHASES) {
                let v = v_load4(v_place(page_of(sequence, start + p), kv_head, (start + p) % PAGE), d);
                //#unroll h HEADS_PER_WG
                acc[h] += p_s[p * HEADS_PER_WG4 + h / 4u][h % 4u] * v;
                //#end
            }
        }
        //#unroll h HEADS_PER_WG
        {
            acc_s[lid] = acc[h];
            workgroupBarrier();
            if (phase == 0u && d < VALUE_DIM4) {
                var total = acc[h];
                for (var i = 1u; i < PHASES; i += 1u) {
                    total += acc_s[i * D_LANES + lane];
                }
                if (DIRECT) {
                    y[(row * HEADS + head0 + h) * VALUE_DIM4 + d] = total / sum[h / 4u][h % 4u];
                } else {
                    y[((row * HEADS + head0 + h) * MAX_SPLITS + wg.x) * (VALUE_DIM4 + 1u) + d] = total;
                }
            }
            workgroupBarrier();
        }
        //#end
    }
    if (!DIRECT && lid == 0u) {
        //#unroll h HEADS_PER_WG
        y[((row * HEADS + head0 + h) * MAX_SPLITS + wg.x) * (VALUE_DIM4 + 1u) + VALUE_DIM4] =
            vec4<f32>(top[h / 4u][h % 4u], sum[h / 4u][h % 4u], 0.0, 0.0);
        //#end
    }
}
