// x comes times the norm's weight already: what is left of an RMS norm is a factor for the row, from sums of squares.
@group(0) @binding(SQUARES_AT) var<storage, read> squares: array<f32>; // (row, PARTS)

fn norm_scale(row: u32, lane: u32, lid: u32) -> f32 {
    var sum = 0.0;
    for (var i = lane; i < PARTS; i += LANES) {
        sum += squares[row * PARTS + i];
    }
    return inverseSqrt(reduce_sum(sum, lid) / f32(COLS4 * 4u) + EPS);
}
