//! Forecasts of dispatches, compared with times worked out by hand.

use super::run;
use firelight::sim::{BoundBy, DispatchProfile, GpuModel, SimulationOptions};

fn profile(text: &str, words: usize, workgroups: [u32; 3]) -> DispatchProfile {
    let mut buffers = [vec![0; words], vec![0; words]];
    let options = SimulationOptions { profile: true, max_workgroups: Some(4), ..Default::default() };
    let counted = run((text, 32), &mut buffers, workgroups, options).profile;
    counted.scaled_to(workgroups.iter().map(|n| u64::from(*n)).product())
}

const COPY: &str = "
    @group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
    @group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
    @compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = x[id.x]; }";

#[test]
fn what_bounds_a_dispatch() {
    let gpu = GpuModel::find("rtx4090").expect("a known GPU");
    let us = |forecast: firelight::sim::Forecast| (forecast.seconds * 1e6 - gpu.overhead, forecast.bound_by);
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.01;
    // 64 MiB read and written at 1008 GB/s: 133.2 us. Its 1048576 lines take the units 3.3 us.
    let copy = profile(COPY, 1 << 24, [1 << 14, 1, 1]);
    let (time, bound) = us(gpu.forecast(&copy, 128 << 20));
    assert!(near(time, 133.2) && bound == BoundBy::Memory, "{time} us, {bound:?}");
    // From the cache, the lines are all that takes time: 1048576 / (128 units * 2520 clocks a us).
    let (time, bound) = us(gpu.forecast(&copy, 0));
    assert!(near(time, 3.25) && bound == BoundBy::Lines, "{time} us, {bound:?}");
    // One workgroup has one unit: 64 lines in 64 clocks.
    let (time, bound) = us(gpu.forecast(&profile(COPY, 1 << 12, [1, 1, 1]), 0));
    assert!(near(time, 64.0 / 2520.0) && bound == BoundBy::Overhead, "{time} us, {bound:?}");
}

/// Four million invocations, each with eight exponentials.
#[test]
fn rates_of_operations() {
    let exponentials = "
        @group(0) @binding(0) var<storage, read_write> y: array<f32>;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            y[id.x] = exp2(exp2(exp2(exp2(exp2(exp2(exp2(exp2(x[id.x]))))))));
        }";
    let profile = profile(exponentials, 1 << 22, [1 << 14, 1, 1]);
    // A 4090 does 16 per SM and clock: 2^25 / (16 * 128 * 2520) = 6.5 us; an M3 Max 32 per core: 18.7 us.
    for (name, want) in [("rtx4090", 6.5), ("m3max", 18.7)] {
        let gpu = GpuModel::find(name).expect("a known GPU");
        let forecast = gpu.forecast(&profile, 0);
        let time = forecast.seconds * 1e6 - gpu.overhead;
        assert!((time / want - 1.0).abs() < 0.01, "{name}: {time} us");
        assert_eq!(forecast.bound_by, BoundBy::Transcendental);
    }
}
