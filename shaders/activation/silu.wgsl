// SiLU of the gate, x * sigmoid(x), times up.
fn gated(gate: f32, up: f32) -> f32 {
    return gate / (1.0 + exp(-gate)) * up;
}
