// The activation of gpt-oss: both values are clamped, the gate is x * sigmoid(1.702 x), and one is added to up.
fn gated(gate: f32, up: f32) -> f32 {
    let x = min(gate, 7.0);
    return x / (1.0 + exp(-1.702 * x)) * (clamp(up, -7.0, 7.0) + 1.0);
}
