// What is added to a sum before it is written: nothing.
fn epilogue(v: f32, row: u32, col: u32) -> f32 {
    return v;
}
