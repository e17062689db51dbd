// An expert counts for as much as the router says.
fn gain(expert: u32) -> f32 {
    return 1.0;
}
