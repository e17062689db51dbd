// The product of a block of weights, as the whole numbers that its type is made of, with group g of the values that
// round/int8 has rounded.
fn whole_product(b: Block, g: u32) -> f32 {
    var sums = array<i32, 2>();
    //#unroll i 8
    sums[i / 4u] += dot4I8Packed(whole4(b, i), x_words[8u * g + i]);
    //#end
    let s = steps(b);
    var product = f32(sums[0]) * s.x + f32(sums[1]) * s.y;
    if (HALVES == 1u) {
        product = f32(sums[0] + sums[1]) * s.x;
    }
    let x_step = x_steps[g];
    product *= x_step.x;
    if (OFFSETS) {
        product += dot(s.zw, x_step.yz);
    }
    return product;
}
