// The gate times up.
fn gated(gate: f32, up: f32) -> f32 {
    return gate * up;
}
