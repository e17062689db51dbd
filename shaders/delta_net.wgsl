// The gated delta rule (Gated DeltaNet). For each row of a sequence, with the state S (D keys x D values) of a head:
//   S = decay * S;  S = S + k (beta * (v - S^T k))^T;  y = S^T q
// where q and k are normalized to length 1, q is also divided by the root of D, decay = exp(a * softplus(alpha + dt))
// and beta = sigmoid(b). A thread keeps a column of S in registers through all rows of a segment; columns are
// independent. The state is (slot, head, key, value). Value head h uses key head h % KEY_HEADS, or h / PER_KEY if
// GROUPED; b and alpha may share one tensor (TOGETHER is 2): for each key head its values of b, then of alpha.
//#import lib/step
//#import lib/segment
//#import $reduce
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // (row; queries, keys, values)
@group(0) @binding(3) var<storage, read> alpha: array<f32>; // (row, head)
@group(0) @binding(4) var<storage, read> b: array<f32>; // (row, head)
@group(0) @binding(5) var<storage, read> rates: array<f32>; // a of each head, then dt
@group(0) @binding(6) var<storage, read_write> y: array<f32>; // (row, head, D)
@group(0) @binding(7) var<storage, read_write> state: array<f32>;

const D = 4u * D4;
// Length of a row of x, in vec4s.
const WIDTH = (2u * KEY_HEADS + HEADS) * D4;
const PER_KEY = HEADS / KEY_HEADS;
const PARTS = (D + WG - 1u) / WG;

var<workgroup> queries: array<vec4<f32>, D4>;
var<workgroup> keys: array<vec4<f32>, D4>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let segment = segments[wg.y];
    let head = wg.x / PARTS;
    let column = wg.x % PARTS * WG + lid;
    // Threads past the last column repeat its work and do not write.
    let j = min(column, D - 1u);
    let q_at = select(head % KEY_HEADS, head / PER_KEY, GROUPED) * D4;
    let k_at = KEY_HEADS * D4 + q_at;
    var s = array<vec4<f32>, D4>();
    if (segment.reads != NO_STATE && column < D) {
        let at = (segment.reads * HEADS + head) * D * D + column;
        //#unroll i D4
        s[i].x = state[at + 4u * i * D];
        s[i].y = state[at + (4u * i + 1u) * D];
        s[i].z = state[at + (4u * i + 2u) * D];
        s[i].w = state[at + (4u * i + 3u) * D];
        //#end
    }
    for (var row = segment.first; row < segment.first + segment.count; row += 1u) {
        var lengths = vec4<f32>(0.0);
        for (var i = lid; i < D4; i += WG) {
            let q = x[row * WIDTH + q_at + i];
            let k = x[row * WIDTH + k_at + i];
            lengths += vec4<f32>(dot(q, q), dot(k, k), 0.0, 0.0);
        }
        let one = inverseSqrt(reduce_sum4(lengths, lid) + 1e-6);
        for (var i = lid; i < D4; i += WG) {
            queries[i] = x[row * WIDTH + q_at + i] * one.x * ROOT;
            keys[i] = x[row * WIDTH + k_at + i] * one.y;
        }
        workgroupBarrier();
        let rate_at = (row * HEADS + head / PER_KEY * PER_KEY) * TOGETHER + head % PER_KEY;
        let rate = alpha[rate_at + (TOGETHER - 1u) * PER_KEY] + rates[HEADS + head];
        let softplus = select(log(1.0 + exp(rate)), rate, rate > 20.0);
        let decay = exp(select(rates[head], -exp(rates[head]), LOG_DECAY) * softplus);
        var known = 0.0;
        //#unroll i D4
        s[i] *= decay;
        known += dot(s[i], keys[i]);
        //#end
        let v = x[row * WIDTH + (2u * KEY_HEADS + head) * D4 + j / 4u][j % 4u];
        let news = (v - known) / (1.0 + exp(-b[rate_at]));
        var out = 0.0;
        //#unroll i D4
        s[i] += keys[i] * news;
        out += dot(s[i], queries[i]);
        //#end
        if (column < D) {
            y[(row * HEADS + head) * D + column] = out;
        }
        workgroupBarrier();
    }
    if (column < D) {
        let at = (segment.writes * HEADS + head) * D * D + column;
        //#unroll i D4
        state[at + 4u * i * D] = s[i].x;
        state[at + (4u * i + 1u) * D] = s[i].y;
        state[at + (4u * i + 2u) * D] = s[i].z;
        state[at + (4u * i + 3u) * D] = s[i].w;
        //#end
    }
}
