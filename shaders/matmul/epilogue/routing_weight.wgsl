// Multiplies the sums by the slot's routing weight.
@group(0) @binding(EPILOGUE_AT) var<storage, read> shares: array<f32>;

fn epilogue(v: f32, slot: u32, col: u32) -> f32 {
    return v * shares[slot];
}
