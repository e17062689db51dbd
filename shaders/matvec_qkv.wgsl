// Queries, keys and values of few tokens, concatenated in y: three matvecs (see matvec) of one x in one dispatch.
//#import lib/step
//#import lib/x_at
//#import $reduce
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> k_weight: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> v_weight: array<vec4<u32>>;
//#import $weight $dot
//#import $k $dot as k_
//#import $v $dot as v_
//#import $quantize_x
//#import $norm_scale
//#import $epilogue

// Where rows n0, n0 + 1 ... of a weight of `rows` rows begin.
fn bases(n0: u32, rows: u32) -> array<u32, ROWS_PER_LANE> {
    var base: array<u32, ROWS_PER_LANE>;
    //#unroll r ROWS_PER_LANE
    base[r] = min(n0 + r, rows - 1u) * GROUPS;
    //#end
    return base;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n0 = (wg.x * (WG / LANES) + lid / LANES) * ROWS_PER_LANE;
    var xrow: array<u32, TILE>;
    //#unroll t TILE
    xrow[t] = min(t, sizes.rows - 1u);
    //#end
    quantize_x(xrow[0], lid);
    var acc: array<vec4<f32>, TILE>;
    if (n0 < ROWS) {
        acc = dot_rows(bases(n0, ROWS), xrow, lane);
    } else if (n0 < ROWS + KV_ROWS) {
        acc = k_dot_rows(bases(n0 - ROWS, KV_ROWS), xrow, lane);
    } else {
        acc = v_dot_rows(bases(n0 - ROWS - KV_ROWS, KV_ROWS), xrow, lane);
    }
    //#unroll t TILE
    {
        let scale = norm_scale(xrow[t], lane, lid);
        let sum = reduce_sum4(acc[t], lid) * scale;
        if (lane == 0u && t < sizes.rows) {
            //#unroll r ROWS_PER_LANE
            if (n0 + r < OUT) {
                y[t * OUT + n0 + r] = epilogue(sum[r], t, n0 + r);
            }
            //#end
        }
    }
    //#end
}
