//! The real server with a trained model of 260 thousand weights: every API, authorization and limits, many concurrent
//! clients, disconnects, and answers that follow schemas. `clients/` runs the official Python clients.

mod http;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::{Reply, Served, command, read, serve, stories};
use serde_json::{Value, json};

/// A server with the trained model, if it exists.
fn server(args: &[&str]) -> Option<Served> {
    let path = stories()?;
    let path = path.to_str().expect("UTF-8");
    Some(serve(&[&[path], args].concat()))
}

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// Waits until no request is active: the engine detects disconnects between steps.
fn wait_idle(server: &Served) {
    let begun = Instant::now();
    while server.metric("answers_running") + server.metric("requests_pending") > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.get("/metrics").body);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A greedy continuation of at most `n` tokens.
fn complete(server: &Served, prompt: &str, n: usize) -> Reply {
    server.post("/v1/completions", &json!({ "prompt": prompt, "max_tokens": n, "temperature": 0 }))
}

#[test]
fn greedy_text_equals_the_command_lines() {
    let Some(server) = server(&[]) else { return };
    let reply = complete(&server, "Once upon a time", 40).json();
    let text = ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.";
    assert_eq!(reply["choices"][0]["text"], text);
    assert_eq!(reply["usage"]["completion_tokens"], 40);
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
}

#[test]
fn streamed_and_whole_answers_are_equal() {
    let Some(server) = server(&[]) else { return };
    let ask = |path: &str, stream: bool| {
        let mut body = json!({ "temperature": 0, "max_tokens": 20, "max_output_tokens": 20, "stream": stream,
            "options": { "temperature": 0, "num_predict": 20 }, "logprobs": path == "/v1/chat/completions" });
        match path {
            "/v1/completions" => (body["prompt"], body["logprobs"]) = ("Tim and".into(), Value::Null),
            "/api/generate" => body["prompt"] = "Tim and".into(),
            "/v1/responses" => body["input"] = "Tim and".into(),
            _ => body["messages"] = user("Tim and"),
        }
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply
    };
    // JSON pointers to the text of a whole answer and of a stream event.
    let rows = [
        ("/v1/chat/completions", "/choices/0/message/content", "/choices/0/delta/content"),
        ("/v1/completions", "/choices/0/text", "/choices/0/text"),
        ("/v1/responses", "/output/0/content/0/text", "/delta"),
        ("/v1/messages", "/content/0/text", "/delta/text"),
        ("/api/chat", "/message/content", "/message/content"),
        ("/api/generate", "/response", "/response"),
    ];
    let mut texts = Vec::new();
    for (path, whole, piece) in rows {
        let text =
            ask(path, false).json().pointer(whole).unwrap_or_else(|| panic!("{path}")).as_str().unwrap().to_string();
        let streamed = ask(path, true);
        let lines = if path.starts_with("/api") { streamed.lines() } else { streamed.events() };
        let pieces: Vec<&str> = lines.iter().filter_map(|line| line.pointer(piece)?.as_str()).collect();
        assert_eq!(pieces.concat(), text, "{path}");
        assert!(pieces.len() > 5, "{path} comes in {} pieces", pieces.len());
        assert_eq!(streamed.body.ends_with("data: [DONE]\n\n"), path.contains("completions"), "{path}");
        texts.push(text);
    }
    // All APIs render the same prompt, except for completions, which have no template.
    for i in [2, 3, 4, 5] {
        assert_eq!(texts[i], texts[0], "{}", rows[i].0);
    }
    assert_ne!(texts[1], texts[0]);
}

#[test]
fn errors_have_each_apis_format() {
    let Some(server) = server(&[]) else { return };
    let chat = "/v1/chat/completions";
    let long = user(&"word ".repeat(3000));
    let hi = user("hi");
    let tool = json!({ "type": "function", "function": { "name": "f" } });
    // Path, body, status, and a part of the message.
    let rows: Vec<(&str, Value, u16, &str)> = vec![
        (chat, json!({}), 400, "messages"),
        (chat, json!([1]), 400, "JSON"),
        (chat, json!({ "messages": [] , "model": "gpt-5" }), 404, "available: stories260K"),
        (chat, json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }), 400, "image_url"),
        (chat, json!({ "messages": hi, "temperature": 1e9 }), 400, "temperature is 1000000000"),
        (chat, json!({ "messages": hi, "temperature": "hot" }), 400, "temperature: a number"),
        (chat, json!({ "messages": hi, "n": 1000 }), 400, "1000 answers"),
        (chat, json!({ "messages": hi, "n": 0 }), 400, "0 answers"),
        (chat, json!({ "messages": hi, "logprobs": true, "top_logprobs": 21 }), 400, "at most 20"),
        (chat, json!({ "messages": hi, "logit_bias": { "x": 1 } }), 400, "logit_bias"),
        (chat, json!({ "messages": hi, "logit_bias": { "1": 1e300 } }), 400, "logit_bias"),
        (chat, json!({ "messages": hi, "tools": [{}] }), 400, "tools[0]"),
        (chat, json!({ "messages": hi, "tool_choice": "required" }), 400, "no tools"),
        (
            chat,
            json!({ "messages": hi, "tools": [tool], "tool_choice": { "function": { "name": "g" } } }),
            400,
            "only f",
        ),
        (chat, json!({ "messages": hi, "response_format": { "type": "xml" } }), 400, "response_format"),
        (
            chat,
            json!({ "messages": hi, "response_format": { "type": "json_schema", "json_schema": { "schema":
            { "type": "object", "properties": { "a": { "type": "number", "minimum": 3, "maximum": 2 } }, "required": ["a"] } } } }),
            400,
            "schema",
        ),
        (chat, json!({ "messages": long, "stream": true }), 400, "the context of this server holds 512"),
        (chat, json!({ "messages": user(&"word ".repeat(1 << 20)) }), 400, "has at least 3"),
        ("/v1/completions", json!({ "prompt": "" , "max_tokens": 1, "suffix": "x" }), 400, "suffix"),
        ("/v1/completions", json!({ "prompt": [999999] }), 400, "999999"),
        ("/v1/completions", json!({ "prompt": [[]] }), 400, "empty"),
        ("/v1/responses", json!({ "input": "x", "previous_response_id": "resp_1" }), 400, "nothing is kept"),
        ("/v1/embeddings", json!({ "input": "x", "dimensions": 7 }), 400, "64 numbers"),
        ("/v1/messages", json!({ "messages": hi }), 400, "max_tokens"),
        ("/v1/messages", json!({ "messages": hi, "max_tokens": 1, "model": "claude" }), 404, "stories260K"),
        ("/v1/messages", json!({ "messages": long, "max_tokens": 1 }), 400, "tokens"),
        ("/api/chat", json!({ "messages": hi, "model": "llama3" }), 404, "stories260K"),
        ("/api/chat", json!({ "messages": hi, "keep_alive": "soon" }), 400, "keep_alive"),
        ("/api/generate", json!({ "prompt": "x", "format": 1 }), 400, "format"),
        ("/api/nothing", json!({}), 404, "/api/nothing"),
        ("/v1/nothing", json!({}), 404, "/v1/nothing"),
        ("/health", json!({}), 405, "method"),
    ];
    for (path, body, status, words) in rows {
        let reply = server.post(path, &body);
        let (json, what) =
            (reply.json(), format!("{path} {}: {reply:?}", body.to_string().chars().take(200).collect::<String>()));
        assert_eq!(reply.status, status, "{what}");
        let message = match path {
            p if p.starts_with("/api") => &json["error"],
            p if p.starts_with("/v1/messages") => {
                assert_eq!(json["type"], "error", "{what}");
                &json["error"]["message"]
            }
            _ => &json["error"]["message"],
        };
        assert!(message.as_str().is_some_and(|m| m.contains(words)), "{what} has no {words:?}");
    }
    assert_eq!(complete(&server, "Once", 3).status, 200, "the server still answers");
}

#[test]
fn the_server_survives_malformed_and_huge_requests() {
    let Some(server) = server(&[]) else { return };
    let bytes: Vec<Vec<u8>> = vec![
        b"\0\xff\xfe\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        [b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat(),
    ];
    for (i, bytes) in bytes.iter().enumerate() {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{i}: {}", String::from_utf8_lossy(&answer));
    }
    // A truncated body, one that is too large, and deeply nested JSON.
    let mut cut = server.send("POST", "/v1/completions", "", "");
    let _ = cut.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
    drop(cut);
    let reply = read(server.send("POST", "/v1/completions", "", &"x".repeat((16 << 20) + 1)));
    assert_eq!((reply.status, reply.body.contains("16 MiB")), (413, true), "{reply:?}");
    let deep = format!("{{\"prompt\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read(server.send("POST", "/v1/completions", "", &deep)).status, 400);
    // Hostile input for templates, tokenizers and grammars.
    let nested = (0..100).fold(json!({ "type": "integer" }), |inner, _| json!({ "type": "array", "items": inner }));
    let link = |i: usize| (format!("{i}"), json!({ "allOf": [{ "$ref": format!("#/$defs/{}", i + 1) }] }));
    let definitions: serde_json::Map<String, Value> = (0..20_000).map(link).collect();
    let chain = json!({ "$ref": "#/$defs/0", "$defs": definitions });
    for body in [
        json!({ "messages": user("\u{0}\u{1}\u{feff}💥"), "max_tokens": 2 }),
        json!({ "messages": user("</s><s>[INST]"), "max_tokens": 2 }),
        json!({ "messages": user("x"), "max_tokens": 2, "chat_template_kwargs": { "messages": 7, "bos_token": [1] } }),
        json!({ "messages": user("x"), "max_tokens": 2, "response_format": { "type": "json_schema", "json_schema": { "schema": nested } } }),
        json!({ "messages": user("x"), "max_tokens": 2, "format": chain }),
        json!({ "messages": user("x"), "max_tokens": 2, "response_format": { "type": "json_schema", "json_schema": { "schema":
            { "type": "string", "pattern": "(((((((((a*)*)*)*)*)*)*)*)*)b{1000,100000}" } } } }),
    ] {
        let status = server.post("/v1/chat/completions", &body).status;
        assert!([200, 400].contains(&status), "{status} {body}");
    }
    wait_idle(&server);
    assert_eq!(complete(&server, "Once", 3).status, 200);
}

#[test]
fn unsatisfiable_schemas_are_refused() {
    let Some(server) = server(&[]) else { return };
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
        json!({ "enum": [] }),
        json!({ "type": "nonsense" }),
        json!({ "allOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({ "type": "string", "pattern": "^(a" }),
        json!({ "$ref": "#/$defs/none" }),
        json!(false),
    ] {
        let form = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
        let body = json!({ "messages": user("x"), "max_tokens": 4, "stream": true, "response_format": form });
        let reply = server.post("/v1/chat/completions", &body);
        let words = reply.json()["error"]["message"].as_str().unwrap_or_default().contains("schema cannot be enforced");
        assert!(reply.status == 400 && words && reply.body.len() < 400, "{schema}: {reply:?}");
    }
}

#[test]
fn the_server_opens_no_connections() {
    let Some(server) = server(&[]) else { return };
    assert_eq!(complete(&server, "Once", 8).status, 200);
    let process = format!("/proc/{}", server.process());
    let Ok(files) = fs::read_dir(format!("{process}/fd")) else { return };
    let link = |file: fs::DirEntry| fs::read_link(file.path()).ok()?.to_str().map(str::to_string);
    let sockets: Vec<String> = files.flatten().filter_map(link).filter(|link| link.starts_with("socket:[")).collect();
    let mut seen = 0;
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        for line in fs::read_to_string(format!("{process}/net/{table}")).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if sockets.contains(&format!("socket:[{}]", fields[9])) {
                let port = u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).expect("a port");
                assert_eq!(port, server.address.port(), "{table}: {line}");
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "the listening socket is not among {sockets:?}");
}

#[test]
fn requests_need_a_key_a_known_host_and_an_allowed_origin() {
    let Some(server) =
        server(&["--api-key", "secret", "--allow-origin", "http://ui.example", "--allow-host", "llm.lan"])
    else {
        return;
    };
    let key = "Authorization: Bearer secret\r\n";
    // Headers, path and status.
    let rows = [
        ("", "/v1/models", 401),
        ("Authorization: Bearer wrong\r\n", "/v1/models", 401),
        ("Authorization: Basic secret\r\n", "/v1/models", 401),
        (key, "/v1/models", 200),
        ("X-API-Key: secret\r\n", "/v1/models", 200),
        ("", "/health", 200),
        ("", "/metrics", 401),
        ("", "/nothing", 401),
        ("Host: evil.example\r\nAuthorization: Bearer secret\r\n", "/v1/models", 403),
        ("Host: localhost:1\r\nAuthorization: Bearer secret\r\n", "/v1/models", 200),
        ("Host: llm.lan\r\nAuthorization: Bearer secret\r\n", "/v1/models", 200),
        ("Origin: http://evil.example\r\nAuthorization: Bearer secret\r\n", "/v1/models", 403),
        ("Origin: null\r\nAuthorization: Bearer secret\r\n", "/v1/models", 403),
        ("Origin: http://ui.example\r\nAuthorization: Bearer secret\r\n", "/v1/models", 200),
        ("Origin: http://llm.lan\r\nHost: llm.lan\r\nAuthorization: Bearer secret\r\n", "/v1/models", 200),
    ];
    for (headers, path, status) in rows {
        let reply = read(server.send("GET", path, headers, ""));
        assert_eq!(reply.status, status, "{headers}{path}: {reply:?}");
        let shared = reply.head.contains("access-control-allow-origin: http://ui.example");
        assert_eq!(shared, headers.contains("ui.example"), "{headers}: {reply:?}");
    }
    let asked = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n";
    for (origin, status) in [("http://ui.example", 204), ("http://evil.example", 403)] {
        let reply = read(server.send("OPTIONS", "/v1/chat/completions", &format!("Origin: {origin}\r\n{asked}"), ""));
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.head.contains("access-control-allow-headers: authorization"), status == 204, "{reply:?}");
    }
}

#[test]
fn public_addresses_need_a_key_or_insecure() {
    let Some(path) = stories() else { return };
    let path = path.to_str().unwrap();
    let run = |args: &[&str]| {
        let output = command(args).stderr(Stdio::piped()).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (code, error) = run(&[path, "--host", "0.0.0.0"]);
    assert!(code == Some(1) && error.contains("--api-key") && error.contains("--insecure"), "{error}");
    let (code, error) = run(&["no-such.gguf"]);
    assert!(code == Some(1) && error.contains("no-such.gguf"), "{error}");
    assert_eq!(run(&[path, "--insecure", "--api-key", "x"]).0, Some(2));
    let open = serve(&[path, "--host", "0.0.0.0", "--insecure"]);
    assert_eq!(open.get("/v1/models").status, 200);
}

/// Answers to prompts from this number of concurrent clients, and the tokens per second.
fn load(server: &Served, prompts: &[String], tokens: usize, clients: usize) -> (Vec<String>, f64) {
    let begun = Instant::now();
    let mut texts = vec![String::new(); prompts.len()];
    std::thread::scope(|scope| {
        for (client, texts) in texts.chunks_mut(prompts.len().div_ceil(clients)).enumerate() {
            let first = client * prompts.len().div_ceil(clients);
            scope.spawn(move || {
                for (prompt, text) in prompts[first..].iter().zip(texts) {
                    let reply = complete(server, prompt, tokens);
                    assert_eq!(reply.status, 200, "{reply:?}");
                    *text = reply.json()["choices"][0]["text"].as_str().expect("a text").to_string();
                }
            });
        }
    });
    (texts, (prompts.len() * tokens) as f64 / begun.elapsed().as_secs_f64())
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn concurrent_clients_get_the_same_answers_as_alone() {
    let Some(server) = server(&["--parallel", "8"]) else { return };
    let names = ["Tim", "Lily", "Tom", "Sue", "Ben", "Mia", "Max", "Anna"];
    let things = ["a dog", "the sun", "a red ball", "a big tree", "her mom"];
    let prompts: Vec<String> =
        names.iter().flat_map(|name| things.iter().map(move |thing| format!("One day {name} saw {thing}"))).collect();
    let (alone, single) = load(&server, &prompts, 24, 1);
    let (memory, bytes) = (resident(server.process()), server.metric("gpu_bytes"));
    let mut rates = Vec::new();
    // 200 requests in all.
    for clients in [4, 8, 16, 8] {
        let (texts, rate) = load(&server, &prompts, 24, clients);
        let same = texts.iter().zip(&alone).filter(|(a, b)| a == b).count();
        // Other kernels compute batches; if rounding decides a token, it and the following text may differ.
        assert!(same >= prompts.len() - 2, "{clients} clients: only {same} of {} are the same", prompts.len());
        rates.push(rate);
    }
    println!("tokens a second: alone {single:.0}, with 4, 8, 16, 8 clients {rates:.0?}");
    let eight = rates[1].max(rates[3]);
    assert!(eight >= 1.2 * single, "8 at once: {eight:.0} tokens a second, alone: {single:.0}");
    assert_eq!(server.metric("gpu_bytes"), bytes);
    if let (Some(before), Some(after)) = (memory, resident(server.process())) {
        assert!(after < before + (32 << 10), "{before} KiB became {after}");
    }
    wait_idle(&server);
    assert_eq!(server.metric("cancelled_total"), 0.0);
}

#[test]
fn disconnected_requests_are_cancelled_at_once() {
    let Some(server) = server(&["--parallel", "4", "--queue", "2000"]) else { return };
    assert_eq!(complete(&server, "Warm", 2).status, 200);
    let memory = resident(server.process());
    let body = json!({ "prompt": "Once upon a time", "max_tokens": 400, "stream": true }).to_string();
    let want = complete(&server, "Once upon a time", 12).body;
    for round in 0..50 {
        let mut streams: Vec<_> = (0..20).map(|_| server.send("POST", "/v1/completions", "", &body)).collect();
        // Some clients read a little first; the others disconnect while they wait.
        for stream in streams.iter_mut().step_by(7) {
            let mut some = [0; 64];
            stream.read_exact(&mut some).expect("it begins");
        }
        drop(streams);
        if round % 10 == 0 {
            let got = complete(&server, "Once upon a time", 12);
            assert_eq!(got.json()["choices"], serde_json::from_str::<Value>(&want).unwrap()["choices"]);
        }
    }
    wait_idle(&server);
    // No request generated all of its 400 tokens.
    assert!(server.metric("generated_tokens_total") < 20_000.0);
    if let (Some(before), Some(after)) = (memory, resident(server.process())) {
        assert!(after < before + (48 << 10), "{before} KiB became {after}");
    }
}

#[test]
fn a_slow_reader_does_not_block_others() {
    let Some(server) = server(&["--parallel", "2"]) else { return };
    let body = json!({ "prompt": "Once upon a time", "max_tokens": 450, "n": 3, "stream": true, "logprobs": 20 });
    let slow: Vec<_> = (0..2).map(|_| server.send("POST", "/v1/completions", "", &body.to_string())).collect();
    for _ in 0..5 {
        assert_eq!(complete(&server, "Tim", 5).status, 200);
    }
    // The slow clients' events are buffered.
    let texts: Vec<usize> = slow.into_iter().map(|stream| read(stream).events().len()).collect();
    assert!(texts.iter().all(|events| *events > 400), "{texts:?}");
}

#[test]
fn a_full_queue_responds_with_retry_after() {
    let Some(server) = server(&["--parallel", "1", "--queue", "1"]) else { return };
    let body = json!({ "prompt": "Once upon a time", "max_tokens": 450, "n": 4, "stream": true }).to_string();
    let busy: Vec<_> = (0..2).map(|_| server.send("POST", "/v1/completions", "", &body)).collect();
    let begun = Instant::now();
    while server.metric("requests_pending") < 2.0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    for (path, body) in [
        ("/v1/completions", json!({ "prompt": "x" })),
        ("/v1/messages", json!({ "messages": user("x"), "max_tokens": 1 })),
        ("/api/chat", json!({ "messages": user("x") })),
    ] {
        let reply = server.post(path, &body);
        assert_eq!((reply.status, reply.head.contains("retry-after: 1")), (429, true), "{reply:?}");
    }
    drop(busy);
    wait_idle(&server);
    assert_eq!(complete(&server, "x", 1).status, 200);
}

#[test]
fn conversations_reuse_the_prefix_cache() {
    let Some(server) = server(&[]) else { return };
    let mut messages = vec![json!({ "role": "user", "content": "Tell me of Tim. ".repeat(8) })];
    let ask = |messages: &[Value]| {
        let reply =
            server.post("/v1/chat/completions", &json!({ "messages": messages, "max_tokens": 16, "temperature": 0 }));
        (reply.json()["choices"][0]["message"].clone(), reply.json()["usage"].clone())
    };
    let (said, first) = ask(&messages);
    messages.extend([said, json!({ "role": "user", "content": "And then?" })]);
    let (_, second) = ask(&messages);
    let reused = second["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(reused >= first["prompt_tokens"].as_u64().unwrap(), "{first} {second}");
    // Choices of one prompt share its KV cache, in pages of 32.
    let many = server.post("/v1/completions", &json!({ "prompt": "Sue ".repeat(60), "n": 3, "max_tokens": 2 }));
    assert_eq!(many.json()["choices"].as_array().unwrap().len(), 3);
    let reused = server.metric("reused_tokens_total");
    assert!(reused >= f64::from(2 * 32), "{reused}");
}

#[test]
fn models_are_swapped_and_unloaded() {
    let Some(path) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let tiny = folder.path().join("tiny.gguf");
    let mut file = fs::File::create(&tiny).expect("a file");
    firelight::synth::write("tiny-qwen3", "F16", &mut file).expect("a model");
    let server = serve(&[path.to_str().unwrap(), tiny.to_str().unwrap(), "--context", "256"]);
    let loaded = || server.get("/health").json()["loaded"].clone();
    assert_eq!(loaded(), "stories260K");
    let names: Vec<Value> =
        server.get("/v1/models").json()["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(names, ["stories260K", "tiny"]);
    let ask = |model: &str, n: usize| {
        server.post("/v1/completions", &json!({ "model": model, "prompt": "Once", "max_tokens": n, "temperature": 0 }))
    };
    let want = ask("stories260K", 8).json()["choices"].clone();
    assert_eq!(ask("tiny", 4).status, 200);
    assert_eq!(loaded(), "tiny");
    let ps = server.get("/api/ps").json();
    assert_eq!((&ps["models"][0]["name"], &ps["models"][0]["context_length"]), (&json!("tiny"), &json!(256)));
    // Concurrent requests for both models wait for each other.
    std::thread::scope(|scope| {
        for i in 0..6 {
            let (ask, want) = (&ask, &want);
            scope.spawn(move || match i % 2 {
                0 => assert_eq!(ask("stories260K", 8).json()["choices"], *want),
                _ => assert_eq!(ask("tiny", 8).status, 200),
            });
        }
    });
    // Only the named model is unloaded.
    assert_eq!(ask("tiny", 4).status, 200);
    let unload = |model: &str| server.post("/api/generate", &json!({ "model": model, "keep_alive": 0 }));
    assert_eq!(unload("stories260K").status, 200);
    assert_eq!(loaded(), "tiny");
    let reply = unload("tiny");
    assert_eq!(reply.json()["done_reason"], "unload", "{reply:?}");
    assert_eq!((loaded(), server.metric("gpu_bytes")), (Value::Null, 0.0));
    assert_eq!(
        server.post("/api/chat", &json!({ "model": "tiny", "keep_alive": "10m" })).json()["done_reason"],
        "load"
    );
    assert_eq!(loaded(), "tiny");
    // The model is unloaded after an answer with a short keep_alive.
    let last = json!({ "model": "tiny", "prompt": "a", "stream": false, "keep_alive": "10ms", "options": { "num_predict": 2 } });
    assert_eq!(server.post("/api/generate", &last).status, 200);
    let begun = Instant::now();
    while loaded() != Value::Null {
        assert!(begun.elapsed() < Duration::from_secs(10), "it stays");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn killing_the_server_truncates_streams() {
    let Some(server) = server(&[]) else { return };
    let body = json!({ "prompt": "Once upon a time", "max_tokens": 400, "stream": true });
    let mut stream = server.send("POST", "/v1/completions", "", &body.to_string());
    let mut some = [0; 256];
    stream.read_exact(&mut some).expect("it begins");
    drop(server);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"), "a truncated stream must not look complete");
}

/// A deterministic random number generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % n
    }
}

/// A random schema with common keywords.
fn schema(dice: &mut Dice, depth: u64) -> Value {
    match dice.below(if depth == 0 { 6 } else { 9 }) {
        0 => json!({ "type": "integer", "minimum": dice.below(10), "maximum": 10 + dice.below(90) }),
        1 => json!({ "type": "boolean" }),
        2 => json!({ "type": "null" }),
        3 => json!({ "enum": ["red", "gr\"een", 7, null, "ü"] }),
        4 => json!({ "type": "string", "maxLength": dice.below(8) }),
        5 => json!({ "const": { "a": [1, "b"] } }),
        6 => {
            json!({ "type": "array", "items": schema(dice, depth - 1), "minItems": dice.below(2), "maxItems": 1 + dice.below(3) })
        }
        7 => json!({ "anyOf": [schema(dice, depth - 1), schema(dice, depth - 1)] }),
        _ => {
            let names = ["name", "age", "tags", "x y", "größe"];
            let count = 1 + dice.below(4) as usize;
            let properties: BTreeMap<&str, Value> =
                names[..count].iter().map(|name| (*name, schema(dice, depth - 1))).collect();
            let required: Vec<&str> = names[..count].iter().copied().filter(|_| dice.below(3) > 0).collect();
            json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
        }
    }
}

/// Whether a value conforms to a schema of [`schema`].
fn fits(schema: &Value, value: &Value) -> bool {
    if let Some(constant) = schema.get("const") {
        return value == constant;
    }
    if let Some(choices) = schema["enum"].as_array() {
        return choices.contains(value);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().any(|choice| fits(choice, value));
    }
    let bound =
        |key: &str, n: u64, upper: bool| schema[key].as_u64().is_none_or(|b| if upper { n <= b } else { n >= b });
    match schema["type"].as_str().expect("a type") {
        "integer" => value.as_u64().is_some_and(|n| bound("minimum", n, false) && bound("maximum", n, true)),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "string" => value.as_str().is_some_and(|s| bound("maxLength", s.chars().count() as u64, true)),
        "array" => value.as_array().is_some_and(|items| {
            let n = items.len() as u64;
            bound("minItems", n, false)
                && bound("maxItems", n, true)
                && items.iter().all(|item| fits(&schema["items"], item))
        }),
        "object" => value.as_object().is_some_and(|members| {
            let required = schema["required"].as_array().expect("a list");
            required.iter().all(|name| members.contains_key(name.as_str().unwrap()))
                && members.iter().all(|(name, value)| schema["properties"].get(name).is_some_and(|s| fits(s, value)))
        }),
        other => panic!("{other}"),
    }
}

#[test]
fn every_complete_answer_conforms_to_its_schema() {
    let server = serve(&["demo", "--parallel", "8"]);
    let mut dice = Dice(7);
    let schemas: Vec<Value> = (0..208)
        .map(|_| {
            let inner = schema(&mut dice, 2);
            json!({ "type": "object", "properties": { "it": inner }, "required": ["it"], "additionalProperties": false })
        })
        .collect();
    let finished = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for part in schemas.chunks(26) {
            let (server, finished) = (&server, &finished);
            scope.spawn(move || {
                for (seed, schema) in part.iter().enumerate() {
                    let form = json!({ "type": "json_schema", "json_schema": { "name": "it", "schema": schema } });
                    let body = json!({ "messages": user("Say it"), "temperature": 1, "seed": seed, "max_tokens": 300, "response_format": form });
                    let reply = server.post("/v1/chat/completions", &body);
                    assert_eq!(reply.status, 200, "{schema}: {reply:?}");
                    let choice = &reply.json()["choices"][0];
                    if choice["finish_reason"] == "stop" {
                        let text = choice["message"]["content"].as_str().expect("a text");
                        let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{schema}: {e}: {text}"));
                        assert!(fits(schema, &value), "{schema}: {text}");
                        finished.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let finished = finished.into_inner();
    assert!(finished >= 198, "only {finished} of 208 answers are complete");
}

#[test]
fn fits_detects_violations() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 2, "maximum": 5 } },
        "required": ["a"], "additionalProperties": false });
    assert!(fits(&schema, &json!({ "a": 2 })));
    for bad in
        [json!({}), json!({ "a": 1 }), json!({ "a": 6 }), json!({ "a": "2" }), json!({ "a": 2, "b": 1 }), json!([])]
    {
        assert!(!fits(&schema, &bad), "{bad}");
    }
}

/// A Python with the official clients, or `None` (with a note; a failure in CI) if they cannot be installed.
fn python() -> Option<String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let (python, requirements) =
        (place.join("bin/python"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/requirements.txt"));
    let run = |program: &Path, args: &[&str]| {
        Command::new(program).args(args).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let (place, requirements) = (place.to_str()?, requirements.to_str()?);
    let ready =
        || run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]);
    let made = run(&python, &["-c", "import anthropic, ollama, openai"])
        || (run(Path::new("python3"), &["-m", "venv", place]) && ready());
    if made {
        return Some(python.to_str()?.to_string());
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "the official clients cannot be installed: Python 3 with venv and PyPI is needed"
    );
    eprintln!("skipped: the official clients cannot be installed");
    None
}

#[test]
fn the_official_clients_work() {
    // Descriptions of two tools nearly fill the model's default context of 512 positions.
    let Some(server) = server(&["--context", "1024"]) else { return };
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/clients.py");
    let address = format!("http://{}", server.address);
    let output = Command::new(python).arg(script).args([&address, "stories260K"]).output().expect("Python runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
