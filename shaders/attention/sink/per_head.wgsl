// A score for each query head that has no value.
@group(0) @binding(SINKS_AT) var<storage, read> sinks: array<f32>;

fn sink(head: u32) -> f32 {
    return sinks[head];
}
