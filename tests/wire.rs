//! Compatibility with real clients: CORS preflights, number formats, unsupported fields, digests and sizes, token
//! counts, and embeddings concurrent with answers.

mod http;

use std::time::{Duration, Instant};

use http::{Reply, Served, read, serve, stories};
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

/// The paths that generate, and their minimal bodies.
fn dialects() -> Vec<(&'static str, Value)> {
    let hi = user("hi");
    vec![
        ("/v1/chat/completions", json!({ "messages": hi, "max_tokens": 2 })),
        ("/v1/completions", json!({ "prompt": "hi", "max_tokens": 2 })),
        ("/v1/responses", json!({ "input": "hi", "max_output_tokens": 2 })),
        ("/v1/messages", json!({ "messages": hi, "max_tokens": 2 })),
        ("/api/chat", json!({ "messages": hi, "stream": false, "options": { "num_predict": 2 } })),
        ("/api/generate", json!({ "prompt": "hi", "stream": false, "options": { "num_predict": 2 } })),
    ]
}

/// `body` with more members; objects are merged recursively.
fn with(mut body: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().expect("an object") {
        match (value, body.get(key).cloned()) {
            (Value::Object(_), Some(inner @ Value::Object(_))) => body[key] = with(inner, value),
            _ => body[key] = value.clone(),
        }
    }
    body
}

fn message(path: &str, reply: &Reply) -> String {
    let json = reply.json();
    let error = if path.starts_with("/api") { &json["error"] } else { &json["error"]["message"] };
    error.as_str().unwrap_or_else(|| panic!("{path}: {reply:?}")).to_string()
}

#[test]
fn preflights_allow_the_requested_headers_and_methods() {
    let Some(server) = server(&["--allow-origin", "http://ui.example", "--api-key", "k"]) else { return };
    let ask = |origin: &str, method: &str, headers: &str, more: &str| {
        let head = format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: {headers}\r\n{more}"
        );
        read(server.send("OPTIONS", "/v1/chat/completions", &head, ""))
    };
    // Headers of current client libraries; any other must work, too.
    for headers in [
        "authorization,content-type,x-stainless-lang,x-stainless-os,x-stainless-retry-count,x-stainless-timeout",
        "anthropic-dangerous-direct-browser-access,anthropic-version,content-type,x-api-key",
        "http-referer,x-title,user-agent,helicone-auth",
    ] {
        let reply = ask("http://ui.example", "POST", headers, "");
        assert_eq!(reply.status, 204, "{reply:?}");
        for line in [
            &format!("access-control-allow-headers: {headers}"),
            "access-control-allow-methods: post",
            "access-control-allow-origin: http://ui.example",
            "access-control-max-age: 7200",
            "vary: access-control-request-headers",
            "vary: origin",
        ] {
            assert!(reply.head.contains(line), "{line}: {}", reply.head);
        }
        assert!(!reply.head.contains("private-network: true"), "{}", reply.head);
        let refused = ask("http://evil.example", "POST", headers, "Access-Control-Request-Private-Network: true\r\n");
        assert_eq!(refused.status, 403);
        assert!(!refused.head.contains("access-control-allow"), "{}", refused.head);
    }
    let private = ask("http://ui.example", "DELETE", "x-a", "Access-Control-Request-Private-Network: true\r\n");
    assert!(private.head.contains("access-control-allow-private-network: true"), "{}", private.head);
    assert!(private.head.contains("access-control-allow-methods: delete"), "{}", private.head);
    // Pages may read responses, including errors.
    for (key, status) in [("k", 200), ("wrong", 401)] {
        let head = format!("Origin: http://ui.example\r\nAuthorization: Bearer {key}\r\n");
        let reply = read(server.send("GET", "/v1/models", &head, ""));
        assert_eq!(reply.status, status);
        for line in
            ["access-control-allow-origin: http://ui.example", "access-control-expose-headers: *", "vary: origin"]
        {
            assert!(reply.head.contains(line), "{line}: {}", reply.head);
        }
    }
}

#[test]
fn numbers_and_nulls_are_read_as_by_other_servers() {
    let Some(server) = server(&[]) else { return };
    let everywhere = [
        json!({ "model": null, "stream": null, "temperature": null, "top_p": null, "seed": null, "stop": null, "options": null }),
        json!({ "top_k": -1, "seed": -1, "options": { "top_k": -1, "seed": -1 } }),
        json!({ "top_k": 40.0, "seed": 42.0, "temperature": 0, "top_p": 1, "options": { "top_k": 40.0, "seed": 42.0, "temperature": 0 } }),
        json!({ "seed": u64::MAX, "top_k": 1e12, "options": { "seed": u64::MAX, "num_ctx": 4096.0, "num_gpu": -1 } }),
        json!({ "repeat_penalty": 1.1, "repetition_penalty": 1.1, "options": { "repeat_penalty": 1.1, "repetition_penalty": 1.1 } }),
        json!({ "tools": null, "tool_choice": null, "metadata": null, "thinking": null, "format": null, "think": null }),
        json!({ "logit_bias": null, "stream_options": null, "n": null, "logprobs": null, "response_format": null }),
        json!({ "unheard_of": { "a": [1] }, "user": "me", "cache_prompt": true, "options": { "unheard_of": 1 } }),
    ];
    for (path, body) in dialects() {
        for more in &everywhere {
            // `null` overwrites the body's `stream`, and these APIs stream by default.
            let mut body = with(body.clone(), more);
            if path.starts_with("/api") {
                body["stream"] = false.into();
            }
            let reply = server.post(path, &body);
            assert_eq!(reply.status, 200, "{path} {more}: {reply:?}");
        }
    }
    let said = |path: &str, body: &Value| server.post(path, body).json();
    // Integers in any notation limit the answer; negative ones do not.
    let chat = |more: Value| said("/v1/chat/completions", &with(json!({ "messages": user("hi"), "seed": 1 }), &more));
    for (more, tokens) in [
        (json!({ "max_tokens": 3.0 }), 3),
        (json!({ "max_completion_tokens": 3, "max_tokens": 9 }), 3),
        (json!({ "max_completion_tokens": null, "max_tokens": 4 }), 4),
        (json!({ "n_predict": 5 }), 5),
    ] {
        assert_eq!(chat(more.clone())["usage"]["completion_tokens"], tokens, "{more}");
    }
    let unlimited = json!({ "prompt": "Once upon a time", "max_tokens": -1, "stop": ".", "temperature": 0 });
    assert!(said("/v1/completions", &unlimited)["usage"]["completion_tokens"].as_u64() > Some(8), "{unlimited}");
    for n in [json!(-1), json!(-2), json!(0), Value::Null] {
        let body = json!({ "prompt": "Once upon a time", "raw": true, "stream": false,
            "options": { "num_predict": n, "stop": ["."], "temperature": 0 } });
        assert!(said("/api/generate", &body)["eval_count"].as_u64() > Some(8), "{body}");
    }
    let unlimited = json!({ "messages": user("hi"), "max_tokens": -1, "stop_sequences": ["."] });
    assert_eq!(server.post("/v1/messages", &unlimited).status, 200);
    let ids = json!({ "prompt": [1.0, 403, 407.0], "max_tokens": 1.0, "n": 2.0, "logprobs": 1.0 });
    assert_eq!(said("/v1/completions", &ids)["choices"].as_array().map(Vec::len), Some(2));
    for stop in [json!("e"), json!(["e"])] {
        let body = json!({ "prompt": "Once upon a time", "stop": stop, "max_tokens": 30, "temperature": 0 });
        assert!(!said("/v1/completions", &body)["choices"][0]["text"].as_str().unwrap().contains('e'), "{body}");
    }
}

#[test]
fn errors_name_the_field_and_its_valid_values() {
    let Some(server) = server(&[]) else { return };
    let rows = [
        ("temperature", json!("hot"), "a number is expected, not \"hot\""),
        ("temperature", json!(-1), "from 0 to 100"),
        ("top_p", json!([1]), "a number is expected, not a list"),
        ("top_p", json!(1.5), "from 0 to 1"),
        ("min_p", json!(true), "a number is expected, not true"),
        ("top_k", json!(2.5), "a whole number is expected, not 2.5"),
        ("seed", json!("x"), "a whole number is expected"),
        ("repeat_penalty", json!(0), "must be from"),
        ("repetition_penalty", json!("x"), "a number is expected"),
        ("presence_penalty", json!({}), "a number is expected, not an object"),
        ("frequency_penalty", json!(1000), "from -100 to 100"),
        ("mirostat", json!(2), "not supported"),
        ("xtc_probability", json!(0.5), "not supported"),
    ];
    for (path, body) in dialects() {
        for (name, value, words) in &rows {
            let (full, more) = match path.starts_with("/api") {
                true => (format!("options.{name}"), json!({ "options": { *name: value } })),
                false => (name.to_string(), json!({ *name: value })),
            };
            let reply = server.post(path, &with(body.clone(), &more));
            let said = message(path, &reply);
            let named = said.starts_with(&format!("{full}: ")) && said.contains(words);
            assert!(reply.status == 400 && named, "{path} {name}: {value}: {reply:?}");
            if path.starts_with("/v1") && !path.starts_with("/v1/messages") {
                assert_eq!(reply.json()["error"]["param"], full, "{path}");
            }
        }
        for (name, value) in [("model", json!(7)), ("stream", json!("yes")), ("stream", json!(1))] {
            let reply = server.post(path, &with(body.clone(), &json!({ name: value })));
            assert!(
                reply.status == 400 && message(path, &reply).starts_with(&format!("{name}: ")),
                "{path}: {reply:?}"
            );
        }
    }
    let more = [
        ("/v1/chat/completions", json!({ "max_tokens": "9" }), "max_tokens"),
        ("/v1/chat/completions", json!({ "stop": 5 }), "stop"),
        ("/v1/chat/completions", json!({ "n": -1 }), "n"),
        ("/v1/chat/completions", json!({ "logprobs": 3 }), "logprobs"),
        ("/v1/chat/completions", json!({ "top_logprobs": 3 }), "top_logprobs"),
        ("/v1/chat/completions", json!({ "stream_options": { "include_usage": 1 } }), "stream_options.include_usage"),
        ("/v1/chat/completions", json!({ "messages": {} }), "messages"),
        ("/v1/completions", json!({ "prompt": { "a": 1 } }), "prompt"),
        ("/v1/responses", json!({ "max_output_tokens": 1.5 }), "max_output_tokens"),
        ("/v1/messages", json!({ "stop_sequences": [1] }), "stop_sequences"),
        ("/v1/messages", json!({ "max_tokens": null }), "max_tokens"),
        ("/v1/messages", json!({ "thinking": true }), "thinking"),
        ("/v1/responses", json!({ "reasoning": "high" }), "reasoning"),
        ("/api/generate", json!({ "options": { "num_predict": "8" } }), "options.num_predict"),
        ("/v1/messages", json!({ "messages": [{}] }), "messages[0].role"),
        ("/api/chat", json!({ "options": [] }), "options"),
        ("/api/chat", json!({ "think": "perhaps" }), "think"),
        ("/api/generate", json!({ "keep_alive": "soon" }), "keep_alive"),
        ("/api/generate", json!({ "raw": "x" }), "raw"),
        ("/api/embed", json!({ "input": "x", "truncate": "x" }), "truncate"),
        ("/api/embed", json!({ "input": 1 }), "input"),
        ("/v1/embeddings", json!({ "input": [[1, 2], []] }), "input[1]"),
        ("/v1/embeddings", json!({ "input": "a", "encoding_format": 1 }), "encoding_format"),
    ];
    for (path, body, name) in more {
        let least = dialects().into_iter().find(|(p, _)| *p == path).map_or(json!({}), |(_, body)| body);
        let reply = server.post(path, &with(least, &body));
        assert!(
            reply.status == 400 && message(path, &reply).starts_with(&format!("{name}: ")),
            "{path} {body}: {reply:?}"
        );
    }
}

#[test]
fn unsupported_fields_are_refused_by_name() {
    let Some(server) = server(&[]) else { return };
    let chat = "/v1/chat/completions";
    let rows = [
        (chat, json!({ "functions": [{ "name": "f" }] }), "functions"),
        (chat, json!({ "function_call": "auto" }), "function_call"),
        (chat, json!({ "modalities": ["text", "audio"] }), "modalities"),
        (chat, json!({ "stop_token_ids": [2] }), "stop_token_ids"),
        (chat, json!({ "min_tokens": 10 }), "min_tokens"),
        (chat, json!({ "ignore_eos": true }), "ignore_eos"),
        (chat, json!({ "use_beam_search": true }), "use_beam_search"),
        (chat, json!({ "chat_template": "{{ x }}" }), "chat_template"),
        ("/v1/completions", json!({ "best_of": 3 }), "best_of"),
        ("/v1/completions", json!({ "echo": true }), "echo"),
        ("/v1/completions", json!({ "suffix": "x" }), "suffix"),
        ("/v1/responses", json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
        ("/v1/responses", json!({ "conversation": "conv_1" }), "conversation"),
        ("/v1/responses", json!({ "background": true }), "background"),
        ("/v1/responses", json!({ "top_logprobs": 2 }), "top_logprobs"),
        ("/v1/responses", json!({ "include": ["message.output_text.logprobs"] }), "include"),
        ("/v1/messages", json!({ "mcp_servers": [{ "url": "x" }] }), "mcp_servers"),
        ("/v1/messages", json!({ "container": "c" }), "container"),
        ("/api/generate", json!({ "context": [1, 2] }), "context"),
        ("/api/generate", json!({ "template": "{{ .Prompt }}" }), "template"),
        ("/api/generate", json!({ "suffix": "x" }), "suffix"),
        ("/api/generate", json!({ "images": ["AAAA"] }), "images"),
        ("/api/embed", json!({ "input": "a", "dimensions": 16 }), "dimensions"),
        ("/v1/embeddings", json!({ "input": "a", "dimensions": 16 }), "dimensions"),
        ("/v1/embeddings", json!({ "input": "a", "dimensions": 0 }), "dimensions"),
        ("/api/show", json!({ "verbose": true }), "verbose"),
    ];
    for (path, body, name) in rows {
        let least = dialects().into_iter().find(|(p, _)| *p == path).map_or(json!({}), |(_, body)| body);
        let reply = server.post(path, &with(least, &body));
        assert!(
            reply.status == 400 && message(path, &reply).starts_with(&format!("{name}: ")),
            "{path} {body}: {reply:?}"
        );
    }
    // The same fields with neutral values are accepted.
    let idle = json!({ "functions": null, "function_call": "none", "modalities": ["text"], "stop_token_ids": [], "min_tokens": 0,
        "ignore_eos": false, "best_of": 1, "echo": false, "suffix": "", "context": [], "template": "", "images": [],
        "previous_response_id": null, "background": false, "include": ["reasoning.encrypted_content"], "mcp_servers": [],
        "typical_p": 1.0, "mirostat": 0, "length_penalty": 1.0, "skip_special_tokens": true, "top_logprobs": 0 });
    for (path, body) in dialects() {
        let reply = server.post(path, &with(body, &idle));
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    for path in ["/v1/embeddings", "/api/embed"] {
        assert_eq!(server.post(path, &json!({ "input": "a", "dimensions": 64, "options": {} })).status, 200, "{path}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_other_encodings_are_refused() {
    let Some(server) = server(&[]) else { return };
    for (path, body) in dialects() {
        let marked = format!("\u{feff}{body}");
        assert_eq!(read(server.send("POST", path, "", &marked)).status, 200, "{path}");
    }
    let twice = format!("\u{feff}\u{feff}{}", json!({ "prompt": "x" }));
    assert_eq!(read(server.send("POST", "/v1/completions", "", &twice)).status, 400);
    let packed = read(server.send("POST", "/v1/completions", "Content-Encoding: gzip\r\n", "x"));
    assert!(packed.status == 415 && packed.body.contains("gzip"), "{packed:?}");
}

#[test]
fn digests_sizes_and_times_are_plausible() {
    let Some(server) = server(&[]) else { return };
    let again = self::server(&[]).expect("the model");
    let model = |server: &Served| server.get("/api/tags").json()["models"][0].clone();
    let tags = model(&server);
    let digest = tags["digest"].as_str().expect("a digest");
    assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{digest}");
    assert_eq!(tags, model(&again), "the same file must have the same digest");
    let demo = serve(&["demo"]);
    assert_ne!(model(&demo)["digest"], tags["digest"]);
    for served in [&server, &demo] {
        let (tags, ps) = (model(served), served.get("/api/ps").json()["models"][0].clone());
        assert_eq!(ps["digest"], tags["digest"]);
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{tags} {ps}"));
        assert!(number(&tags["size"]) > 0 && number(&ps["size"]) >= number(&ps["size_vram"]), "{ps}");
        assert!(number(&ps["size_vram"]) > 0 && number(&ps["context_length"]) > 0, "{ps}");
        for time in [&tags["modified_at"], &ps["modified_at"], &ps["expires_at"]] {
            let time = time.as_str().expect("a time");
            assert!(time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
            assert!(time >= "2020", "{time}");
        }
        assert!(ps["expires_at"].as_str() > tags["modified_at"].as_str(), "{ps}");
        let show = served.post("/api/show", &json!({ "name": tags["name"] })).json();
        let info = &show["model_info"];
        let architecture = info["general.architecture"].as_str().expect("a text");
        for key in ["context_length", "embedding_length", "block_count"] {
            assert!(number(&info[&format!("{architecture}.{key}")]) > 0, "{info}");
        }
        assert!(number(&info["general.parameter_count"]) > 0);
        // With the capability "embedding", `ollama run` would only compute embeddings.
        assert!(!show["capabilities"].as_array().expect("a list").contains(&json!("embedding")), "{show}");
        assert_eq!(show["details"], tags["details"]);
        for key in ["format", "family", "parameter_size", "quantization_level"] {
            assert!(tags["details"][key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {tags}");
        }
        for key in ["modelfile", "parameters"] {
            assert!(show[key].as_str().is_some_and(|text| text.contains("temperature")), "{key}: {show}");
        }
        assert!(served.get("/v1/models").json()["data"][0]["created"].as_u64() > Some(1_500_000_000));
    }
}

/// `n` texts of about ten tokens.
fn texts(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("Tim saw {i} red balls in the park.")).collect()
}

#[test]
fn embeddings_are_the_same_alone_and_batched() {
    let Some(server) = server(&[]) else { return };
    let embed = |input: Value| {
        let reply = server.post("/api/embed", &json!({ "input": input, "model": "stories260K" }));
        assert_eq!(reply.status, 200, "{reply:?}");
        let vectors: Vec<Vec<f32>> = serde_json::from_value(reply.json()["embeddings"].clone()).expect("vectors");
        vectors
    };
    // Long and short texts, so that some steps contain the end of one and the beginning of the next.
    let mut input = texts(23);
    input[5] = "Once upon a time ".repeat(40);
    input[6] = "a".into();
    let many = embed(json!(input));
    assert_eq!(many.len(), input.len());
    for i in [0, 5, 6, 7, 22] {
        let alone = embed(json!(input[i])).remove(0);
        let far = alone.iter().zip(&many[i]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "text {i} differs by {far}");
        let length: f32 = alone.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    assert_eq!((embed(json!([])).len(), embed(json!("")).len()), (0, 0));
    // Too long texts are truncated where that is the API's default; otherwise the error names their index.
    let long = "Once upon a time ".repeat(400);
    assert_eq!(embed(json!(["a", long])).len(), 2);
    for (path, body) in [
        ("/v1/embeddings", json!({ "input": ["a", long] })),
        ("/api/embed", json!({ "input": ["a", long], "truncate": false })),
    ] {
        let reply = server.post(path, &body);
        assert!(reply.status == 400 && message(path, &reply).starts_with("input[1]: the prompt has"), "{reply:?}");
    }
    // Embeddings do not evict a conversation's cache.
    let body = json!({ "prompt": "Once upon a time ".repeat(20), "max_tokens": 1 });
    server.post("/v1/completions", &body);
    embed(json!(texts(40)));
    let cached =
        server.post("/v1/completions", &body).json()["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
    assert!(cached.as_u64() > Some(32), "{cached}");
}

/// Waits until a value of `/metrics` satisfies `done`. Returns the time it took.
fn wait(server: &Served, name: &str, done: impl Fn(f64) -> bool) -> Duration {
    let begun = Instant::now();
    while !done(server.metric(name)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", server.get("/metrics").body);
        std::thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

#[test]
fn embeddings_are_cancelled_and_share_time_with_answers() {
    let Some(server) = server(&["--parallel", "2"]) else { return };
    let body = |n| json!({ "input": texts(n) }).to_string();
    let begun = Instant::now();
    assert_eq!(read(server.send("POST", "/v1/embeddings", "", &body(200))).status, 200);
    let whole = begun.elapsed();
    // A disconnected request is cancelled after one step.
    let stream = server.send("POST", "/v1/embeddings", "", &body(2000));
    wait(&server, "requests_pending", |n| n == 1.0);
    drop(stream);
    let free = wait(&server, "requests_pending", |n| n == 0.0);
    assert!(free < whole, "{free:?} until 2,000 texts were cancelled, {whole:?} for 200");
    assert_eq!(server.metric("cancelled_total"), 1.0);
    // Answers and other embeddings complete while many texts are processed.
    let stream = server.send("POST", "/v1/embeddings", "", &body(2000));
    wait(&server, "requests_pending", |n| n == 1.0);
    for (path, body) in [
        ("/v1/completions", json!({ "prompt": "Once", "max_tokens": 4 })),
        ("/api/embed", json!({ "input": "Once upon a time" })),
        ("/v1/messages/count_tokens", json!({ "messages": user("hi") })),
    ] {
        let begun = Instant::now();
        assert_eq!(server.post(path, &body).status, 200, "{path}");
        assert!(begun.elapsed() < whole.max(Duration::from_secs(2)), "{path} took {:?}", begun.elapsed());
        assert!(server.metric("requests_pending") >= 1.0, "the texts are already done");
    }
    drop(stream);
    wait(&server, "requests_pending", |n| n == 0.0);
}

/// The usage in the first and in the last event of an Anthropic stream.
fn streamed_usage(reply: &Reply) -> (Value, Value) {
    let events = reply.events();
    let find = |kind: &str| events.iter().find(|e| e["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {reply:?}"));
    (find("message_start")["message"]["usage"].clone(), find("message_delta")["usage"].clone())
}

#[test]
fn cached_tokens_are_counted_as_each_api_defines() {
    let Some(server) = server(&["--context", "1024"]) else { return };
    let count = |value: &Value, name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name}: {value}"));
    let messages = |text: &str| json!([{ "role": "user", "content": text.repeat(12) }]);
    // Whole and streamed, in either order: the first request runs the whole prompt, the second only its uncached end.
    for (text, order) in [("Tim has a ball. ", [false, true]), ("Lily sees a cat. ", [true, false])] {
        let ask = json!({ "messages": messages(text) });
        let total = count(&server.post("/v1/messages/count_tokens", &ask).json(), "input_tokens");
        for (turn, stream) in order.into_iter().enumerate() {
            let body = json!({ "messages": messages(text), "max_tokens": 2, "stream": stream });
            let reply = server.post("/v1/messages", &body);
            let usages = match stream {
                true => {
                    let (start, end) = streamed_usage(&reply);
                    assert_eq!((count(&start, "output_tokens"), count(&end, "output_tokens")), (0, 2));
                    vec![start, end]
                }
                false => vec![reply.json()["usage"].clone()],
            };
            for usage in usages {
                let (input, cached) = (count(&usage, "input_tokens"), count(&usage, "cache_read_input_tokens"));
                assert_eq!(input + cached + count(&usage, "cache_creation_input_tokens"), total, "{usage}");
                assert_eq!(cached > total / 2, turn == 1, "turn {turn}: {usage} of {total}");
                assert!(input > 0, "{usage}");
            }
        }
        // In the other APIs, prompt tokens include cached ones.
        let chat = server.post("/v1/chat/completions", &json!({ "messages": messages(text), "max_tokens": 1 })).json();
        assert_eq!(count(&chat["usage"], "prompt_tokens"), total);
        assert_eq!(count(&chat["usage"]["prompt_tokens_details"], "cached_tokens"), total - 1, "{chat}");
        let responses =
            server.post("/v1/responses", &json!({ "input": messages(text), "max_output_tokens": 1 })).json();
        assert_eq!(count(&responses["usage"], "input_tokens"), total);
        assert_eq!(count(&responses["usage"]["input_tokens_details"], "cached_tokens"), total - 1, "{responses}");
        let body = json!({ "messages": messages(text), "stream": false, "options": { "num_predict": 1 } });
        assert_eq!(count(&server.post("/api/chat", &body).json(), "prompt_eval_count"), total);
    }
    // Several choices run their prompt once; the prompt that the later ones reuse does not count as cached.
    let body = json!({ "prompt": "Sue ran. ".repeat(20), "n": 3, "max_tokens": 2 });
    let usage = |body: &Value| server.post("/v1/completions", body).json()["usage"].clone();
    let (first, second) = (usage(&body), usage(&body));
    assert!(count(&first["prompt_tokens_details"], "cached_tokens") < 8, "{first}");
    assert_eq!(
        count(&second["prompt_tokens_details"], "cached_tokens"),
        count(&second, "prompt_tokens") - 1,
        "{second}"
    );
}

#[test]
fn ollama_reports_log_probabilities() {
    let Some(server) = server(&[]) else { return };
    for (path, ask) in [("/api/chat", json!({ "messages": user("hi") })), ("/api/generate", json!({ "prompt": "hi" }))]
    {
        let more = json!({ "logprobs": true, "top_logprobs": 2, "options": { "num_predict": 5, "temperature": 0 } });
        let body = with(ask, &more);
        let whole = server.post(path, &with(body.clone(), &json!({ "stream": false }))).json();
        let rows = whole["logprobs"].as_array().expect("a list").clone();
        assert_eq!(rows.len(), 5, "{path}: {whole}");
        for row in &rows {
            assert!(row["logprob"].as_f64() <= Some(0.0) && row["token"].is_string(), "{row}");
            assert_eq!(row["top_logprobs"].as_array().map(Vec::len), Some(2), "{row}");
        }
        let lines = server.post(path, &body).lines();
        let streamed: Vec<Value> =
            lines.iter().flat_map(|l| l["logprobs"].as_array().cloned().unwrap_or_default()).collect();
        let tokens = |rows: &[Value]| rows.iter().map(|row| row["token"].clone()).collect::<Vec<_>>();
        assert_eq!(tokens(&streamed), tokens(&rows), "{path}");
        let plain =
            server.post(path, &with(body, &json!({ "stream": false, "logprobs": false, "top_logprobs": 0 }))).json();
        assert!(plain.get("logprobs").is_none(), "{path}");
    }
}

#[test]
fn a_response_repeats_the_request_fields() {
    let Some(server) = server(&[]) else { return };
    let asked = json!({ "instructions": "Be short.", "max_output_tokens": 3, "metadata": { "a": "b" }, "temperature": 0.5,
        "top_p": 0.75, "parallel_tool_calls": false, "tool_choice": "auto" });
    let reply = server.post("/v1/responses", &with(json!({ "input": "hi" }), &asked)).json();
    for (name, value) in asked.as_object().unwrap() {
        assert_eq!(reply[name], *value, "{name}");
    }
    let plain = server.post("/v1/responses", &json!({ "input": "hi", "max_output_tokens": 3 })).json();
    assert!(plain["temperature"].as_f64() > Some(0.7) && plain["top_p"].as_f64() > Some(0.9), "{plain}");
    assert_eq!((&plain["parallel_tool_calls"], &plain["instructions"]), (&json!(true), &Value::Null));
}

#[test]
fn fields_of_other_apis_are_supported_or_refused() {
    let Some(server) = server(&["--context", "1024"]) else { return };
    // A bias makes one token almost certain.
    let bias = json!({ "logit_bias": { "400": 100 }, "temperature": 0 });
    let path = "/api/generate";
    let body =
        json!({ "prompt": "Once", "raw": true, "stream": false, "options": with(bias, &json!({ "num_predict": 4 })) });
    let text = server.post(path, &body).json()["response"].as_str().expect("a text").to_string();
    assert!(text.len() >= 4 && text == text[..text.len() / 4].repeat(4), "{text:?}");
    let cut = json!({ "input": "hi", "temperature": 0, "max_output_tokens": 20, "stop": [" "] });
    let said = server.post("/v1/responses", &cut).json()["output"][0]["content"][0]["text"].clone();
    assert!(said.as_str().is_some_and(|text| !text.contains(' ')), "{said}");
    let older = server.post("/v1/responses", &json!({ "input": "hi", "max_tokens": 3 })).json();
    assert_eq!(older["usage"]["output_tokens"], 3);
    let tool = json!({ "type": "function", "function": { "name": "now", "parameters": { "type": "object", "additionalProperties": false } } });
    let call = json!({ "messages": user("hi"), "tools": [tool], "tool_choice": "required", "stream": false });
    assert_eq!(server.post("/api/chat", &call).json()["message"]["tool_calls"][0]["function"]["name"], "now");
    let rows = [
        ("/v1/messages", json!({ "n": 2 }), "n"),
        ("/v1/messages", json!({ "logprobs": true }), "logprobs"),
        ("/v1/messages", json!({ "stop": "x" }), "stop"),
        (
            "/v1/messages",
            json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
            "tools[0].type",
        ),
        ("/v1/responses", json!({ "n": 2 }), "n"),
        ("/v1/responses", json!({ "logprobs": 1 }), "logprobs"),
        ("/v1/chat/completions", json!({ "best_of": 2 }), "best_of"),
        ("/api/chat", json!({ "n": 3 }), "n"),
        ("/api/chat", json!({ "logit_bias": { "1": 1 } }), "logit_bias"),
    ];
    for (path, body, name) in rows {
        let (_, least) = dialects().into_iter().find(|(p, _)| *p == path).expect("a path");
        let reply = server.post(path, &with(least, &body));
        assert!(
            reply.status == 400 && message(path, &reply).starts_with(&format!("{name}: ")),
            "{path} {body}: {reply:?}"
        );
    }
}

#[test]
fn extra_slashes_in_paths_are_ignored() {
    let Some(server) = server(&[]) else { return };
    for path in ["/v1/models/", "//v1/models", "/v1//models", "/api/tags/", "/health/", "//", "/v1/models/?a=b"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(server.post("/v1//completions/", &json!({ "prompt": "x", "max_tokens": 1 })).status, 200);
    assert_eq!(server.get("/v1/modelsx").status, 404);
    // Errors keep their API's format.
    assert!(server.post("//api//chat", &json!({ "messages": 1 })).json()["error"].is_string());
}

#[test]
fn matryoshka_models_shorten_embeddings() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("nested");
    std::fs::create_dir(&model).expect("a folder");
    firelight::synth::write_hf("tiny-qwen3", "F32", &model).expect("a model");
    let config = model.join("config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).expect("a file")).expect("JSON");
    json["is_matryoshka"] = true.into();
    std::fs::write(&config, json.to_string()).expect("written");
    let server = serve(&[model.to_str().expect("UTF-8"), "--context", "64"]);
    let vector = |path: &str, body: Value| -> Vec<f32> {
        let reply = server.post(path, &body);
        let at = if path == "/api/embed" { "/embeddings/0" } else { "/data/0/embedding" };
        serde_json::from_value(reply.json().pointer(at).unwrap_or_else(|| panic!("{reply:?}")).clone())
            .expect("numbers")
    };
    let body = json!({ "input": "abc" });
    let whole = vector("/v1/embeddings", body.clone());
    let length: f32 = whole[..16].iter().map(|x| x * x).sum::<f32>().sqrt();
    for path in ["/v1/embeddings", "/api/embed"] {
        let short = vector(path, with(body.clone(), &json!({ "dimensions": 16.0 })));
        assert_eq!(short.len(), 16, "{path}");
        assert!(short.iter().zip(&whole).all(|(a, b)| (a - b / length).abs() < 1e-4), "{path}: {short:?} {whole:?}");
        for wrong in [0, whole.len() + 1] {
            let reply = server.post(path, &with(body.clone(), &json!({ "dimensions": wrong })));
            // Ollama's API treats 0 as absent.
            assert_eq!(reply.status, if wrong == 0 && path == "/api/embed" { 200 } else { 400 }, "{path} {wrong}");
        }
    }
    assert_eq!(server.get("/api/tags").json()["models"][0]["details"]["format"], "safetensors");
}
