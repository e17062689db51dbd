// Adds the bias of the slot's expert for each column to the sums.
@group(0) @binding(EPILOGUE_AT) var<storage, read> bias: array<f32>; // (expert, OUT)
@group(0) @binding(EPILOGUE_AT + 1) var<storage, read> expert_of: array<u32>;

fn epilogue(v: f32, slot: u32, col: u32) -> f32 {
    return v + bias[expert_of[slot] * OUT + col];
}
