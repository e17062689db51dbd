//! Without a network, local models run and are served, and no connection is attempted.
#![cfg(target_os = "linux")]

mod http;
mod namespace;

use std::process::{Command, Stdio};

use http::serve;
use namespace::Counters;
use serde_json::json;

#[test]
fn without_a_network_local_models_run_and_are_served() {
    namespace::run("inside");
}

#[test]
#[ignore = "runs in a namespace, by the test above"]
fn inside() {
    let begun = namespace::begin();
    let mut run = Command::new(env!("CARGO_BIN_EXE_firelight"));
    run.args(["run", "demo", "--offline", "-n", "4", "Hello"]).stdin(Stdio::null());
    let output = run.output().expect("it runs");
    assert!(output.status.success() && !output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Counters::read(), begun, "running opened a connection");

    let server = serve(&["demo"]);
    let body = json!({ "prompt": "Hello", "max_tokens": 4 });
    const REQUESTS: u64 = 5;
    for _ in 0..REQUESTS {
        let reply = server.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let opened = begun.opened + REQUESTS;
    assert_eq!(
        Counters::read(),
        Counters { opened, ..begun },
        "serving opened connections other than those of the requests"
    );
}
