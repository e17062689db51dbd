// As pair/exact, in whole numbers and for one token, whose values round/int8 has rounded.
fn pair(base: array<u32, RPL>, xrow: array<u32, TILE>, lane: u32) -> array<vec4<f32>, TILE + TILE> {
    var acc = array<vec4<f32>, TILE + TILE>();
    for (var g = lane; g < GROUPS; g += LANES) {
        //#unroll r RPL
        acc[0][r] += whole_product(load_block(base[r] + g), g);
        acc[1][r] += up_whole_product(up_load_block(base[r] + g), g);
        //#end
    }
    return acc;
}
