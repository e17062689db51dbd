// Experts are chosen by their scores and a bias that their weights do not have.
@group(0) @binding(BIAS_AT) var<storage, read> bias: array<f32>;

fn selection_key(logit: u32, score: f32, e: u32) -> u32 {
    return bitcast<u32>(score + bias[e]);
}
