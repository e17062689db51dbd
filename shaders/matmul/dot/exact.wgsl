// One thread's partial dot products of ROWS_PER_LANE weight rows and TILE rows of x, over every LANES-th group of 32.
fn dot_rows(base: array<u32, ROWS_PER_LANE>, xrow: array<u32, TILE>, lane: u32) -> array<vec4<f32>, TILE> {
    var acc = array<vec4<f32>, TILE>();
    for (var g = lane; g < GROUPS; g += LANES) {
        var b: array<Block, ROWS_PER_LANE>;
        //#unroll r ROWS_PER_LANE
        b[r] = load_block(base[r] + g);
        //#end
        //#unroll i 8
        {
            var w: array<vec4<f32>, ROWS_PER_LANE>;
            //#unroll r ROWS_PER_LANE
            w[r] = decode4(b[r], i);
            //#end
            //#unroll t TILE
            {
                let v = x_at(xrow[t], g * 8u + i);
                //#unroll r ROWS_PER_LANE
                acc[t][r] += dot(w[r], v);
                //#end
            }
            //#end
        }
        //#end
    }
    return acc;
}
