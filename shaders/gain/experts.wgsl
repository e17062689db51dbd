// Each expert has a multiplier of its own.
@group(0) @binding(4) var<storage, read> expert_gains: array<f32>;

fn gain(expert: u32) -> f32 {
    return expert_gains[expert];
}
