// y[row] = weight[token of row] * SCALE. One thread decodes a group of 32 weights. Tokens of other shards are left out.
//#import lib/step
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> sampled: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
//#import $weight

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x;
    let row = id.y;
    if (group >= GROUPS) {
        return;
    }
    var token = rows[row].x;
    if (token == 0xffffffffu) {
        token = sampled[rows[row].z];
    }
    if (token < ROW0 || token >= ROW0 + ROWS) {
        return;
    }
    let b = load_block((token - ROW0) * GROUPS + group);
    //#unroll i 8
    if (group * 8u + i < COLS4) {
        y[row * COLS4 + group * 8u + i] = decode4(b, i) * SCALE;
    }
    //#end
}
