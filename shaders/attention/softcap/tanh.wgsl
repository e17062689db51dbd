// Bounds scores by SOFTCAP. Beyond 15, tanh is 1 in single precision; some backends' tanh returns NaN for large
// arguments.
fn softcap(score: f32) -> f32 {
    return SOFTCAP * tanh(clamp(score / SOFTCAP, -15.0, 15.0));
}
