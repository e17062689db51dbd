// y[token, n] = gated(gate[n] . x[token], up[n] . x[token]), for few tokens; see matvec.
//#import lib/step
//#import lib/x_at
//#import $reduce
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> up_weight: array<vec4<u32>>;
//#import $weight
//#import $up as up_
//#import $gate_up_dot
//#import $quantize_x
//#import $activation
//#import $norm_scale

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n0 = (wg.x * (WG / LANES) + lid / LANES) * ROWS_PER_LANE;
    var base: array<u32, ROWS_PER_LANE>;
    //#unroll r ROWS_PER_LANE
    base[r] = min(n0 + r, ROWS - 1u) * GROUPS;
    //#end
    var xrow: array<u32, TILE>;
    //#unroll t TILE
    xrow[t] = min(t, sizes.rows - 1u);
    //#end
    quantize_x(xrow[0], lid);
    let acc = gate_up_dot(base, xrow, lane);
    //#unroll t TILE
    {
        let scale = norm_scale(xrow[t], lane, lid);
        let gate = reduce_sum4(acc[t], lid) * scale;
        let up = reduce_sum4(acc[TILE + t], lid) * scale;
        if (lane == 0u && t < sizes.rows) {
            //#unroll r ROWS_PER_LANE
            if (n0 + r < ROWS) {
                y[t * OUT + n0 + r] = gated(gate[r], up[r]);
            }
            //#end
        }
    }
    //#end
}
