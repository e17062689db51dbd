// Scores do not depend on the query's position.
fn temperature(position: u32) -> f32 {
    return 1.0;
}
