// Nothing follows.
fn follow(base: u32, squares: f32, lid: u32) {}
