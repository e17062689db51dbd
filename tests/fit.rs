//! What does not fit is refused from the header alone, with the change that would help; what had to give way is said.

mod engine;

use firelight::Options;
use firelight::fit::fit;
use firelight::gpu::Caps;
use firelight::ops::KvType;

fn caps(max_binding: u64, memory: Option<u64>) -> Caps {
    Caps { max_binding, memory, ..Caps::baseline() }
}

fn context(n: u32) -> Options {
    Options { context: Some(n), ..Default::default() }
}

#[test]
fn what_does_not_fit_is_refused_with_a_way_on() {
    let model = engine::model(engine::file("tiny-llama3", "F32"));
    let plenty = 128 << 20;
    let cases = [
        (caps(plenty, None), context(0), "holds nothing"),
        (caps(plenty, None), context(1 << 22), "take --context"),
        (caps(1 << 12, None), context(32), "exceeds"),
        (caps(plenty, Some(1 << 20)), context(512), "1 MiB free"),
        (caps(plenty, None), Options { sequences: 1 << 20, ..context(32) }, "use fewer"),
    ];
    for (caps, options, want) in cases {
        let error = fit(&model, &caps, &options).map(|_| ()).expect_err(want).to_string();
        assert!(error.contains(want), "{error}");
    }
    assert!(fit(&model, &caps(plenty, Some(1 << 30)), &context(512)).is_ok());
    // Its heads have 8 values.
    let odd = engine::model(engine::file("tiny-odd", "F32"));
    let error = fit(&odd, &caps(plenty, None), &Options { kv: KvType::Q8_0, ..context(32) });
    let error = error.map(|_| ()).expect_err("no whole blocks").to_string();
    assert!(error.contains("take f16"), "{error}");
}

#[test]
fn a_context_that_gave_way_is_said() {
    let model = engine::model(engine::file("tiny-llama3", "F32"));
    let trained = model.config.context;
    let fitted = fit(&model, &caps(128 << 20, None), &context(trained + 32)).expect("it fits");
    assert!(fitted.notices.iter().any(|n| n.contains("trained for")), "{:?}", fitted.notices);
    let fitted = fit(&model, &caps(128 << 20, None), &Options::default()).expect("it fits");
    assert_eq!((fitted.context, fitted.notices.len()), (trained.min(4096), 0));
}
