// An attention sink for each query head: a score without a value.
@group(0) @binding(SINKS_AT) var<storage, read> sinks: array<f32>;

fn sink(head: u32) -> f32 {
    return sinks[head];
}
