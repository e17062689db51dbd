// The producer side of the fused RMSNorm: writes y times the next norm's weight, and the sum of squares of a
// workgroup's part of a row.
@group(0) @binding(SUM_SQUARES_AT) var<storage, read> next_norm: array<f32>;
@group(0) @binding(SUM_SQUARES_AT + 1) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(SUM_SQUARES_AT + 2) var<storage, read_write> squares: array<f32>; // (row, PARTS)
var<workgroup> sum_squares_buf: array<f32, WG / LANES>;

fn square_of(v: f32, row: u32, col: u32) -> f32 {
    scaled[row * OUT + col] = v * next_norm[col];
    return v * v;
}

fn write_sum_squares(sum: f32, row: u32, part: u32, lid: u32, valid: bool) {
    if (lid % LANES == 0u) {
        sum_squares_buf[lid / LANES] = sum;
    }
    workgroupBarrier();
    if (lid == 0u && valid) {
        var total = 0.0;
        for (var i = 0u; i < WG / LANES; i += 1u) {
            total += sum_squares_buf[i];
        }
        squares[row * PARTS + PART0 + part] = total;
    }
    workgroupBarrier();
}
