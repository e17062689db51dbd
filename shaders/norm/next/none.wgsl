// Nothing follows.
fn next_norm(base: u32, squares: f32, lid: u32) {}
