// As matmul/dot/exact, in whole numbers and for one token, whose values matmul/quantize_x/int8 has rounded.
fn dot_rows(base: array<u32, ROWS_PER_LANE>, xrow: array<u32, TILE>, lane: u32) -> array<vec4<f32>, TILE> {
    var acc = array<vec4<f32>, TILE>();
    for (var g = lane; g < GROUPS; g += LANES) {
        //#unroll r ROWS_PER_LANE
        acc[0][r] += dot_i8(load_block(base[r] + g), g);
        //#end
    }
    return acc;
}
