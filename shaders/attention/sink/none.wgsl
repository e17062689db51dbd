// No sink: a score that counts for nothing beside any other.
fn sink(head: u32) -> f32 {
    return -1e30;
}
