// x is multiplied as it is.
fn quantize_x(row: u32, lid: u32) {
}
