// y[token, n] = sum over k of weight[n, k] * x[token, k], for many tokens, in whole numbers. x is rounded to 8 bits, each
// 32 values with a step of their own; weights are the whole numbers that their type is made of: `whole4` gives four of
// them, and `steps` says what one of them counts in either half of a group, and what is added to each weight of either
// half. HALVES tells whether the halves differ, OFFSETS whether anything is added.
//
// Threads and tiles are those of matmul.wgsl; a tile takes a quarter of the memory, and a product of four values is one
// instruction where the GPU has it.
//#import lib/step
//#import lib/x_at
//#import lib/round
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight
//#import $route
//#import $epilogue

const SIDE = 64u;
const WORDS = 8u / HALVES;
var<workgroup> w_tile: array<u32, 512>; // (8 k4, 64 rows)
var<workgroup> x_tile: array<u32, 512>; // (8 k4, 64 tokens)
var<workgroup> w_steps: array<vec4<f32>, 64>;
var<workgroup> x_steps: array<vec3<f32>, 64>; // see Rounded
var<workgroup> leaving: array<f32, 1024>; // (16 tokens, 64 rows)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let count = route_count(wg.y);
    if (count == 0u) {
        return;
    }
    let n0 = wg.x * SIDE;
    let first = route_weight_row(wg.y);
    let tn = lid % SPAN;
    let tt = lid / SPAN;
    var acc: array<f32, PER * PER>;
    for (var g = 0u; g < GROUPS; g += 1u) {
        for (var at = lid; at < SIDE; at += WG) {
            let b = load_block((first + min(n0 + at, ROWS - 1u)) * GROUPS + g);
            w_steps[at] = steps(b);
            //#unroll i 8
            w_tile[i * SIDE + at] = whole4(b, i);
            //#end
            let rounded = round_group(route_x(wg.y, min(at, count - 1u)), g);
            //#unroll i 8
            x_tile[i * SIDE + at] = rounded.words[i];
            //#end
            x_steps[at] = rounded.step;
        }
        workgroupBarrier();
        for (var h = 0u; h < HALVES; h += 1u) {
            var sum = array<i32, PER * PER>();
            for (var k = h * WORDS; k < (h + 1u) * WORDS; k += 1u) {
                var w: array<u32, PER>;
                //#unroll r PER
                w[r] = w_tile[k * SIDE + tn + SPAN * r];
                //#end
                //#unroll t PER
                {
                    let v = x_tile[k * SIDE + tt + SPAN * t];
                    //#unroll r PER
                    sum[t * PER + r] += dot4I8Packed(w[r], v);
                    //#end
                }
                //#end
            }
            var step: array<f32, PER>;
            //#unroll r PER
            step[r] = w_steps[tn + SPAN * r][h];
            //#end
            //#unroll t PER
            {
                let d = x_steps[tt + SPAN * t].x;
                //#unroll r PER
                acc[t * PER + r] += d * step[r] * f32(sum[t * PER + r]);
                //#end
            }
            //#end
        }
        if (OFFSETS) {
            var offset: array<vec2<f32>, PER>;
            //#unroll r PER
            offset[r] = w_steps[tn + SPAN * r].zw;
            //#end
            //#unroll t PER
            {
                let sums = x_steps[tt + SPAN * t].yz;
                //#unroll r PER
                acc[t * PER + r] += dot(offset[r], sums);
                //#end
            }
            //#end
        }
        workgroupBarrier();
    }
    // The products go out through workgroup memory, 2 SPAN tokens at a time: neighbouring threads write neighbouring values.
    //#unroll p 4
    {
        //#unroll r PER
        leaving[tt * SIDE + tn + SPAN * r] = acc[2u * p * PER + r];
        leaving[(SPAN + tt) * SIDE + tn + SPAN * r] = acc[(2u * p + 1u) * PER + r];
        //#end
        workgroupBarrier();
        for (var at = lid; at < 2u * SPAN * SIDE; at += WG) {
            let token = 2u * p * SPAN + at / SIDE;
            let n = n0 + at % SIDE;
            if (token < count && n < ROWS) {
                let row = route_y(wg.y, token);
                y[row * OUT + ROW0 + n] = epilogue(leaving[at], row, ROW0 + n);
            }
        }
        workgroupBarrier();
    }
    //#end
}
