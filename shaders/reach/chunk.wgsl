// A query sees the positions of its own chunk of REACH.
fn first_seen(position: u32) -> u32 {
    return position - position % REACH;
}
