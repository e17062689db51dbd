// Scores grow with every EVERY positions of the query.
fn temperature(position: u32) -> f32 {
    return 1.0 + RATE * log(1.0 + f32((position + AHEAD) / EVERY));
}
