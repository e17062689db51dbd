//! Counts of whole steps, for GPUs that are not available.

use firelight::memory_plan;
use firelight::model::Model;
use firelight::session::SessionOptions;
use firelight::sim::{BoundBy, GpuModel, KernelProfile, OperationClass, SimulatedPlan};
use firelight::synth;
use std::time::Instant;

fn model(shape: &str, types: &str) -> Model {
    let source = synth::without_weights(shape, types).expect("a known shape and type");
    pollster::block_on(Model::from_sources(vec![source])).expect("a model")
}

fn gpu(name: &str) -> &'static GpuModel {
    GpuModel::find(name).expect("a known GPU")
}

/// The plan, and the counts of a step of `rows` rows at `position`.
fn step(model: &Model, gpu: &GpuModel, (rows, position): (u32, u32)) -> (SimulatedPlan, Vec<KernelProfile>) {
    let options = SessionOptions::default().context(position + 512);
    let planned = memory_plan::plan_memory(model, &gpu.caps(), &options).expect("it fits");
    let mut plan = SimulatedPlan::without_weights(planned.dispatch_list, gpu.subgroup);
    let profiles = plan.profile_step(rows, position).expect("the simulator supports every kernel");
    (plan, profiles)
}

#[test]
fn steps_of_models_of_several_kinds() {
    let cases = [
        ("tiny-qwen3moe", "rtx4090"),
        ("tiny-gemma3", "rx7900xtx"),
        ("tiny-qwen3next", "a770"),
        ("tiny-deepseek2", "m3max"),
        ("tiny-llama3", "adreno740"),
    ];
    for (shape, name) in cases {
        let (model, gpu) = (model(shape, "Q4_0"), gpu(name));
        for size in [(1, 100), (40, 0)] {
            for KernelProfile { profile, bytes, .. } in step(&model, gpu, size).1 {
                assert!(profile.workgroups > 0 && profile.instructions > 0, "{shape}, {size:?}");
                let forecast = gpu.forecast(&profile, bytes);
                assert!(forecast.seconds > 0.0 && forecast.seconds < 0.01, "{shape}, {size:?}: {forecast:?}");
            }
        }
    }
}

/// The product of a matrix and a row needs one multiply-add for each weight, and reads each weight once.
#[test]
fn a_decode_step_multiplies_each_weight_once() {
    let (plan, profiles) = step(&model("tiny-llama3", "Q4_0"), gpu("rtx4090"), (1, 100));
    let list = plan.dispatch_list();
    for KernelProfile { kernel, profile, .. } in profiles {
        let kernel = &list.kernels[kernel].1;
        if kernel.source.file != "matvec" {
            continue;
        }
        let weight = kernel.bindings[0];
        let (cols, rows) = (list.graph.cols(weight.tensor), list.shards(weight.tensor)[weight.shard].rows);
        let weights = u64::from(rows) * u64::from(cols);
        let products = profile.operations.of(OperationClass::Fma) + profile.operations.of(OperationClass::Multiply);
        assert!((weights..3 * weights).contains(&products), "{products} for {weights} weights");
    }
}

/// A decode step of a model of 8 billion weights: the simulator runs a sample of the workgroups of each distinct
/// kernel.
#[test]
fn a_decode_step_of_a_large_model() {
    let (start, gpu) = (Instant::now(), gpu("rtx4090"));
    let (_, profiles) = step(&model("llama-3.1-8b", "Q4_K_M"), gpu, (1, 1023));
    let bytes: u64 = profiles.iter().map(|of| of.bytes).sum();
    // 4.9 GB of weights without the 0.3 GB of embeddings, and 134 MB of keys and values.
    assert!((4_700_000_000..4_850_000_000).contains(&bytes), "{bytes} bytes");
    let seconds: f64 = profiles.iter().map(|of| gpu.forecast(&of.profile, of.bytes).seconds).sum();
    assert!((gpu.memory_seconds(bytes)..0.1).contains(&seconds), "{seconds} s");
    // Layers have six dispatches, seven where attention is split, which are equal but for weight types.
    let groups = KernelProfile::grouped(&profiles);
    assert!(profiles.len() > 6 * 32 && groups.len() < 30, "{} of {} dispatches differ", groups.len(), profiles.len());
    let largest = profiles.iter().max_by_key(|of| of.bytes).expect("kernels");
    assert_ne!(gpu.forecast(&largest.profile, largest.bytes).bound_by, BoundBy::Overhead);
    println!("{} dispatches in {:.1} s: {:.2} ms", profiles.len(), start.elapsed().as_secs_f64(), seconds * 1e3);
}
