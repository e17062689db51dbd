// Rotates pairs of each head by position * frequency. The angle's cosine and sine come from two tables, for
// position % 256 and position / 256, joined by the addition theorem: exact in f32 on every adapter.
// NEOX: pairs are (i, i + ROT/2); otherwise interleaved, (2i, 2i + 1). Values from ROT on pass through.
//#import lib/step
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>; // (256 + coarse, ROT / 2) of (cos, sin)
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y;
    if (id.x >= HEADS * HEAD_DIM / 2u) {
        return;
    }
    let head = id.x / (HEAD_DIM / 2u);
    let i = id.x % (HEAD_DIM / 2u);
    let base = (row * HEADS + head) * HEAD_DIM;
    if (i >= ROT / 2u) {
        let at = base + 2u * i;
        y[at] = x[at];
        y[at + 1u] = x[at + 1u];
        return;
    }
    let position = rows[row].y;
    let fine = angles[(position % 256u) * (ROT / 2u) + i];
    let coarse = angles[(256u + position / 256u) * (ROT / 2u) + i];
    let c = fine.x * coarse.x - fine.y * coarse.y;
    let s = fine.y * coarse.x + fine.x * coarse.y;
    let a = base + select(2u * i, i, NEOX);
    let b = base + select(2u * i + 1u, i + ROT / 2u, NEOX);
    let u = x[a];
    let v = x[b];
    y[a] = u * c - v * s;
    y[b] = u * s + v * c;
}
