// The USED experts of a row, best first, and their routing weights; one workgroup per row. The role `selection` ranks
// experts, and `groups` excludes some.
//
// Keys are integers that sort like the floats, NaNs included; ties go to the expert with the lower number. So the ranks
// are a permutation for any logits, and every slot is written.
//#import $reduce
//#import $selection
//#import $groups
//#import $expert_scale
@group(0) @binding(1) var<storage, read> logits: array<u32>; // f32 bits
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;

var<workgroup> keys: array<u32, EXPERTS>;
var<workgroup> chosen: array<f32, USED>;
var<workgroup> scales_s: array<f32, USED>;

// Integers in the order of floats: negative ones are reversed, positive ones are above them.
fn ordered(bits: u32) -> u32 {
    return bits ^ select(0x80000000u, 0xffffffffu, (bits >> 31u) == 1u);
}

// An expert's score: a softmax numerator, or a sigmoid.
fn scored(bits: u32, largest: f32) -> f32 {
    let logit = bitcast<f32>(bits);
    return select(exp(logit - largest), 1.0 / (1.0 + exp(-logit)), SIGMOID);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let base = wg.x * EXPERTS;
    var largest = -3.4e38;
    for (var e = lid; e < EXPERTS; e += WG) {
        largest = max(largest, bitcast<f32>(logits[base + e]));
    }
    largest = reduce_max(largest, lid);
    var total = 1.0;
    if (!SIGMOID) {
        var part = 0.0;
        for (var e = lid; e < EXPERTS; e += WG) {
            part += scored(logits[base + e], largest);
        }
        total = reduce_sum(part, lid);
    }
    for (var e = lid; e < EXPERTS; e += WG) {
        let bits = logits[base + e];
        keys[e] = ordered(selection_key(bits, scored(bits, largest) / total, e));
    }
    workgroupBarrier();
    limit(lid);

    for (var e = lid; e < EXPERTS; e += WG) {
        let key = keys[e];
        var rank = 0u;
        for (var other = 0u; other < EXPERTS; other += 1u) {
            rank += select(0u, 1u, keys[other] > key || (keys[other] == key && other < e));
        }
        if (rank < USED) {
            ids[wg.x * USED + rank] = e;
            chosen[rank] = scored(logits[base + e], largest) / total;
            scales_s[rank] = expert_scale(e);
        }
    }
    workgroupBarrier();
    var sum = 1.0;
    if (NORM) {
        sum = 0.0;
        for (var i = 0u; i < USED; i += 1u) {
            sum += chosen[i];
        }
    }
    for (var i = lid; i < USED; i += WG) {
        weights[wg.x * USED + i] = chosen[i] / sum * SCALE * scales_s[i];
    }
}
