//! Counts of whole steps of small models, for GPUs that are not here.

use firelight::checkpoint::Source;
use firelight::memory_plan;
use firelight::model::Model;
use firelight::session::SessionOptions;
use firelight::sim::{GPU_MODELS, GpuModel, KernelProfile, OperationClass, SimulatedPlan};
use firelight::synth;

fn model(shape: &str) -> Model {
    let mut file = Vec::new();
    synth::write(shape, "Q4_0", &mut file).expect("a model");
    pollster::block_on(Model::from_sources(vec![Source::bytes(shape, file)])).expect("a model")
}

fn step(model: &Model, gpu: &GpuModel, (rows, position): (u32, u32)) -> Vec<KernelProfile> {
    let options = SessionOptions::default().context(512);
    let planned = memory_plan::plan_memory(model, &gpu.caps(), &options).expect("it fits");
    let mut plan = SimulatedPlan::without_weights(planned.dispatch_list, gpu.subgroup);
    plan.profile_step(rows, position).expect("the simulator has all that kernels use")
}

#[test]
fn steps_of_models_of_several_kinds() {
    for (shape, gpu) in ["tiny-qwen3moe", "tiny-gemma3", "tiny-qwen3next", "tiny-deepseek2"].iter().zip(GPU_MODELS) {
        let model = model(shape);
        for size in [(1, 100), (40, 0)] {
            for KernelProfile { profile, bytes, .. } in step(&model, &gpu, size) {
                assert!(profile.workgroups > 0 && profile.instructions > 0, "{shape}, {size:?}");
                let forecast = gpu.forecast(&profile, bytes);
                assert!(forecast.seconds > 0.0 && forecast.seconds < 0.01, "{shape}, {size:?}: {forecast:?}");
            }
        }
    }
}

/// A product of a matrix with one row needs one multiply-add for each weight, and reads each weight once.
#[test]
fn a_decode_step_multiplies_each_weight_once() {
    let (model, gpu) = (model("tiny-llama3"), GpuModel::find("rtx4090").expect("a known GPU"));
    let options = SessionOptions::default().context(512);
    let planned = memory_plan::plan_memory(&model, &gpu.caps(), &options).expect("it fits");
    let list = planned.dispatch_list.clone();
    for KernelProfile { kernel, profile, .. } in step(&model, gpu, (1, 100)) {
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
