// Scores as they are.
fn softcap(score: f32) -> f32 {
    return score;
}
