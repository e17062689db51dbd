// y[token, n] = sum over k of weight[n, k] * x[token, k], for many tokens.
//
// A workgroup of 64 threads computes a tile of 64 weight rows by 64 tokens: each step along k, thread t decodes the
// group of 32 weights of row t and fetches 32 values of token t into workgroup memory (16 KiB, all that the baseline
// has); then each thread multiplies 8 rows by 8 tokens out of it.
//#import lib/step
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight
//#import $route
//#import $epilogue

const SIDE = 64u;
var<workgroup> w_tile: array<vec4<f32>, 512>; // (8 k4, 64 rows)
var<workgroup> x_tile: array<vec4<f32>, 512>; // (8 k4, 64 tokens)

fn x_at(row: u32, i: u32) -> vec4<f32> {
    if (COLS4 % 8u != 0u) {
        return select(vec4<f32>(0.0), x[row * COLS4 + min(i, COLS4 - 1u)], i < COLS4);
    }
    return x[row * COLS4 + i];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let count = route_count(wg.y);
    if (count == 0u) {
        return;
    }
    let n0 = wg.x * SIDE;
    let w_base = (route_weight_row(wg.y) + min(n0 + lid, ROWS - 1u)) * GROUPS;
    let x_row = route_x(wg.y, min(lid, count - 1u));
    let tn = lid % 8u;
    let tt = lid / 8u;
    var acc: array<f32, 64>;
    for (var g = 0u; g < GROUPS; g += 1u) {
        let b = load_block(w_base + g);
        //#unroll i 8
        w_tile[i * SIDE + lid] = decode4(b, i);
        x_tile[i * SIDE + lid] = x_at(x_row, g * 8u + i);
        //#end
        workgroupBarrier();
        for (var k = 0u; k < 8u; k += 1u) {
            var w: array<vec4<f32>, 8>;
            //#unroll r 8
            w[r] = w_tile[k * SIDE + tn + 8u * r];
            //#end
            //#unroll t 8
            {
                let v = x_tile[k * SIDE + tt + 8u * t];
                //#unroll r 8
                acc[t * 8u + r] += dot(w[r], v);
                //#end
            }
            //#end
        }
        workgroupBarrier();
    }
    //#unroll t 8
    if (tt + 8u * t < count) {
        let row = route_y(wg.y, tt + 8u * t);
        //#unroll r 8
        if (n0 + tn + 8u * r < ROWS) {
            let n = ROW0 + n0 + tn + 8u * r;
            y[row * OUT + n] = epilogue(acc[t * 8u + r], row, n);
        }
        //#end
    }
    //#end
}
