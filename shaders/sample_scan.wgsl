// Each thread reads a group of tokens and writes the best of them: by score, or by score plus noise if the row is
// sampled without filters. For a row with filters it also sums the weights of its tokens relative to their best.
//#import lib/score
@group(0) @binding(6) var<storage, read_write> groups: array<vec4<u32>>; // {largest score or key, its token, weight, 0}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let at = rows[logit_rows[wg.y]];
    let p = sampling[at.w];
    let group = wg.x * LANES_SCAN + lid;
    let first = group_start(group);
    var top = BELOW_ALL;
    var winner = NONE;
    var sum = 0.0;
    for (var j = 0u; j < GROUP_SIZE; j += 4u) {
        var bits: vec4<u32>;
        //#unroll k 4
        bits[k] = logits[wg.y * VOCAB + min(first + (j + k) * LANES_SCAN, VOCAB - 1u)];
        //#end
        //#unroll k 4
        {
            let token = first + (j + k) * LANES_SCAN;
            if (token < VOCAB) {
                var key = score(p, bits[k], seen(p, at.w, token));
                if ((p.flags & FILTER) != 0u) {
                    let weight = exp(max(-abs(key - top), -80.0));
                    sum = select(sum + weight, sum * weight + 1.0, key > top);
                } else if ((p.flags & DRAW) != 0u) {
                    key += gumbel(p.seed, at.y, token);
                }
                if (key > top) {
                    top = key;
                    winner = token;
                }
            }
        }
        //#end
    }
    groups[wg.y * GROUPS + group] = vec4<u32>(bitcast<u32>(top), winner, bitcast<u32>(sum), 0u);
}
