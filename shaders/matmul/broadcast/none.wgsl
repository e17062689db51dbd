// Each thread fetches for itself alone: SUBGROUP is 1.
fn broadcast(fetched: vec4<f32>) -> array<vec4<f32>, SUBGROUP> {
    return array(fetched);
}
