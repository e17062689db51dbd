//! The memory planner: models that do not fit are refused from their headers, with the change that would help, and
//! reduced settings are reported.

mod engine;

use firelight::Error;
use firelight::SessionOptions;
use firelight::checkpoint::{Checkpoint, GgufWriter, Source};
use firelight::gpu::Caps;
use firelight::graph::MaskKind;
use firelight::memory_plan::{plan_max_context, plan_memory};
use firelight::ops::{KvType, PAGE};
use pollster::block_on;

fn caps(max_binding: u64, memory: Option<u64>) -> Caps {
    Caps::baseline().max_binding(max_binding).memory(memory)
}

fn context_of(n: u32) -> SessionOptions {
    SessionOptions::default().context(n)
}

#[test]
fn errors_name_a_change_that_would_fit() {
    let model = engine::model(engine::file("tiny-llama3", "F32"));
    let plenty = 128 << 20;
    let cases = [
        (caps(plenty, None), context_of(0), "holds nothing"),
        (caps(plenty, None), context_of(1 << 22), "take --context"),
        (caps(1 << 12, None), context_of(32), "exceeds"),
        (caps(plenty, Some(1 << 20)), context_of(512), "1 MiB are free"),
        (caps(plenty, None), context_of(32).sequences(1 << 20), "use fewer"),
    ];
    for (caps, options, want) in cases {
        let error = plan_memory(&model, &caps, &options).map(|_| ()).expect_err(want).to_string();
        assert!(error.contains(want), "{error}");
    }
    assert!(plan_memory(&model, &caps(plenty, Some(1 << 30)), &context_of(512)).is_ok());
    // Its heads have 8 values.
    let odd = engine::model(engine::file("tiny-odd", "F32"));
    let error = plan_memory(&odd, &caps(plenty, None), &context_of(32).kv(KvType::Q8_0));
    let error = error.map(|_| ()).expect_err("no whole blocks").to_string();
    assert!(error.contains("take f16"), "{error}");
}

/// A budget yields the largest context in f16; q8_0, if only that leaves a usable context; then a smaller context.
#[test]
fn context_and_cache_type_follow_the_budget() {
    let mut model = engine::model(engine::file("tiny-llama3", "F32"));
    model.spec.context_length = 16384;
    let bytes = |context, kv| {
        let options = context_of(context).kv(kv);
        plan_memory(&model, &caps(1 << 30, None), &options).expect("it fits").dispatch_list.bytes().total()
    };
    let most = |budget| {
        let plan = plan_max_context(&model, &caps(1 << 30, Some(budget)), &SessionOptions::default())?;
        let kv = plan.dispatch_list.capacity.kv;
        assert!(plan.dispatch_list.bytes().total() <= budget);
        // One more page would not fit.
        assert!(plan.context == 16384 || bytes(plan.context + PAGE, kv) > budget, "{} is not all", plan.context);
        Ok::<_, Error>((plan.context, kv, plan.notices.len()))
    };
    let (f16, q8) = (KvType::F16, KvType::Q8_0);
    assert_eq!(most(1 << 30).unwrap(), (16384, f16, 0));
    assert_eq!(most(bytes(16384, f16)).unwrap(), (16384, f16, 0));
    assert_eq!(most(bytes(8192, f16)).unwrap(), (8192, f16, 0));
    assert_eq!(most(bytes(4096, f16)).unwrap(), (4096, f16, 0));
    let (context, kv, notices) = most(bytes(4096, f16) - 1).unwrap();
    assert!(context > 7000 && kv == q8 && notices == 1, "{context} {kv:?}");
    assert_eq!(most(bytes(512, q8)).unwrap(), (512, q8, 1));
    assert!(most(bytes(128, q8)).unwrap_err().to_string().contains("smaller quantization"));
    // Without a requested context it is the default one; a requested context is used or an error.
    let of = |options: &SessionOptions, budget| plan_memory(&model, &caps(1 << 30, Some(budget)), options);
    assert_eq!(of(&SessionOptions::default(), 1 << 30).unwrap().context, 4096);
    assert_eq!(of(&context_of(8192), bytes(8192, q8)).unwrap().dispatch_list.capacity.kv, q8);
    let asked = context_of(8192).kv(f16);
    let error = of(&asked, bytes(8192, f16) - 1).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("take --context 8160, or --kv q8_0"), "{error}");
    let asked = context_of(4096).sequences(64);
    let error = of(&asked, bytes(4096, f16) * 2).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("take --context"), "{error}");
}

/// The predicted bytes against the created buffers, and against the device's allocator.
#[test]
fn predicted_bytes_are_allocated() {
    let gpu = engine::gpu();
    let mut reports = 0;
    for (shape, types, context, kv, sequences) in [
        ("tiny-llama3", "F16", 4096, KvType::F16, 1),
        ("tiny-llama3", "Q4_K", 2048, KvType::Q8_0, 4),
        ("tiny-qwen3", "Q8_0", 1024, KvType::F32, 2),
        ("tiny-qwen3moe", "Q4_K_M", 512, KvType::Q8_0, 1),
        ("tiny-odd", "F32", 4096, KvType::F16, 1),
        ("tiny-deepseek2", "Q4_K", 1024, KvType::Q8_0, 2),
        ("tiny-gemma3", "F16", 4096, KvType::F16, 2),
    ] {
        let model = engine::model(engine::file(shape, types));
        let options = context_of(context).sequences(sequences).kv(kv);
        let predicted = plan_memory(&model, gpu.caps(), &options).expect("it fits").dispatch_list.bytes().total();
        let before = gpu.allocated();
        let session = engine::session(gpu, &model, &options);
        block_on(gpu.flush()).expect("no device loss");
        let near = |bytes: u64| bytes.abs_diff(predicted) * 20 <= predicted;
        let made = session.plan().allocated();
        assert!(near(made), "{shape} {types} {context} {kv:?}: {predicted} bytes predicted, {made} made");
        if let (Some(before), Some(after)) = (before, gpu.allocated()) {
            let grown = after - before;
            assert!(near(grown), "{shape} {types} {context} {kv:?}: {predicted} bytes predicted, {grown} allocated");
            reports += 1;
            println!("{shape} {types} {context} {kv:?}: {predicted} predicted, {made} made, {grown} allocated");
        }
    }
    println!("the allocator reported {reports} times");
}

/// With MLA, a layer caches one latent and one rotated part per position, and no values.
#[test]
fn mla_caches_latent_keys_only() {
    let model = engine::model(engine::file("tiny-deepseek2", "F32"));
    let cache = model.spec.kv_caches().next().expect("latent keys");
    let values = u64::from(cache.heads * cache.head_dim);
    assert_eq!(values, 64 + 32);
    let layers = model.spec.layers.len() as u64;
    for (kv, bytes) in [(KvType::F16, 2 * values), (KvType::Q8_0, values + 2 * 4), (KvType::F32, 4 * values)] {
        let options = context_of(512).sequences(2).kv(kv);
        let dispatch_list = plan_memory(&model, &caps(1 << 30, None), &options).expect("it fits").dispatch_list;
        assert_eq!(dispatch_list.bytes().kv, layers * 2 * 512 * bytes, "{kv:?}");
    }
}

/// Sliding-window layers cache the window, a step and 64 positions, and the window again at the end of a prompt, each
/// in whole pages and one more ([`SlidingPages`](firelight::ops::SlidingPages)), however long the context is.
#[test]
fn sliding_windows_cache_only_what_they_see() {
    let model = engine::model(engine::file("tiny-gemma3", "F16"));
    let caches: Vec<_> = model.spec.kv_caches().collect();
    let window = caches.iter().find_map(|cache| cache.mask.span()).expect("a window");
    let near = caches.iter().filter(|cache| cache.mask != MaskKind::Causal).count() as u64;
    let all = caches.len() as u64 - near;
    let position = 2 * u64::from(caches[0].heads * caches[0].head_dim) * 2;
    for (context, chunk, sequences) in [(4096, 128, 1), (65536, 128, 1), (65536, 512, 4)] {
        let options = context_of(context).chunk(chunk).sequences(sequences).kv(KvType::F16);
        let bytes = plan_memory(&model, &caps(1 << 30, None), &options).expect("it fits").dispatch_list.bytes().kv;
        let pages = u64::from((window + chunk + 64).div_ceil(32) + 1 + window.div_ceil(32) + 1);
        let want = u64::from(sequences) * position * (near * pages * 32 + all * u64::from(context));
        assert_eq!(bytes, want, "{context} {chunk} {sequences}");
    }
    // A context that is hardly longer than that is kept whole.
    let dispatch_list = plan_memory(&model, &caps(1 << 30, None), &context_of(512)).expect("it fits").dispatch_list;
    assert_eq!((dispatch_list.capacity.sliding, dispatch_list.bytes().kv), (None, (near + all) * position * 512));
}

#[test]
fn reduced_contexts_are_reported() {
    let model = engine::model(engine::file("tiny-llama3", "F32"));
    let trained = model.spec.context_length;
    let plan = plan_memory(&model, &caps(128 << 20, None), &context_of(trained + 32)).expect("it fits");
    assert!(plan.notices.iter().any(|n| n.contains("trained for")), "{:?}", plan.notices);
    let plan = plan_memory(&model, &caps(128 << 20, None), &SessionOptions::default()).expect("it fits");
    assert_eq!((plan.context, plan.notices.len()), (trained.min(4096), 0));
}

/// A mixture of experts with more layers, which repeat the layers of a file.
fn repeated(file: Vec<u8>, layers: u32) -> Vec<u8> {
    let checkpoint = block_on(Checkpoint::from_sources(vec![Source::bytes("test", file)])).unwrap();
    let mut metadata = checkpoint.metadata.clone();
    let given = metadata.get_u32("qwen3moe.block_count").unwrap().unwrap();
    metadata.insert("qwen3moe.block_count", layers);
    let mut writer = GgufWriter::new(metadata).unwrap();
    let mut data = Vec::new();
    for tensor in checkpoint.tensors.values() {
        let names = match tensor.name.strip_prefix("blk.").and_then(|name| name.split_once('.')) {
            Some((layer, part)) => {
                let of = (0..layers).filter(|n| (n % given).to_string() == layer);
                of.map(|n| format!("blk.{n}.{part}")).collect()
            }
            None => vec![tensor.name.clone()],
        };
        for name in names {
            writer.tensor(name, &tensor.dims, tensor.dtype).unwrap();
            data.push(block_on(checkpoint.read(tensor, 0..tensor.bytes())).unwrap());
        }
    }
    let (mut out, mut data) = (Vec::new(), data.into_iter());
    writer.write(&mut out, |_, out| out.write_all(&data.next().unwrap())).unwrap();
    out
}

/// Layers with equal stacks share slots, even if other layers are between them; the warning counts them once.
#[test]
fn expert_slots_are_counted_once() {
    // The layers' down projections alternate between two types.
    let model = engine::model(repeated(engine::file("tiny-qwen3moe", "Q4_K_M"), 6));
    let options = context_of(64).kv(KvType::F16);
    let all = plan_memory(&model, &caps(128 << 20, None), &options).expect("it fits");
    assert!(all.offloaded.is_empty());
    let needed = all.dispatch_list.bytes().total();
    let mut planned = 0;
    for memory in [needed - 1, needed - needed / 8, needed - needed / 4] {
        let Ok(plan) = plan_memory(&model, &caps(128 << 20, Some(memory)), &options) else { continue };
        let stacks: Vec<_> = plan.offloaded.iter().map(|layer| layer.stacks).collect();
        assert!(stacks.len() == 6 && stacks[0] != stacks[1] && stacks[0] == stacks[2] && stacks[1] == stacks[5]);
        let room = |stacks: &[_; 3]| plan.dispatch_list.graph.experts_of(stacks[0]);
        let room: u32 = stacks[..2].iter().map(room).sum();
        assert!((16..48).contains(&room), "{room} of 48");
        let said = plan.notices.iter().find(|notice| notice.contains("experts fit")).expect("a notice");
        assert!(said.starts_with(&format!("{room} of 48 experts fit")), "{room}: {said}");
        // A token reads the missing ones of four experts in each layer.
        let expert = |layer: usize| {
            let parts = &plan.offloaded[layer].parts;
            parts.iter().map(|part| u64::from(part.rows()) * part.row_bytes()).sum::<u64>()
        };
        let token = 4 * (0..6).map(expert).sum::<u64>() * u64::from(48 - room) / 48;
        let mib = token as f64 / f64::from(1 << 20);
        assert!(said.contains(&format!("{mib:.0} MiB per token")), "{mib}: {said}");
        planned += 1;
    }
    assert!(planned >= 2, "{planned} of three sizes fit");
}
