// The dot product of a block of weights, as int8 quants, and group g of x as quantized by matmul/quantize_x/int8.
fn dot_i8(b: Block, g: u32) -> f32 {
    var sums = array<i32, 2>();
    //#unroll i 8
    sums[i / 4u] += dot4I8Packed(quants_i8x4(b, i), x_words[8u * g + i]);
    //#end
    let s = block_scales(b);
    var product = f32(sums[0]) * s.x + f32(sums[1]) * s.y;
    if (SUB_BLOCKS == 1u) {
        product = f32(sums[0] + sums[1]) * s.x;
    }
    let x_step = x_steps[g];
    product *= x_step.x;
    if (HAS_OFFSET) {
        product += dot(s.zw, x_step.yz);
    }
    return product;
}
