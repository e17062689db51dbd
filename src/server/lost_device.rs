//! A device that is lost in the middle of a streamed answer: the stream goes on without an error.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};

use firelight::engine::ModelRef;
use firelight::gpu::GpuOptions;
use firelight::session::SessionOptions;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Auth, Registry, Server, Setup, accept, forgiving, router};

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A server of the built-in model, on a thread that ends with the tests.
fn start() -> (SocketAddr, Server) {
    let (tell, started) = mpsc::channel();
    std::thread::spawn(move || {
        let registry = Registry::open(&[ModelRef::BuiltIn]).expect("the built-in model");
        let setup = Setup {
            gpu: GpuOptions::default(),
            session: SessionOptions::default().context(256).sequences(2),
            queue: 8,
            keep_alive: None,
            on_device: |_| {},
            on_warning: |warning| WARNINGS.lock().expect("it").push(warning.into()),
        };
        let auth = Auth { key: None, hosts: vec![], origins: vec![] };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let server = Server::new(auth, registry, setup);
            server.engine.keep("", None).await.expect("it is loaded");
            tell.send((listener.local_addr().expect("an address"), server.clone())).expect("the test waits");
            accept(listener, forgiving(router(server))).await;
        });
    });
    started.recv().expect("a server")
}

/// The pieces of a streamed answer, and its error; after some pieces `lose` is called.
fn ask(address: SocketAddr, lose: impl Fn()) -> (Vec<String>, Option<String>) {
    let messages = json!([{ "role": "user", "content": "What can you do?" }]);
    let body =
        json!({ "messages": messages, "max_tokens": 40, "seed": 1, "temperature": 0, "stream": true }).to_string();
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("it reads");
    let (mut pieces, mut failure) = (Vec::new(), None);
    for line in BufReader::new(stream).lines() {
        let line = line.expect("a line");
        let Some(event) = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok()) else {
            continue;
        };
        let piece = event["choices"][0]["delta"]["content"].as_str().filter(|piece| !piece.is_empty());
        pieces.extend(piece.map(str::to_string));
        failure = failure.or_else(|| event["error"]["message"].as_str().map(str::to_string));
        if piece.is_some() && pieces.len() == 4 {
            lose();
        }
    }
    (pieces, failure)
}

#[test]
fn a_stream_goes_on_after_a_lost_device() {
    let (address, server) = start();
    let (undisturbed, failure) = ask(address, || {});
    assert!(undisturbed.len() > 8 && failure.is_none(), "{undisturbed:?} {failure:?}");
    let whole = undisturbed.concat();
    let (disturbed, failure) = ask(address, || server.engine.lose_device());
    assert_eq!((disturbed.concat(), failure), (whole.clone(), None));
    let warnings = WARNINGS.lock().expect("it").clone();
    assert!(warnings.iter().filter(|warning| warning.contains("the GPU was lost")).count() == 1, "{warnings:?}");
    assert_eq!(ask(address, || {}).0.concat(), whole, "the next one has a device");

    // A device that is lost again at once is an error; the next request opens another one.
    let (begun, failure) = ask(address, || server.engine.lose_device());
    assert!(
        whole.starts_with(&begun.concat()) && begun.concat() != whole && failure.is_some(),
        "{begun:?} {failure:?}"
    );
    assert_eq!(ask(address, || {}), (undisturbed, None));
}
