// The KV cache in f16, two values in a word; larger values are clamped to the largest f16.
// Layout: (page, head, position % PAGE, HEAD_DIM). A cell is four consecutive values.
alias Cell = vec2<u32>;

// Where the values of `head` at slot `slot` of `page` begin.
fn place(page: u32, head: u32, slot: u32) -> u32 {
    return ((page * KV_HEADS + head) * PAGE + slot) * HEAD_DIM4;
}

fn load4(at: u32, d: u32) -> vec4<f32> {
    let b = cache[at + d];
    return vec4<f32>(unpack2x16float(b.x), unpack2x16float(b.y));
}

fn pack(v: vec4<f32>) -> Cell {
    let c = clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw));
}
