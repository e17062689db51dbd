// Like matmul/dot/exact, in int8 and for one token, which matmul/quantize_x/int8 has quantized.
fn dot_rows(base: array<u32, ROWS_PER_LANE>, xrow: array<u32, TILE>, lane: u32) -> array<vec4<f32>, TILE> {
    var acc = array<vec4<f32>, TILE>();
    for (var g = lane; g < GROUPS; g += LANES) {
        //#unroll r ROWS_PER_LANE
        acc[0][r] += dot_i8(load_block(base[r] + g), g);
        //#end
    }
    return acc;
}
