//! What the models on a device share.

mod engine;

use engine::{answer, file, greedy, model, prompt, session};
use firelight::gpu::{Gpu, GpuOptions};
use firelight::session::{Session, SessionOptions};
use pollster::block_on;

/// A device of the test's own: no other test compiles anything on it.
fn own_gpu() -> Gpu {
    block_on(Gpu::open(&GpuOptions::default())).expect("an adapter")
}

fn open(gpu: &Gpu) -> Session {
    let model = model(file("tiny-qwen3", "F16"));
    session(gpu, &model, &SessionOptions { context: Some(64), ..Default::default() })
}

#[test]
fn a_second_session_of_a_model_compiles_nothing() {
    let gpu = own_gpu();
    let reply = |session: &mut Session| answer(session, greedy(&prompt(1, 20), 8)).ids;
    let mut first = open(&gpu);
    let (compiled, want) = (gpu.pipelines_compiled(), reply(&mut first));
    assert!(compiled > 10, "{compiled} are fewer than a model's kernels");
    let mut beside = open(&gpu);
    assert_eq!((gpu.pipelines_compiled(), reply(&mut beside)), (compiled, want.clone()));
    drop((first, beside));
    let mut after = open(&gpu);
    assert_eq!((gpu.pipelines_compiled(), reply(&mut after)), (compiled, want));
}

#[test]
fn sessions_that_are_opened_at_once_compile_each_kernel_once() {
    let (alone, shared) = (own_gpu(), own_gpu());
    open(&alone);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(open(&shared)));
        }
    });
    assert_eq!(shared.pipelines_compiled(), alone.pipelines_compiled());
}
