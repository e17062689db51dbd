// Adds a bias for each column and the residual stream to the sums.
@group(0) @binding(EPILOGUE_AT) var<storage, read> bias: array<f32>;
@group(0) @binding(EPILOGUE_AT + 1) var<storage, read> residual: array<f32>;

fn epilogue(v: f32, row: u32, col: u32) -> f32 {
    return v + bias[col] + residual[row * OUT + col];
}
