// The KV cache in f32; for tests. Layout: (page, head, position % PAGE, HEAD_DIM). A cell is four consecutive values.
alias Cell = vec4<u32>;

// Where the values of `head` at slot `slot` of `page` begin.
fn place(page: u32, head: u32, slot: u32) -> u32 {
    return ((page * KV_HEADS + head) * PAGE + slot) * HEAD_DIM4;
}

fn load4(at: u32, d: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(cache[at + d]);
}

fn pack(v: vec4<f32>) -> Cell {
    return bitcast<vec4<u32>>(v);
}
