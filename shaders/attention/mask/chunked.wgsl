// A query sees the positions of its own chunk of WINDOW.
fn first_visible(position: u32) -> u32 {
    return position - position % WINDOW;
}
