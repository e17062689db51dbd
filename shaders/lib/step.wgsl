// The sizes of the running step; the layout of ops::StepSizes.
struct Step {
    rows: u32,
    logits: u32,
    splits: u32,
    tiles: u32,
    filtered: u32,
    sampled: u32,
    segments: u32,
    pad: u32,
}
@group(0) @binding(0) var<uniform> sizes: Step;
