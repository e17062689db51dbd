//! Counts of the profiler, compared with counts by hand.

use super::run;
use firelight::sim::{AccessCounts, AccessKind, DispatchProfile, OperationClass, SimulationOptions};

fn profile(text: &str, width: u32, words: usize, workgroups: [u32; 3]) -> DispatchProfile {
    let mut buffers = [vec![0; words], vec![0; words]];
    let options = SimulationOptions { profile: true, ..Default::default() };
    run((text, width), &mut buffers, workgroups, options).profile
}

/// Copies elements of x to y; invocation i reads element `at`.
fn copy(element: &str, at: &str) -> String {
    format!(
        "@group(0) @binding(0) var<storage, read_write> y: array<{element}>;
        @group(0) @binding(1) var<storage, read> x: array<{element}>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
            let i = id.x;
            y[i] = x[{at}];
        }}"
    )
}

fn buffer(requests: u64, sectors: u64, lines: u64, ideal_lines: u64, useful_bytes: u64) -> AccessCounts {
    AccessCounts { requests, sectors, lines, ideal_lines, useful_bytes, ..Default::default() }
}

#[test]
fn copies() {
    // 128 words; 32 lanes ask for a line of 4 sectors at once.
    let seen = profile(&copy("u32", "i"), 32, 128, [2, 1, 1]);
    assert_eq!(seen.access("x", AccessKind::Read), buffer(4, 16, 4, 4, 512));
    assert_eq!(seen.access("y", AccessKind::Write), buffer(4, 16, 4, 4, 512));
    assert_eq!((seen.workgroups, seen.barriers, seen.active_lanes), (2, 0, seen.lanes));
    // 8 lanes ask for a sector of a line.
    let seen = profile(&copy("u32", "i"), 8, 128, [2, 1, 1]);
    assert_eq!(seen.access("x", AccessKind::Read), buffer(16, 16, 16, 16, 512));
    // Four words each: 32 lanes ask for four lines.
    let seen = profile(&copy("vec4<u32>", "i"), 32, 512, [2, 1, 1]);
    assert_eq!(seen.access("x", AccessKind::Read), buffer(4, 64, 16, 16, 2048));
}

#[test]
fn strided_copies() {
    // Every eighth word: 32 lanes touch 8 lines, and of each all 4 sectors, for 4 bytes of each.
    let seen = profile(&copy("u32", "i * 8u"), 32, 1024, [2, 1, 1]);
    assert_eq!(seen.access("x", AccessKind::Read), buffer(4, 128, 32, 4, 512));
    // All lanes the same word.
    let seen = profile(&copy("u32", "7u"), 32, 128, [2, 1, 1]);
    assert_eq!(seen.access("x", AccessKind::Read), buffer(4, 4, 4, 4, 16));
    // One word beyond a line's beginning: two lines, five sectors.
    let seen = profile(&copy("u32", "i + 1u"), 32, 256, [1, 1, 1]);
    assert_eq!(seen.access("x", AccessKind::Read), buffer(2, 10, 4, 2, 256));
}

/// Transposes 32 x 32 words through workgroup memory whose rows are `stride` words apart.
fn transpose(stride: u32) -> String {
    format!(
        "@group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @group(0) @binding(1) var<storage, read> x: array<u32>;
        var<workgroup> tile: array<u32, {0}>;
        @compute @workgroup_size(32, 8) fn main(@builtin(local_invocation_id) id: vec3<u32>) {{
            for (var row = id.y; row < 32u; row += 8u) {{ tile[row * {stride}u + id.x] = x[row * 32u + id.x]; }}
            workgroupBarrier();
            for (var row = id.y; row < 32u; row += 8u) {{ y[row * 32u + id.x] = tile[id.x * {stride}u + row]; }}
        }}",
        32 * stride
    )
}

#[test]
fn transposes_with_and_without_padding() {
    let memory = |wavefronts, conflicts| AccessCounts {
        requests: 32,
        useful_bytes: 4096,
        wavefronts,
        conflicts,
        ..Default::default()
    };
    for (stride, wavefronts) in [(32, 32 * 32), (33, 32), (36, 4 * 32)] {
        let seen = profile(&transpose(stride), 32, 1024, [1, 1, 1]);
        assert_eq!(seen.access("tile", AccessKind::Write), memory(32, 0), "rows of {stride}");
        assert_eq!(seen.access("tile", AccessKind::Read), memory(wavefronts, wavefronts - 32), "rows of {stride}");
        assert_eq!(seen.access("y", AccessKind::Write), buffer(32, 128, 32, 32, 4096));
        assert_eq!(seen.barriers, 1);
    }
}

#[test]
fn operations_by_class_and_lanes_that_take_part() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<f32>;
        @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
            if (i < 16u) {
                let v = x[i];
                y[i] = dot(v, v) * v.x + exp(v.y) - v.z;
            }
        }";
    let seen = profile(text, 32, 256, [1, 1, 1]);
    let count = |class| seen.operations.of(class);
    // A dot product is a product and three that join a sum; one more joins the sum with the exponential.
    assert_eq!((count(OperationClass::Multiply), count(OperationClass::Fma)), (16, 4 * 16));
    assert_eq!((count(OperationClass::Add), count(OperationClass::Transcendental)), (16, 16));
    // One comparison of all; the elements of x and y.
    assert_eq!((count(OperationClass::Integer), count(OperationClass::Address)), (64, 2 * 16));
    // After the branch, half of the first subgroup is active, and no lane of the second.
    assert!(seen.active_lanes < seen.lanes * 3 / 4);
    assert_eq!(seen.access("x", AccessKind::Read), buffer(1, 8, 2, 2, 256));
}

/// A reduction over 32 lanes takes five exchanges, a shuffle one.
#[test]
fn subgroup_operations() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
            y[i] = subgroupAdd(i) + subgroupShuffle(i, 0u);
        }";
    for (width, exchanges) in [(8, 3), (32, 5), (64, 6)] {
        let seen = profile(text, width, 64, [1, 1, 1]);
        assert_eq!(seen.operations.of(OperationClass::Subgroup), 64 * (exchanges + 1), "subgroups of {width}");
    }
}
