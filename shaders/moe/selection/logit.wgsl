// Experts are chosen by their logits.
fn selection_key(logit: u32, score: f32, e: u32) -> u32 {
    return logit;
}
