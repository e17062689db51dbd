// A query sees all positions of its sequence.
fn first_visible(position: u32) -> u32 {
    return 0u;
}

// The last position that is seen from `position`; the sequence ends with `end`.
fn last_visible(position: u32, end: u32) -> u32 {
    return end;
}
