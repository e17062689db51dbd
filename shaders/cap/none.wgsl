// Scores as they are.
fn capped(score: f32) -> f32 {
    return score;
}
