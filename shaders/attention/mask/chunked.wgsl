// A query sees the positions up to its own in its chunk of WINDOW.
fn first_visible(position: u32) -> u32 {
    return position - position % WINDOW;
}

// The last position that is seen from `position`; the sequence ends with `end`.
fn last_visible(position: u32, end: u32) -> u32 {
    return position;
}
