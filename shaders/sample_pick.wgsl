// Picks the token of each row: the best of the groups' winners or, with filters, of the candidates that the filters
// keep. One workgroup per row. The result does not depend on the order of the candidates.
//#import $reduce
//#import lib/sampling
@group(0) @binding(1) var<storage, read> logit_rows: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> sampling: array<Params>;
@group(0) @binding(4) var<storage, read> groups: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> candidates: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> sampled: array<u32>; // one for each output slot
@group(0) @binding(7) var<storage, read_write> counts: array<u32>; // (output slot, VOCAB)

var<workgroup> ranked: array<vec2<u32>, CANDIDATES>;
var<workgroup> parts: array<f32, WG>;
var<workgroup> winner: atomic<u32>;

struct Best {
    key: f32,
    token: u32,
}

fn better(a: Best, key: f32, token: u32) -> Best {
    if (key > a.key || (key == a.key && token < a.token)) {
        return Best(key, token);
    }
    return a;
}

fn of_groups(row: u32, lid: u32) -> Best {
    var best = Best(BELOW_ALL, NONE);
    for (var g = lid; g < GROUPS; g += WG) {
        let group = groups[row * GROUPS + g];
        best = better(best, bitcast<f32>(group.x), group.y);
    }
    return best;
}

fn of_candidates(p: Params, row: u32, position: u32, lid: u32) -> Best {
    let row0 = row * (CANDIDATES + 1u);
    let n = candidates[row0].x;
    for (var i = lid; i < n; i += WG) {
        let own = candidates[row0 + 1u + i];
        var rank = 0u;
        for (var j = 0u; j < n; j += 1u) {
            let other = candidates[row0 + 1u + j];
            rank += u32(other.x < own.x || (other.x == own.x && other.y < own.y));
        }
        ranked[rank] = own;
    }
    workgroupBarrier();

    // Each thread takes `each` ranks, and sums the weights of the ranks of the threads before it.
    let kept = min(n, p.limit);
    let each = (kept + WG - 1u) / WG;
    let first = min(lid * each, kept);
    let end = min(first + each, kept);
    var part = 0.0;
    for (var r = first; r < end; r += 1u) {
        part += weight_at(bitcast<f32>(ranked[r].x));
    }
    parts[lid] = part;
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    for (var t = 0u; t * each < kept; t += 1u) {
        if (t == lid) {
            before = total;
        }
        total += parts[t];
    }
    if ((p.flags & WHOLE) != 0u) {
        total = bitcast<f32>(candidates[row0].y);
    }

    var best = Best(BELOW_ALL, NONE);
    for (var r = first; r < end; r += 1u) {
        let distance = bitcast<f32>(ranked[r].x);
        if (r == 0u || (before < p.top_p * total && distance <= p.reach)) {
            let token = ranked[r].y;
            best = better(best, gumbel(p.seed, position, token) - distance, token);
        }
        before += weight_at(distance);
    }
    return best;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let at = rows[logit_rows[wg.x]];
    let p = sampling[at.w];
    if (lid == 0u) {
        atomicStore(&winner, NONE);
    }
    var best: Best;
    if ((p.flags & FILTER) != 0u) {
        best = of_candidates(p, wg.x, at.y, lid);
    } else {
        best = of_groups(wg.x, lid);
    }
    let key = reduce_max(best.key, lid);
    workgroupBarrier();
    if (best.key == key) {
        atomicMin(&winner, best.token);
    }
    workgroupBarrier();
    if (lid == 0u) {
        let token = atomicLoad(&winner);
        sampled[at.w] = token;
        counts[at.w * VOCAB + token] += 1u;
    }
}
