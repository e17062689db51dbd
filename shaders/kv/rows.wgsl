// Keys or values as f32 rows of the step: (row, head, HEAD_DIM). A page is its first row. A cell is four consecutive
// values. Slots past the step's last row, which are masked, repeat it.
alias Cell = vec4<u32>;

// Where the values of `head` at slot `slot` of `page` begin.
fn place(page: u32, head: u32, slot: u32) -> u32 {
    return (min(page + slot, sizes.rows - 1u) * KV_HEADS + head) * HEAD_DIM4;
}

fn load4(at: u32, d: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(cache[at + d]);
}
