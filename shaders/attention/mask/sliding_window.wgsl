// A query sees the last WINDOW positions, including its own.
fn first_visible(position: u32) -> u32 {
    return position + 1u - min(position + 1u, WINDOW);
}

// The last position that is seen from `position`; the sequence ends with `end`.
fn last_visible(position: u32, end: u32) -> u32 {
    return position;
}
