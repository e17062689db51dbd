// The consumer side of the fused RMSNorm: x is already multiplied by the norm's weight; the remaining factor of the row
// comes from the partial sums of squares.
@group(0) @binding(SQUARES_AT) var<storage, read> squares: array<f32>; // (row, PARTS)

fn norm_scale(row: u32, lane: u32, lid: u32) -> f32 {
    var sum = 0.0;
    for (var i = lane; i < PARTS; i += LANES) {
        sum += squares[row * PARTS + i];
    }
    return inverseSqrt(reduce_sum(sum, lid) / f32(COLS4 * 4u) + EPS);
}
