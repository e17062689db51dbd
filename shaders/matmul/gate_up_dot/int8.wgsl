// Like matmul/gate_up_dot/exact, in int8 and for one token, which matmul/quantize_x/int8 has quantized.
fn gate_up_dot(base: array<u32, ROWS_PER_LANE>, xrow: array<u32, TILE>, lane: u32) -> array<vec4<f32>, TILE + TILE> {
    var acc = array<vec4<f32>, TILE + TILE>();
    for (var g = lane; g < GROUPS; g += LANES) {
        //#unroll r ROWS_PER_LANE
        acc[0][r] += dot_i8(load_block(base[r] + g), g);
        acc[1][r] += up_dot_i8(up_load_block(base[r] + g), g);
        //#end
    }
    return acc;
}
