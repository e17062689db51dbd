// A query sees the last REACH positions, its own among them.
fn first_seen(position: u32) -> u32 {
    return position + 1u - min(position + 1u, REACH);
}
