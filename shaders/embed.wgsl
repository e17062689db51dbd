// y[row] = weight[token of row] * SCALE, or the embedding that the caller supplies for the row. One thread decodes a
// group of 32 weights. Tokens of other shards are skipped. src/graph/mod.rs defines the bits of a row's input.
//#import lib/step
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> sampled: array<u32>;
@group(0) @binding(3) var<storage, read> embeddings: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
//#import $weight

const SAMPLED_INPUT = 0x80000000u;
const EMBEDDING_INPUT = 0x40000000u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x;
    let row = id.y;
    if (group >= GROUPS) {
        return;
    }
    var token = rows[row].x;
    if ((token & SAMPLED_INPUT) != 0u) {
        token = sampled[token ^ SAMPLED_INPUT];
    } else if ((token & EMBEDDING_INPUT) != 0u) {
        if (TAKES_EMBEDDINGS) {
            let slot = token ^ EMBEDDING_INPUT;
            //#unroll i 8
            if (ROW0 == 0u && group * 8u + i < COLS4) {
                y[row * COLS4 + group * 8u + i] = embeddings[slot * COLS4 + group * 8u + i];
            }
            //#end
            return;
        }
        token = 0u;
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
