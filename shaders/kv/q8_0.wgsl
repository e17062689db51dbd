// The KV cache in blocks of 32 values: int8 quants and an f16 scale. A cell is four quants, or the scales of two
// blocks. Layout: (page, head), each with its quants (position % PAGE, HEAD_DIM), then its scales (SCALES, position %
// PAGE).
alias Cell = u32;

// Words of scales that a head has at one position.
const SCALES = (HEAD_DIM4 + 15u) / 16u;

// Where the quants and the scales of `head` at slot `slot` of `page` begin.
fn place(page: u32, head: u32, slot: u32) -> vec2<u32> {
    let base = (page * KV_HEADS + head) * PAGE * (HEAD_DIM4 + SCALES);
    return vec2<u32>(base + slot * HEAD_DIM4, base + PAGE * HEAD_DIM4 + slot);
}

// Where the scales of the blocks around values 4 * d are.
fn scales_at(at: vec2<u32>, d: u32) -> u32 {
    return at.y + d / 16u * PAGE;
}

fn load4(at: vec2<u32>, d: u32) -> vec4<f32> {
    let scales = unpack2x16float(cache[scales_at(at, d)]);
    return select(scales.x, scales.y, (d & 8u) != 0u) * vec4<f32>(unpack4xI8(cache[at.x + d]));
}
