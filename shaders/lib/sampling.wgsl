// Common code of the sampling kernels: parameters, scores, distances, noise. src/ops/sample.rs defines them and
// computes the same integers, and the same floats to rounding.
struct Params {
    scale: f32,
    limit: u32,
    top_p: f32,
    reach: f32,
    search_reach: f32,
    search_mass: f32,
    repetition: f32,
    inverse_repetition: f32,
    frequency: f32,
    presence: f32,
    seed: vec2<u32>,
    flags: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}
const DRAW = 1u;
const FILTER = 2u;
const PENALTIES = 4u;
const WHOLE = 8u;

const LARGEST = 1e30; // bound of a score's magnitude
const BELOW_ALL = -2e30;
const NONE = 0xffffffffu;
const NEAREST = 0x3f800000u; // 1.0, the distance of the best token
const LANES_SCAN = 64u; // a chunk of the vocabulary is LANES_SCAN groups: group i has every LANES_SCAN-th token from i on
const GROUP_SIZE = 32u;

fn group_start(group: u32) -> u32 {
    return group / LANES_SCAN * (LANES_SCAN * GROUP_SIZE) + group % LANES_SCAN;
}

// Penalties and temperature; `bits` is the logit, `seen` the token's count.
fn score(p: Params, bits: u32, seen: u32) -> f32 {
    var s = bitcast<f32>(bits);
    if ((bits & 0x7fffffffu) >= 0x7f800000u) {
        s = select(-LARGEST, LARGEST, bits == 0x7f800000u); // a NaN counts as -inf
    }
    s = clamp(s, -LARGEST, LARGEST);
    if (seen != 0u) {
        s *= select(p.repetition, p.inverse_repetition, s > 0.0);
        let times = seen & 0x7fffffffu;
        s -= f32(times) * p.frequency + select(0.0, p.presence, times > 0u);
    }
    return clamp(s * p.scale, -LARGEST, LARGEST);
}

// 1 + best - score, as bits: the bits of positive floats sort like the floats.
fn distance_bits(best: f32, score: f32) -> u32 {
    return bitcast<u32>(1.0 + max(best - score, 0.0));
}

// A token's softmax weight relative to the best token's.
fn weight_at(distance: f32) -> f32 {
    return exp(max(1.0 - distance, -80.0));
}

// pcg4d: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020.
fn hash(key: vec4<u32>) -> u32 {
    var v = key * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4<u32>(16u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v.w;
}

// A standard Gumbel variable for (seed, position, token).
fn gumbel(seed: vec2<u32>, position: u32, token: u32) -> f32 {
    let h = hash(vec4<u32>(seed, position, token));
    // 24 significant bits in (0, 1), so that the conversion is exact.
    let v = f32(select(h & 0xffffff00u, h | 1u, h < 0x1000000u)) * 2.3283064365386963e-10;
    // -ln(1 - v); near 0, where the largest results come from, by the series of 2 atanh(v / (2 - v)).
    let z = v / (2.0 - v);
    let q = z * z;
    let series = 2.0 * z * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0))));
    let e = select(-log(1.0 - v), series, v < 0.25);
    return -log(e);
}
