// One thread's partial dot products of ROWS_PER_LANE rows of the gate's weight, then of the same rows of up's, and TILE
// rows of x.
fn gate_up_dot(base: array<u32, ROWS_PER_LANE>, xrow: array<u32, TILE>, lane: u32) -> array<vec4<f32>, TILE + TILE> {
    var acc = array<vec4<f32>, TILE + TILE>();
    for (var g = lane; g < GROUPS; g += LANES) {
        //#unroll r ROWS_PER_LANE
        {
            let gate = load_block(base[r] + g);
            let up = up_load_block(base[r] + g);
            //#unroll i 8
            {
                let gw = decode4(gate, i);
                let uw = up_decode4(up, i);
                //#unroll t TILE
                {
                    let v = x_at(xrow[t], g * 8u + i);
                    acc[t][r] += dot(gw, v);
                    acc[TILE + t][r] += dot(uw, v);
                }
                //#end
            }
            //#end
        }
        //#end
    }
    return acc;
}
