// What becomes of a sum before it is written: it is multiplied by the slot's share.
@group(0) @binding(EPILOGUE_AT) var<storage, read> shares: array<f32>;

fn epilogue(v: f32, slot: u32, col: u32) -> f32 {
    return v * shares[slot];
}
