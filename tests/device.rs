//! The device: pipelines that its models share, and devices that the caller opens.

mod engine;

use engine::{answer, file, greedy, model, prompt, session};
use firelight::checkpoint::Source;
use firelight::gpu::{AdapterInfo, Gpu, GpuOptions, Tier, Tuning, wgpu};
use firelight::session::{Session, SessionOptions};
use firelight::{Error, Result};
use pollster::block_on;

fn untuned() -> GpuOptions {
    GpuOptions::default().tuning(Tuning::Off)
}

/// A separate device: no other test compiles pipelines on it.
fn own_gpu() -> Gpu {
    block_on(Gpu::open(&untuned())).expect("an adapter")
}

fn open(gpu: &Gpu) -> Session {
    let model = model(file("tiny-qwen3", "F16"));
    session(gpu, &model, &SessionOptions::default().context(64))
}

fn reply(session: &mut Session) -> Vec<u32> {
    answer(session, greedy(&prompt(1, 20), 8)).ids
}

#[test]
fn a_second_session_of_a_model_compiles_nothing() {
    let gpu = own_gpu();
    let mut first = open(&gpu);
    let (compiled, want) = (gpu.pipelines_compiled(), reply(&mut first));
    assert!(compiled > 10, "{compiled} are fewer than a model's kernels");
    let mut second = open(&gpu);
    assert_eq!((gpu.pipelines_compiled(), reply(&mut second)), (compiled, want.clone()));
    drop((first, second));
    let mut after = open(&gpu);
    assert_eq!((gpu.pipelines_compiled(), reply(&mut after)), (compiled, want));
}

#[test]
fn sessions_opened_concurrently_compile_each_kernel_once() {
    let (alone, shared) = (own_gpu(), own_gpu());
    open(&alone);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(open(&shared)));
        }
    });
    assert_eq!(shared.pipelines_compiled(), alone.pipelines_compiled());
}

/// The best adapter, found without Firelight's API, as in an application.
fn adapter() -> wgpu::Adapter {
    let AdapterInfo { name, backend, .. } = block_on(Gpu::list()).remove(0);
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let is_it = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        (info.name, format!("{:?}", info.backend)) == (name.clone(), backend.clone())
    };
    adapters.into_iter().find(is_it).expect("the adapter that Firelight lists")
}

/// A device that the application opens, with these limits and features of its adapter.
fn from_device(limits: wgpu::Limits, features: wgpu::Features, options: &GpuOptions) -> Result<(Gpu, wgpu::Device)> {
    let adapter = adapter();
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: limits,
        required_features: adapter.features() & features,
        ..Default::default()
    };
    let (device, queue) = block_on(adapter.request_device(&descriptor)).expect("a device");
    Ok((block_on(Gpu::from_device(&adapter, device.clone(), queue, options))?, device))
}

#[test]
fn a_device_of_the_caller_runs_models() {
    let (gpu, device) = from_device(Default::default(), wgpu::Features::empty(), &untuned()).expect("the usual limits");
    let caps = gpu.caps();
    assert_eq!((caps.tier, caps.subgroup, caps.timestamps), (Tier::Baseline, (0, 0), false));
    assert_eq!((caps.bindable(), caps.workgroup_bytes), (128 << 20, 16 << 10));
    let want = reply(&mut open(&own_gpu().in_tier(Tier::Baseline)));
    let mut session = open(&gpu);
    assert_eq!(reply(&mut session), want);
    // The owner can still use it.
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 256, usage, mapped_at_creation: false };
    let buffer = device.create_buffer(&descriptor);
    buffer.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("a buffer"));
    device.poll(wgpu::PollType::wait_indefinitely()).expect("the device is there");
    assert_eq!(reply(&mut session), want);
}

#[test]
fn a_device_of_the_caller_has_the_requested_features_and_limits() {
    let features = wgpu::Features::SUBGROUP
        | wgpu::Features::SHADER_F16
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::PIPELINE_CACHE;
    let (gpu, _) = from_device(adapter().limits(), features, &untuned()).expect("all limits");
    let (own, caps) = (own_gpu(), gpu.caps());
    let own = own.caps();
    assert_eq!((caps.tier, caps.subgroup, caps.f16), (own.tier, own.subgroup, own.f16));
    assert_eq!((caps.bindable(), caps.timestamps, caps.cooperative), (own.bindable(), own.timestamps, 0));
}

#[test]
fn a_device_of_the_caller_with_too_low_limits_is_refused() {
    let refused =
        |limits, options: GpuOptions| from_device(limits, wgpu::Features::empty(), &options).map(|_| ()).unwrap_err();
    let error = refused(wgpu::Limits::downlevel_defaults(), untuned());
    assert!(matches!(error, Error::Gpu(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("4 storage buffers in a shader, 8 are needed") && text.contains("limits"), "{text}");
    let error = refused(Default::default(), untuned().tier(Tier::Subgroups));
    assert!(matches!(&error, Error::Usage(text) if text.contains("subgroups")), "{error}");
}

#[test]
fn the_loss_of_a_device_of_the_caller_is_reported() {
    let (gpu, device) = from_device(Default::default(), wgpu::Features::empty(), &untuned()).expect("the usual limits");
    let mut session = open(&gpu);
    session.submit(greedy(&prompt(1, 20), 8)).expect("a request");
    let lost = gpu.clone();
    device.set_device_lost_callback(move |_, why| lost.mark_lost(&format!("by the owner {why}")));
    device.destroy();
    let error = block_on(async {
        loop {
            if let Err(error) = session.next().await {
                break error;
            }
        }
    });
    assert!(matches!(error, Error::Gpu(_)), "{error}");
    // The callback runs when its owner polls the device.
    let _ = device.poll(wgpu::PollType::Poll);
    assert!(gpu.check().unwrap_err().to_string().contains("by the owner"));
}

/// By default, opening a device tunes it.
#[test]
fn tuning_can_be_turned_off() {
    assert_eq!(GpuOptions::default().tuning, Tuning::Auto);
    assert_eq!(own_gpu().adapter().tuning, None);
}

/// A server shares models between threads and runs sessions in tasks of a multi-threaded runtime.
#[test]
fn models_and_sessions_move_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send>(value: T) -> T {
        value
    }
    shared::<Gpu>();
    shared::<firelight::Model>();
    shared::<firelight::checkpoint::Checkpoint>();
    shared::<firelight::tokenizer::Tokenizer>();
    shared::<firelight::Error>();
    shared::<firelight::engine::EngineHandle>();
    fn moves<T: Send + 'static>() {}
    moves::<Session>();
    moves::<firelight::session::Constraint>();
    moves::<firelight::engine::EngineLoop>();
    moves::<firelight::engine::AnswerStream>();

    let task = async {
        let gpu = Gpu::open(&untuned()).await?;
        let model = firelight::Model::from_sources(vec![Source::bytes("m", file("tiny-qwen3", "F16"))]).await?;
        let options = SessionOptions::default().context(64);
        let mut session = Session::builder(&gpu, &model).options(&options).load().await?;
        let mut answer = session.generate(greedy(&prompt(1, 20), 8))?;
        let mut events = 0;
        while answer.next().await?.is_some() {
            events += 1;
        }
        Ok::<usize, Error>(events)
    };
    let task = sent(task);
    assert!(std::thread::spawn(|| block_on(task)).join().expect("no panic").expect("an answer") > 8);
}
