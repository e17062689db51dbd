// Four values of a row of x, which the kernel declares.
// Groups are padded with zero weights; the memory after a row of x must not be multiplied by them (it may be NaN).
fn x_at(row: u32, i: u32) -> vec4<f32> {
    if (COLS4 % 8u != 0u) {
        return select(vec4<f32>(0.0), x[row * COLS4 + min(i, COLS4 - 1u)], i < COLS4);
    }
    return x[row * COLS4 + i];
}
