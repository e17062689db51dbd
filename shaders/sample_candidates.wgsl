// For a row with filters: lists at most CANDIDATES tokens, including all that the filters keep. One workgroup per
// row. Tokens are counted in bins of their distance from the best one; bins are taken, nearest first, until they have
// enough tokens (top-k) or weight (top-p). Counting only the best token of each group first bounds the distance, and so
// the groups to read. A bin with too many tokens is split again, in the end by token id.
//#import $reduce
//#import lib/score
@group(0) @binding(6) var<storage, read> groups: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> candidates: array<vec2<u32>>; // {count, weight}, {distance, token}..

const BINS = 1024u;
const BINS_EACH = BINS / WG;
// The scan's and this kernel's scores may differ by rounding.
const SLACK = 256u;

var<workgroup> bins: array<atomic<u32>, BINS>;
var<workgroup> part_count: array<u32, WG>;
var<workgroup> part_weight: array<f32, WG>;
var<workgroup> found: vec4<u32>;
var<workgroup> listed: atomic<u32>;

// Distances lo..=hi; or, if `tie` is not 0, the tokens at distance `tie` with ids lo..=hi.
struct Window {
    lo: u32,
    hi: u32,
    tie: u32,
}

// The width of a bin, as a power of two.
fn bin_shift(w: Window) -> u32 {
    let bits = 32u - countLeadingZeros(w.hi - w.lo);
    return max(bits, 10u) - 10u;
}

fn bin_end(w: Window, bin: u32) -> u32 {
    return min(w.lo + ((bin + 1u) << bin_shift(w)) - 1u, w.hi);
}

fn farthest(w: Window) -> u32 {
    return select(w.hi, w.tie, w.tie != 0u);
}

fn clear_bins(lid: u32) {
    for (var b = lid; b < BINS; b += WG) {
        atomicStore(&bins[b], 0u);
    }
    workgroupBarrier();
}

fn count(w: Window, distance: u32, token: u32) {
    if (w.tie != 0u && distance != w.tie) {
        return;
    }
    let at = select(distance, token, w.tie != 0u);
    if (at >= w.lo && at <= w.hi) {
        atomicAdd(&bins[(at - w.lo) >> bin_shift(w)], 1u);
    }
}

// A lower bound of the weight of a bin's tokens.
fn bin_weight(w: Window, bin: u32, n: u32) -> f32 {
    if (n == 0u) {
        return 0.0;
    }
    return f32(n) * weight_at(bitcast<f32>(select(bin_end(w, bin), w.tie, w.tie != 0u)));
}

// The first bin at which the running count or weight is enough, else the last: {bin, tokens before it, their weight,
// tokens including it}. `before` is the number and weight of tokens nearer than the window.
fn seek(w: Window, lid: u32, before: vec2<u32>, limit: u32, need: f32) -> vec4<u32> {
    workgroupBarrier();
    let first = lid * BINS_EACH;
    var n = 0u;
    var weight = 0.0;
    for (var b = first; b < first + BINS_EACH; b += 1u) {
        let tokens = atomicLoad(&bins[b]);
        n += tokens;
        weight += bin_weight(w, b, tokens);
    }
    part_count[lid] = n;
    part_weight[lid] = weight;
    workgroupBarrier();
    // Every thread adds in the same order, so exactly one finds the limit within its bins.
    var count_before = before.x;
    var weight_before = bitcast<f32>(before.y);
    for (var t = 0u; t < lid; t += 1u) {
        count_before += part_count[t];
        weight_before += part_weight[t];
    }
    let begun = count_before < limit && weight_before < need;
    let passed = count_before + n >= limit || weight_before + weight >= need;
    if (begun && (passed || lid == WG - 1u)) {
        for (var b = first; b < first + BINS_EACH; b += 1u) {
            let tokens = atomicLoad(&bins[b]);
            let count_after = count_before + tokens;
            let weight_after = weight_before + bin_weight(w, b, tokens);
            if (count_after >= limit || weight_after >= need || b + 1u == first + BINS_EACH) {
                found = vec4<u32>(b, count_before, bitcast<u32>(weight_before), count_after);
                break;
            }
            count_before = count_after;
            weight_before = weight_after;
        }
    }
    return workgroupUniformLoad(&found);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let at = rows[logit_rows[wg.x]];
    let p = sampling[at.w];
    if ((p.flags & FILTER) == 0u) {
        return;
    }
    let group0 = wg.x * GROUPS;
    let row0 = wg.x * VOCAB;
    let out0 = wg.x * (CANDIDATES + 1u);

    var best = BELOW_ALL;
    for (var g = lid; g < GROUPS; g += WG) {
        best = max(best, bitcast<f32>(groups[group0 + g].x));
    }
    best = reduce_max(best, lid);
    if (lid == 0u) {
        atomicStore(&listed, 0u);
    }
    clear_bins(lid);

    var w = Window(NEAREST, bitcast<u32>(p.search_reach), 0u);
    var total = 0.0;
    for (var g = lid; g < GROUPS; g += WG) {
        let group = groups[group0 + g];
        let distance = distance_bits(best, bitcast<f32>(group.x));
        total += bitcast<f32>(group.z) * weight_at(bitcast<f32>(distance));
        count(w, distance, 0u);
    }
    total = reduce_sum(total, lid);
    let need = p.search_mass * total;
    let near = seek(w, lid, vec2<u32>(0u), p.limit, need);
    w.hi = min(w.hi, bin_end(w, near.x) + SLACK);

    var before = vec2<u32>(0u);
    var edge = vec2<u32>(0u);
    loop {
        clear_bins(lid);
        for (var g = lid; g < GROUPS; g += WG) {
            if (distance_bits(best, bitcast<f32>(groups[group0 + g].x)) <= farthest(w)) {
                let first = group_start(g);
                let end = min(first + GROUP_SIZE * LANES_SCAN, VOCAB);
                for (var token = first; token < end; token += LANES_SCAN) {
                    let s = score(p, logits[row0 + token], seen(p, at.w, token));
                    count(w, distance_bits(best, s), token);
                }
            }
        }
        let bin = seek(w, lid, before, p.limit, need);
        if (bin.w <= CANDIDATES) {
            edge = vec2<u32>(bin_end(w, bin.x), NONE);
            if (w.tie != 0u) {
                edge = vec2<u32>(w.tie, bin_end(w, bin.x));
            }
            break;
        }
        before = bin.yz;
        let lo = w.lo + (bin.x << bin_shift(w));
        if (bin_shift(w) > 0u) {
            w = Window(lo, bin_end(w, bin.x), w.tie);
        } else {
            w = Window(0u, VOCAB - 1u, lo);
        }
    }

    for (var g = lid; g < GROUPS; g += WG) {
        if (distance_bits(best, bitcast<f32>(groups[group0 + g].x)) <= edge.x) {
            let first = group_start(g);
            let end = min(first + GROUP_SIZE * LANES_SCAN, VOCAB);
            for (var token = first; token < end; token += LANES_SCAN) {
                let distance = distance_bits(best, score(p, logits[row0 + token], seen(p, at.w, token)));
                if (distance < edge.x || (distance == edge.x && token <= edge.y)) {
                    let place = atomicAdd(&listed, 1u);
                    if (place < CANDIDATES) {
                        candidates[out0 + 1u + place] = vec2<u32>(distance, token);
                    }
                }
            }
        }
    }
    workgroupBarrier();
    if (lid == 0u) {
        candidates[out0] = vec2<u32>(min(atomicLoad(&listed), CANDIDATES), bitcast<u32>(total));
    }
}
