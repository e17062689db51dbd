// y[token, n] = sum over k of weight[n, k] * x[token, k], for many tokens, in int8. x is quantized to int8 in groups of
// 32 with a common scale. Weights stay in their type's quants: `quants_i8x4` gives four of them, `block_scales` the
// scale and the offset of each 16-weight sub-block. SUB_BLOCKS is 1 if both sub-blocks are alike; HAS_OFFSET: there are
// offsets.
//
// Threads and tiles are those of matmul.wgsl; a tile takes a quarter of the memory, and a dot product of four values is
// one instruction (DP4A) where the GPU has it.
//#import lib/step
//#import lib/x_at
//#import lib/quantize_x
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight
//#import $route
//#import $epilogue

const SIDE = 64u;
const WORDS = 8u / SUB_BLOCKS;
var<workgroup> w_tile: array<u32, 512>; // (8 k4, 64 rows)
var<workgroup> x_tile: array<u32, 512>; // (8 k4, 64 tokens)
var<workgroup> w_steps: array<vec4<f32>, 64>;
var<workgroup> x_steps: array<vec3<f32>, 64>; // see QuantizedGroup
var<workgroup> leaving: array<f32, 1024>; // (16 tokens, 64 rows)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let count = route_count(wg.y);
    if (count == 0u) {
        return;
    }
    let n0 = wg.x * SIDE;
    let first = route_weight_row(wg.y);
    let tn = lid % TILE_THREADS;
    let tt = lid / TILE_THREADS;
    var acc: array<f32, PER_THREAD * PER_THREAD>;
    for (var g = 0u; g < GROUPS; g += 1u) {
        for (var at = lid; at < SIDE; at += WG) {
            let b = load_block((first + min(n0 + at, ROWS - 1u)) * GROUPS + g);
            w_steps[at] = block_scales(b);
            //#unroll i 8
            w_tile[i * SIDE + at] = quants_i8x4(b, i);
            //#end
            let rounded = quantize_group(route_x(wg.y, min(at, count - 1u)), g);
            //#unroll i 8
            x_tile[i * SIDE + at] = rounded.words[i];
            //#end
            x_steps[at] = rounded.step;
        }
        workgroupBarrier();
        for (var h = 0u; h < SUB_BLOCKS; h += 1u) {
            var sum = array<i32, PER_THREAD * PER_THREAD>();
            for (var k = h * WORDS; k < (h + 1u) * WORDS; k += 1u) {
                var w: array<u32, PER_THREAD>;
                //#unroll r PER_THREAD
                w[r] = w_tile[k * SIDE + tn + TILE_THREADS * r];
                //#end
                //#unroll t PER_THREAD
                {
                    let v = x_tile[k * SIDE + tt + TILE_THREADS * t];
                    //#unroll r PER_THREAD
                    sum[t * PER_THREAD + r] += dot4I8Packed(w[r], v);
                    //#end
                }
                //#end
            }
            var step: array<f32, PER_THREAD>;
            //#unroll r PER_THREAD
            step[r] = w_steps[tn + TILE_THREADS * r][h];
            //#end
            //#unroll t PER_THREAD
            {
                let d = x_steps[tt + TILE_THREADS * t].x;
                //#unroll r PER_THREAD
                acc[t * PER_THREAD + r] += d * step[r] * f32(sum[t * PER_THREAD + r]);
                //#end
            }
            //#end
        }
        if (HAS_OFFSET) {
            var offset: array<vec2<f32>, PER_THREAD>;
            //#unroll r PER_THREAD
            offset[r] = w_steps[tn + TILE_THREADS * r].zw;
            //#end
            //#unroll t PER_THREAD
            {
                let sums = x_steps[tt + TILE_THREADS * t].yz;
                //#unroll r PER_THREAD
                acc[t * PER_THREAD + r] += dot(offset[r], sums);
                //#end
            }
            //#end
        }
        workgroupBarrier();
    }
    // Sums are transposed through workgroup memory, 2 TILE_THREADS tokens at a time, so that adjacent threads write
    // adjacent values.
    //#unroll p 4
    {
        //#unroll r PER_THREAD
        leaving[tt * SIDE + tn + TILE_THREADS * r] = acc[2u * p * PER_THREAD + r];
        leaving[(TILE_THREADS + tt) * SIDE + tn + TILE_THREADS * r] = acc[(2u * p + 1u) * PER_THREAD + r];
        //#end
        workgroupBarrier();
        for (var at = lid; at < 2u * TILE_THREADS * SIDE; at += WG) {
            let token = 2u * p * TILE_THREADS + at / SIDE;
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
