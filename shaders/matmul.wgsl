// y[token, n] = sum over k of weight[n, k] * x[token, k], for many tokens.
//
// A workgroup of TILE_THREADS x TILE_THREADS threads computes a tile of 64 weight rows by 64 tokens. Each step along k
// takes a group of 32: the threads decode the weights of the tile's rows and fetch the values of its tokens into
// workgroup memory (16 KiB, the baseline's limit); then each thread multiplies PER_THREAD rows by PER_THREAD tokens
// from it.
//#import lib/step
//#import lib/x_at
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#import $weight
//#import $route
//#import $epilogue

const SIDE = 64u;
const HALF = PER_THREAD / 2u;
var<workgroup> w_tile: array<vec4<f32>, 512>; // (8 k4, 64 rows)
var<workgroup> x_tile: array<vec4<f32>, 512>; // (8 k4, 64 tokens)

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
            let row = route_x(wg.y, min(at, count - 1u));
            //#unroll i 8
            w_tile[i * SIDE + at] = decode4(b, i);
            x_tile[i * SIDE + at] = x_at(row, g * 8u + i);
            //#end
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k += 1u) {
            var w: array<vec4<f32>, PER_THREAD>;
            //#unroll r PER_THREAD
            w[r] = w_tile[k * SIDE + tn + TILE_THREADS * r];
            //#end
            //#unroll t PER_THREAD
            {
                let v = x_tile[k * SIDE + tt + TILE_THREADS * t];
                //#unroll r PER_THREAD
                acc[t * PER_THREAD + r] += dot(w[r], v);
                //#end
            }
            //#end
        }
        workgroupBarrier();
    }
    // Sums are transposed through workgroup memory, so that adjacent threads write adjacent values. A vec4 holds four
    // rows of one thread, because threads may not write components of the same vector.
    //#unroll t PER_THREAD
    //#unroll q FOURS
    {
        let at = (tt + TILE_THREADS * (t % HALF)) * SIDE / 4u + TILE_THREADS * q + tn;
        let first = t * PER_THREAD + 4u * q;
        let four = vec4<f32>(acc[first], acc[first + 1u], acc[first + 2u], acc[first + 3u]);
        if (t < HALF) {
            w_tile[at] = four;
        } else {
            x_tile[at] = four;
        }
    }
    //#end
    //#end
    workgroupBarrier();
    for (var at = lid; at < count * SIDE; at += WG) {
        let token = at / SIDE;
        let n = n0 + at % SIDE;
        if (n < ROWS) {
            let r = at % SIDE / TILE_THREADS;
            let i = token % (SIDE / 2u) * SIDE / 4u + TILE_THREADS * (r / 4u) + at % TILE_THREADS;
            let v = select(x_tile[i][r % 4u], w_tile[i][r % 4u], token < SIDE / 2u);
            let row = route_y(wg.y, token);
            y[row * OUT + ROW0 + n] = epilogue(v, row, ROW0 + n);
        }
    }
}
