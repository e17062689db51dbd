// y[token, n] = sum over k of weight[n, k] * x[token, k], for many tokens, by cooperative matrices (tensor
// cores). Weights and x are rounded to f16; sums are f32.
//
// A workgroup computes a tile of SIDE weight rows by 64 tokens. Each step along k takes a group of 32: the threads
// decode the weights of the tile's rows and fetch the values of its tokens into workgroup memory, from where each of
// four subgroups multiplies half of the rows by half of the tokens. If subgroups are smaller than the adapter's
// maximum, there are more than four of them, and several do the same work.
//#enable subgroups
//#enable f16
//#enable wgpu_cooperative_matrix
//#import lib/step
//#import lib/x_at
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight
//#import $route
//#import $epilogue
//#import $cooperative

const TOKENS = 64u;
// Padded by 8 values, so that rows begin in different banks.
const STRIDE = 40u;
// The tile holds x / 16: the largest f16 is 65504, and most activations are far below 1.
const SHRINK = 0.0625;
const MOST = vec4<f32>(65504.0);

var<workgroup> w_tile: array<f16, SIDE * STRIDE>; // (SIDE rows, 32 k)
var<workgroup> x_tile: array<f16, 2560>; // (64 tokens, 32 k)
var<workgroup> tokens: u32; // number of tokens in the tile
var<workgroup> leaving: array<f32, 4u * COOP * COOP>; // (4 subgroups, COOP tokens, COOP rows)

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    if (lid == 0u) {
        tokens = route_count(wg.y);
    }
    // naga requires uniform control flow where matrices are multiplied.
    let count = workgroupUniformLoad(&tokens);
    if (count == 0u) {
        return;
    }
    let n0 = wg.x * SIDE;
    let first = route_weight_row(wg.y);
    let part_n = subgroup % 2u * (SIDE / 2u);
    let part_t = subgroup / 2u % 2u * (TOKENS / 2u);
    var acc: array<Sum, COOP_N * COOP_T>;
    for (var g = 0u; g < GROUPS; g += 1u) {
        for (var at = lid; at < SIDE; at += WG) {
            let b = load_block((first + min(n0 + at, ROWS - 1u)) * GROUPS + g);
            //#unroll i 8
            {
                let v = vec4<f16>(decode4(b, i));
                //#unroll c 4
                w_tile[at * STRIDE + 4u * i + c] = v[c];
                //#end
            }
            //#end
        }
        for (var at = lid; at < TOKENS; at += WG) {
            let row = route_x(wg.y, min(at, count - 1u));
            //#unroll i 8
            {
                let v = vec4<f16>(clamp(x_at(row, g * 8u + i) * SHRINK, -MOST, MOST));
                //#unroll c 4
                x_tile[at * STRIDE + 4u * i + c] = v[c];
                //#end
            }
            //#end
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += COOP) {
            var w: array<Left, COOP_N>;
            //#unroll n COOP_N
            w[n] = coopLoadT<Left>(&w_tile[(part_n + n * COOP) * STRIDE + k], STRIDE);
            //#end
            //#unroll t COOP_T
            {
                let v = coopLoad<Right>(&x_tile[(part_t + t * COOP) * STRIDE + k], STRIDE);
                //#unroll n COOP_N
                acc[t * COOP_N + n] = coopMultiplyAdd(w[n], v, acc[t * COOP_N + n]);
                //#end
            }
            //#end
        }
        workgroupBarrier();
    }
    // Sums are written through workgroup memory, one cooperative matrix of each subgroup at a time.
    //#unroll t COOP_T
    //#unroll n COOP_N
    {
        coopStore(acc[t * COOP_N + n], &leaving[subgroup % 4u * COOP * COOP], COOP);
        workgroupBarrier();
        for (var at = lid; at < 4u * COOP * COOP; at += WG) {
            let part = at / (COOP * COOP);
            let token = part / 2u * (TOKENS / 2u) + t * COOP + at / COOP % COOP;
            let i = n0 + part % 2u * (SIDE / 2u) + n * COOP + at % COOP;
            if (token < count && i < ROWS) {
                let row = route_y(wg.y, token);
                y[row * OUT + ROW0 + i] = epilogue(leaving[at] / SHRINK, row, ROW0 + i);
            }
        }
        workgroupBarrier();
    }
    //#end
    //#end
}
