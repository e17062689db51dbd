// Experts are chosen by score plus bias; routing weights do not include the bias.
@group(0) @binding(BIAS_AT) var<storage, read> bias: array<f32>;

fn selection_key(logit: u32, score: f32, e: u32) -> u32 {
    return bitcast<u32>(score + bias[e]);
}
