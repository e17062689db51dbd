// Experts are chosen by their scores.
fn selection_key(logit: u32, score: f32, e: u32) -> u32 {
    return bitcast<u32>(score);
}
