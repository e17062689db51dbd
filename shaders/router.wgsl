// The USED experts with the largest logits of a row, best first, and their weights; one workgroup a row.
//
// Logits are compared as integers of the same order, in which no two experts are equal (ties go to the lower number)
// and even a NaN has its place: the ranks are a permutation whatever the logits are, so every slot is written.
//#import $reduce
//#import $gain
@group(0) @binding(1) var<storage, read> logits: array<u32>; // f32 bits
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;

var<workgroup> keys: array<u32, EXPERTS>;
var<workgroup> chosen: array<f32, USED>;
var<workgroup> gains: array<f32, USED>;

// Integers in the order of floats: negative ones are turned around, positive ones lie above them.
fn ordered(bits: u32) -> u32 {
    return bits ^ select(0x80000000u, 0xffffffffu, (bits >> 31u) == 1u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let base = wg.x * EXPERTS;
    var largest = -3.4e38;
    for (var e = lid; e < EXPERTS; e += WG) {
        let bits = logits[base + e];
        keys[e] = ordered(bits);
        largest = max(largest, bitcast<f32>(bits));
    }
    largest = reduce_max(largest, lid);
    workgroupBarrier();

    var part = 0.0;
    for (var e = lid; e < EXPERTS; e += WG) {
        let logit = bitcast<f32>(logits[base + e]);
        let p = select(exp(logit - largest), 1.0 / (1.0 + exp(-logit)), SIGMOID);
        part += p;
        let key = keys[e];
        var rank = 0u;
        for (var other = 0u; other < EXPERTS; other += 1u) {
            rank += select(0u, 1u, keys[other] > key || (keys[other] == key && other < e));
        }
        if (rank < USED) {
            ids[wg.x * USED + rank] = e;
            chosen[rank] = p;
            gains[rank] = gain(e);
        }
    }
    var total = 0.0;
    if (SIGMOID && !NORM) {
        total = 1.0;
    } else if (!NORM) {
        total = reduce_sum(part, lid);
    }
    workgroupBarrier();
    if (NORM) {
        for (var i = 0u; i < USED; i += 1u) {
            total += chosen[i];
        }
    }
    for (var i = lid; i < USED; i += WG) {
        weights[wg.x * USED + i] = chosen[i] / total * SCALE * gains[i];
    }
}
