// x is multiplied as it is.
fn round_x(row: u32, lid: u32) {
}
