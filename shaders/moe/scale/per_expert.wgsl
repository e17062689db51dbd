// Each expert has a multiplier.
@group(0) @binding(SCALES_AT) var<storage, read> expert_scales: array<f32>;

fn expert_scale(expert: u32) -> f32 {
    return expert_scales[expert];
}
