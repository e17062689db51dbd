// Adds a bias for each column to the sums.
@group(0) @binding(EPILOGUE_AT) var<storage, read> bias: array<f32>;

fn epilogue(v: f32, row: u32, col: u32) -> f32 {
    return v + bias[col];
}
