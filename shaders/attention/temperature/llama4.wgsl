// Attention temperature tuning of Llama 4: scores grow with every FLOOR_SCALE positions of the query.
fn temperature(position: u32) -> f32 {
    return 1.0 + ATTN_SCALE * log(1.0 + f32((position + OFFSET) / FLOOR_SCALE));
}
