// y[token, n] = sum over k of weight[n, k] * x[token, k], for many tokens, in packed f16 arithmetic. Weights and x are
// rounded to f16; each group of 32 values of x is scaled so that its largest magnitude is 64. Sixteen products are
// summed in f16, and these sums in f32.
//
// A workgroup of 128 threads computes a tile of SIDE weight rows by 64 tokens. Each step along k takes a group of 32:
// the threads decode the weights of the tile's rows and fetch the values of its tokens into workgroup memory; then each
// thread multiplies PER_THREAD rows by 8 tokens from it.
//#enable f16
//#import lib/step
//#import lib/x_at
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight
//#import $route
//#import $epilogue

const WG = 128u;
const TOKENS = 64u;
var<workgroup> w_tile: array<vec4<f16>, 8u * SIDE>; // (8 k4, SIDE rows)
var<workgroup> x_tile: array<vec4<f16>, 512>; // (8 k4, 64 tokens)
var<workgroup> x_steps: array<f32, 64>;
var<workgroup> leaving: array<vec4<f32>, 128>; // (8 tokens, 16) of four rows, 16 apart

// Group g of a row of x, for the tile's token `at`.
fn fetch(at: u32, row: u32, g: u32) {
    var v: array<vec4<f32>, 8>;
    var most = vec4<f32>(0.0);
    //#unroll i 8
    v[i] = x_at(row, g * 8u + i);
    most = max(most, abs(v[i]));
    //#end
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    // Keeps the quotient finite.
    let times = select(0.0, 64.0 / largest, largest > 1e-30);
    //#unroll i 8
    x_tile[i * TOKENS + at] = vec4<f16>(v[i] * times);
    //#end
    x_steps[at] = largest / 64.0;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let count = route_count(wg.y);
    if (count == 0u) {
        return;
    }
    let n0 = wg.x * SIDE;
    let first = route_weight_row(wg.y);
    let tn = lid % 16u;
    let tt = lid / 16u;
    var acc: array<f32, 8u * PER_THREAD>;
    for (var g = 0u; g < GROUPS; g += 1u) {
        for (var at = lid; at < SIDE + TOKENS; at += WG) {
            if (at < SIDE) {
                let b = load_block((first + min(n0 + at, ROWS - 1u)) * GROUPS + g);
                //#unroll i 8
                w_tile[i * SIDE + at] = vec4<f16>(decode4(b, i));
                //#end
            } else {
                fetch(at - SIDE, route_x(wg.y, min(at - SIDE, count - 1u)), g);
            }
        }
        workgroupBarrier();
        var sum = array<vec2<f16>, 8u * PER_THREAD>();
        for (var k = 0u; k < 8u; k += 1u) {
            var w: array<vec4<f16>, PER_THREAD>;
            //#unroll r PER_THREAD
            w[r] = w_tile[k * SIDE + tn + 16u * r];
            //#end
            //#unroll t 8
            {
                let v = x_tile[k * TOKENS + tt + 8u * t];
                //#unroll r PER_THREAD
                sum[t * PER_THREAD + r] += w[r].xy * v.xy;
                sum[t * PER_THREAD + r] += w[r].zw * v.zw;
                //#end
            }
            //#end
        }
        //#unroll t 8
        {
            let step = x_steps[tt + 8u * t];
            //#unroll r PER_THREAD
            acc[t * PER_THREAD + r] += step * (f32(sum[t * PER_THREAD + r].x) + f32(sum[t * PER_THREAD + r].y));
            //#end
        }
        //#end
        workgroupBarrier();
    }
    // Sums are transposed through workgroup memory, 8 tokens and 64 rows at a time, so that adjacent threads write
    // adjacent values.
    //#unroll t 8
    //#unroll p PARTS
    {
        let r = 4u * p;
        leaving[lid] = vec4<f32>(acc[t * PER_THREAD + r], acc[t * PER_THREAD + r + 1u], acc[t * PER_THREAD + r + 2u], acc[t * PER_THREAD + r + 3u]);
        workgroupBarrier();
        for (var at = lid; at < 512u; at += WG) {
            let token = at / 64u + 8u * t;
            let n = n0 + 64u * p + at % 64u;
            if (token < count && n < ROWS) {
                let row = route_y(wg.y, token);
                y[row * OUT + ROW0 + n] = epilogue(leaving[at / 64u * 16u + at % 16u][at % 64u / 16u], row, ROW0 + n);
            }
        }
        workgroupBarrier();
    }
    //#end
    //#end
}
