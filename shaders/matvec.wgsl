// GEMV: y[token, n] = sum over k of weight[n, k] * x[token, k], for few tokens; every weight is read once.
//
// LANES threads share a set of ROWS_PER_LANE weight rows and walk along them one group of 32 weights at a time; a
// workgroup has WG / LANES sets. With LANES = 1 each thread has its own rows and needs no reduction: best for software
// adapters.
//#import lib/step
//#import lib/x_at
//#import $reduce
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight $dot
//#import $quantize_x
//#import $route
//#import $epilogue
//#import $sum_squares

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let count = route_count(wg.y);
    if (count == 0u) {
        return;
    }
    let lane = lid % LANES;
    let n0 = (wg.x * (WG / LANES) + lid / LANES) * ROWS_PER_LANE;
    let first = route_weight_row(wg.y);
    var base: array<u32, ROWS_PER_LANE>;
    //#unroll r ROWS_PER_LANE
    base[r] = (first + min(n0 + r, ROWS - 1u)) * GROUPS;
    //#end
    var xrow: array<u32, TILE>;
    //#unroll t TILE
    xrow[t] = route_x(wg.y, min(t, count - 1u));
    //#end
    quantize_x(xrow[0], lid);
    let acc = dot_rows(base, xrow, lane);
    //#unroll t TILE
    {
        let sum = reduce_sum4(acc[t], lid);
        let row = route_y(wg.y, min(t, count - 1u));
        var squares_sum = 0.0;
        if (lane == 0u && t < count) {
            //#unroll r ROWS_PER_LANE
            if (n0 + r < ROWS) {
                let v = epilogue(sum[r], row, ROW0 + n0 + r);
                y[row * OUT + ROW0 + n0 + r] = v;
                squares_sum += square_of(v, row, ROW0 + n0 + r);
            }
            //#end
        }
        write_sum_squares(squares_sum, row, wg.x, lid, t < count);
    }
    //#end
}
