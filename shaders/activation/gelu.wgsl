// GELU of the gate by its usual approximation with tanh (arXiv 1606.08415), times up. Beyond 15, tanh is 1 in single
// precision; some backends' tanh returns NaN for large arguments.
fn gated(gate: f32, up: f32) -> f32 {
    let inner = 0.7978845608 * (gate + 0.044715 * gate * gate * gate);
    return 0.5 * gate * (1.0 + tanh(clamp(inner, -15.0, 15.0))) * up;
}
