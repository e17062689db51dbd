// Scores within SOFTCAP of zero. Behind 15 tanh is 1 in single precision; some backends' own gives NaN far out.
fn softcap(score: f32) -> f32 {
    return SOFTCAP * tanh(clamp(score / SOFTCAP, -15.0, 15.0));
}
