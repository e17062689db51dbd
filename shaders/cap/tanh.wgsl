// Scores within CAP of zero. Behind 15 tanh is 1 in single precision; some backends' own gives NaN far out.
fn capped(score: f32) -> f32 {
    return CAP * tanh(clamp(score / CAP, -15.0, 15.0));
}
