// y[token, n] = sum over k of weight[n, k] * x[token, k], for many tokens, on software adapters, where loads cost far
// more than arithmetic, and barriers more than loads.
//
// A thread keeps ROWS_PER_LANE weight rows in registers and multiplies them by FETCHES x SUBGROUP tokens at a time.
// SUBGROUP lanes work on the same tokens: each fetches a part of their values and broadcasts it to the others.
// Workgroup memory is not used. Rows and tokens past the end repeat the last one, and are written again with the same
// value.
//#import lib/step
//#import lib/x_at
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight
//#import $route
//#import $epilogue
//#import $broadcast

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let count = route_count(wg.y);
    if (count == 0u) {
        return;
    }
    let lane = lid % SUBGROUP;
    let first = route_weight_row(wg.y);
    let n0 = wg.x * WG * ROWS_PER_LANE + lid;
    var n: array<u32, ROWS_PER_LANE>;
    //#unroll r ROWS_PER_LANE
    n[r] = min(n0 + WG * r, ROWS - 1u);
    //#end
    for (var j0 = 0u; j0 < count; j0 += SUBGROUP * FETCHES) {
        var x_row: array<u32, FETCHES>;
        //#unroll f FETCHES
        x_row[f] = route_x(wg.y, min(j0 + f * SUBGROUP + lane, count - 1u));
        //#end
        var acc = array<f32, FETCHES * SUBGROUP * ROWS_PER_LANE>();
        for (var g = 0u; g < GROUPS; g += 1u) {
            var b: array<Block, ROWS_PER_LANE>;
            //#unroll r ROWS_PER_LANE
            b[r] = load_block((first + n[r]) * GROUPS + g);
            //#end
            for (var i = 0u; i < 8u; i += 1u) {
                var w: array<vec4<f32>, ROWS_PER_LANE>;
                //#unroll r ROWS_PER_LANE
                w[r] = decode4(b[r], i);
                //#end
                //#unroll f FETCHES
                {
                    let v = broadcast(x_at(x_row[f], g * 8u + i));
                    //#unroll s SUBGROUP
                    //#unroll r ROWS_PER_LANE
                    acc[(f * SUBGROUP + s) * ROWS_PER_LANE + r] += dot(w[r], v[s]);
                    //#end
                    //#end
                }
                //#end
            }
        }
        //#unroll f FETCHES
        //#unroll s SUBGROUP
        {
            let row = route_y(wg.y, min(j0 + f * SUBGROUP + s, count - 1u));
            //#unroll r ROWS_PER_LANE
            y[row * OUT + ROW0 + n[r]] = epilogue(acc[(f * SUBGROUP + s) * ROWS_PER_LANE + r], row, ROW0 + n[r]);
            //#end
        }
        //#end
        //#end
    }
}
