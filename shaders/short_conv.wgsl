// A causal depthwise convolution along the rows of each sequence, then SiLU if SILU: a row's output depends on it and
// on the KERNEL_SIZE - 1 rows before. One thread takes a channel through all rows of a segment. The rows before the
// segment are in the state: (slot, KERNEL_SIZE - 1, channel).
//#import lib/step
//#import lib/segment
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>; // (channel, KERNEL_SIZE)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;

const BEFORE = KERNEL_SIZE - 1u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if (c >= CHANNELS) {
        return;
    }
    let segment = segments[id.y];
    var tap: array<f32, KERNEL_SIZE>;
    var seen = array<f32, KERNEL_SIZE>();
    //#unroll t KERNEL_SIZE
    tap[t] = weight[c * KERNEL_SIZE + t];
    if (t < BEFORE && segment.reads != NO_STATE) {
        seen[t] = state[(segment.reads * BEFORE + t) * CHANNELS + c];
    }
    //#end
    for (var row = segment.first; row < segment.first + segment.count; row += 1u) {
        seen[BEFORE] = x[row * CHANNELS + c];
        var sum = 0.0;
        //#unroll t KERNEL_SIZE
        sum += tap[t] * seen[t];
        //#end
        y[row * CHANNELS + c] = select(sum, sum / (1.0 + exp(-sum)), SILU);
        //#unroll t KERNEL_SIZE
        if (t < BEFORE) {
            seen[t] = seen[min(t + 1u, BEFORE)];
        }
        //#end
    }
    //#unroll t KERNEL_SIZE
    if (t < BEFORE) {
        state[(segment.writes * BEFORE + t) * CHANNELS + c] = seen[t];
    }
    //#end
}
