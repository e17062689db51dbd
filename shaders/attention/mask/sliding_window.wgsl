// A query sees the last WINDOW positions, its own among them.
fn first_visible(position: u32) -> u32 {
    return position + 1u - min(position + 1u, WINDOW);
}
