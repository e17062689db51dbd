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
//#import $activation
//#import $norm

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n0 = (wg.x * (WG / LANES) + lid / LANES) * RPL;
    var base: array<u32, RPL>;
    //#unroll r RPL
    base[r] = min(n0 + r, ROWS - 1u) * GROUPS;
    //#end
    var gate_acc: array<vec4<f32>, TILE>;
    var up_acc: array<vec4<f32>, TILE>;
    for (var g = lane; g < GROUPS; g += LANES) {
        //#unroll r RPL
        {
            let gate = load_block(base[r] + g);
            let up = up_load_block(base[r] + g);
            //#unroll i 8
            {
                let gw = decode4(gate, i);
                let uw = up_decode4(up, i);
                //#unroll t TILE
                {
                    let v = x_at(min(t, sizes.rows - 1u), g * 8u + i);
                    gate_acc[t][r] += dot(gw, v);
                    up_acc[t][r] += dot(uw, v);
                }
                //#end
            }
            //#end
        }
        //#end
    }
    //#unroll t TILE
    {
        let scale = norm_scale(min(t, sizes.rows - 1u), lane, lid);
        let gate = reduce_sum4(gate_acc[t], lid) * scale;
        let up = reduce_sum4(up_acc[t], lid) * scale;
        if (lane == 0u && t < sizes.rows) {
            //#unroll r RPL
            if (n0 + r < ROWS) {
                y[t * OUT + n0 + r] = gated(gate[r], up[r]);
            }
            //#end
        }
    }
    //#end
}
