// A query sees the positions that are at most WINDOW away.
fn first_visible(position: u32) -> u32 {
    return position - min(position, WINDOW);
}

// The last position that is seen from `position`; the sequence ends with `end`.
fn last_visible(position: u32, end: u32) -> u32 {
    return min(position + WINDOW, end);
}
