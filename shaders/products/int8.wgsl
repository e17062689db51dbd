// As products/exact, in whole numbers and for one token, whose values round/int8 has rounded.
fn products(base: array<u32, RPL>, xrow: array<u32, TILE>, lane: u32) -> array<vec4<f32>, TILE> {
    var acc = array<vec4<f32>, TILE>();
    for (var g = lane; g < GROUPS; g += LANES) {
        //#unroll r RPL
        acc[0][r] += whole_product(load_block(base[r] + g), g);
        //#end
    }
    return acc;
}
