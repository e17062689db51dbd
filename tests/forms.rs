//! Constrained answers of the real server in every API: tool calls together with a response format, truncated tool
//! calls, the fields of other servers for response formats, and reports of schema keywords that are not enforced.

mod http;

use std::cell::Cell;

use http::{Reply, Served, serve, stories};
use serde_json::{Map, Value, json};

/// The APIs with tools.
const DIALECTS: [&str; 4] = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"];

/// A server with the trained model, if it exists. The context is larger than the model's 512 positions, which the
/// descriptions of tools nearly fill.
fn server() -> Option<Served> {
    let path = stories()?;
    Some(serve(&[path.to_str().expect("UTF-8"), "--context", "1024", "--parallel", "4"]))
}

/// An answer: a text or a tool call with its arguments, and the finish reason.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    text: String,
    call: Option<(String, String)>,
    ended: String,
}

impl Answer {
    fn is_cut(&self) -> bool {
        ["length", "max_tokens", "max_output_tokens"].contains(&self.ended.as_str())
    }
}

/// A tool in an API's format.
fn tool(path: &str, name: &str, parameters: &Value) -> Value {
    match path {
        "/v1/messages" => json!({ "name": name, "input_schema": parameters }),
        "/v1/responses" => json!({ "type": "function", "name": name, "parameters": parameters }),
        _ => json!({ "type": "function", "function": { "name": name, "parameters": parameters } }),
    }
}

/// An API's field for a response format with a schema, and its value.
fn form(path: &str, schema: &Value) -> (&'static str, Value) {
    match path {
        "/v1/messages" => ("output_config", json!({ "format": { "type": "json_schema", "schema": schema } })),
        "/v1/responses" => ("text", json!({ "format": { "type": "json_schema", "name": "it", "schema": schema } })),
        "/api/chat" | "/api/generate" => ("format", schema.clone()),
        _ => ("response_format", json!({ "type": "json_schema", "json_schema": { "name": "it", "schema": schema } })),
    }
}

/// Sends a request in an API's format; `more` is added to the body.
fn ask(server: &Served, path: &str, seed: usize, tokens: usize, stream: bool, more: Value) -> Reply {
    let mut body = json!({ "seed": seed, "temperature": 1.5, "max_tokens": tokens, "max_output_tokens": tokens,
        "stream": stream, "options": { "seed": seed, "temperature": 1.5, "num_predict": tokens } });
    match path {
        "/v1/completions" | "/api/generate" => body["prompt"] = "Tim said".into(),
        "/v1/responses" => body["input"] = "Say it".into(),
        _ => body["messages"] = json!([{ "role": "user", "content": "Say it" }]),
    }
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = server.post(path, &body);
    assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
    reply
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// Reads a whole answer.
fn whole(path: &str, reply: &Reply) -> Answer {
    let json = reply.json();
    let mut answer = Answer::default();
    match path {
        "/v1/chat/completions" => {
            let choice = &json["choices"][0];
            answer.text = text(&choice["message"]["content"]);
            let function = &choice["message"]["tool_calls"][0]["function"];
            answer.call = function.is_object().then(|| (text(&function["name"]), text(&function["arguments"])));
            answer.ended = text(&choice["finish_reason"]);
        }
        "/v1/responses" => {
            for item in json["output"].as_array().unwrap() {
                match item["type"].as_str().unwrap() {
                    "function_call" => drop(answer.call.get_or_insert((text(&item["name"]), text(&item["arguments"])))),
                    _ => answer.text += &text(&item["content"][0]["text"]),
                }
            }
            let cut = &json["incomplete_details"]["reason"];
            answer.ended = if cut.is_null() { text(&json["status"]) } else { text(cut) };
        }
        "/v1/messages" => {
            for block in json["content"].as_array().unwrap() {
                match block["type"].as_str().unwrap() {
                    "tool_use" => {
                        answer.call.get_or_insert((text(&block["name"]), block["input"].to_string()));
                    }
                    _ => answer.text += &text(&block["text"]),
                }
            }
            answer.ended = text(&json["stop_reason"]);
        }
        _ => {
            answer.text = text(&json["message"]["content"]);
            let function = &json["message"]["tool_calls"][0]["function"];
            answer.call = function.is_object().then(|| (text(&function["name"]), function["arguments"].to_string()));
            answer.ended = text(&json["done_reason"]);
        }
    }
    answer
}

/// Reads a stream.
fn streamed(path: &str, reply: &Reply) -> Answer {
    let mut answer = Answer::default();
    let lines = if path.starts_with("/api") { reply.lines() } else { reply.events() };
    // Only the first of several calls is recorded.
    let calls = Cell::new(0);
    let open = |answer: &mut Answer, name: &Value| {
        calls.set(calls.get() + 1);
        answer.call.get_or_insert((text(name), String::new()));
    };
    let more = |answer: &mut Answer, piece: &Value| {
        let first = answer.call.as_mut().filter(|_| calls.get() == 1);
        first.into_iter().for_each(|(_, arguments)| *arguments += piece.as_str().unwrap_or_default());
    };
    for line in &lines {
        match path {
            "/v1/chat/completions" => {
                let (delta, finish) = (&line["choices"][0]["delta"], &line["choices"][0]["finish_reason"]);
                answer.text += &text(&delta["content"]);
                let function = &delta["tool_calls"][0]["function"];
                if function["name"].is_string() {
                    open(&mut answer, &function["name"]);
                }
                if function["arguments"].is_string() {
                    more(&mut answer, &function["arguments"]);
                }
                answer.ended += &text(finish);
            }
            "/v1/responses" => match line["type"].as_str().unwrap() {
                "response.output_text.delta" => answer.text += &text(&line["delta"]),
                "response.output_item.added" if line["item"]["type"] == "function_call" => {
                    open(&mut answer, &line["item"]["name"]);
                }
                "response.function_call_arguments.delta" => more(&mut answer, &line["delta"]),
                "response.completed" => answer.ended = "completed".into(),
                "response.incomplete" => answer.ended = text(&line["response"]["incomplete_details"]["reason"]),
                _ => {}
            },
            "/v1/messages" => {
                answer.text += &text(&line["delta"]["text"]);
                if line["content_block"]["type"] == "tool_use" {
                    open(&mut answer, &line["content_block"]["name"]);
                }
                if line["delta"]["type"] == "input_json_delta" {
                    more(&mut answer, &line["delta"]["partial_json"]);
                }
                answer.ended += &text(&line["delta"]["stop_reason"]);
            }
            _ => {
                answer.text += &text(&line["message"]["content"]);
                let function = &line["message"]["tool_calls"][0]["function"];
                if function.is_object() {
                    answer.call.get_or_insert((text(&function["name"]), function["arguments"].to_string()));
                }
                answer.ended += &text(&line["done_reason"]);
            }
        }
    }
    answer
}

/// The complete members of arguments that may be truncated.
fn members(arguments: &str) -> Map<String, Value> {
    let parts = arguments.char_indices().filter(|(_, c)| *c == ',').map(|(at, _)| &arguments[..at]);
    let closed = |part: &str| serde_json::from_str(&format!("{part}}}")).ok();
    serde_json::from_str(arguments).ok().or_else(|| parts.rev().find_map(closed)).unwrap_or_default()
}

/// Whether a whole and a streamed answer are equal. Some APIs parse the arguments of whole answers to an object.
fn same(path: &str, whole: &Answer, streamed: &Answer) -> bool {
    let arguments = |answer: &Answer| answer.call.as_ref().map(|(name, text)| (name.clone(), members(text)));
    match path {
        "/v1/messages" | "/api/chat" => {
            arguments(whole) == arguments(streamed) && (&whole.text, &whole.ended) == (&streamed.text, &streamed.ended)
        }
        _ => whole == streamed,
    }
}

fn place() -> Value {
    json!({ "type": "object", "properties": { "a": { "enum": [1, 2] }, "b": { "enum": ["Rome, Italy", "Oslo"] } },
        "required": ["a", "b"], "additionalProperties": false })
}

#[test]
fn an_answer_is_a_tool_call_or_has_the_response_format() {
    let Some(server) = server() else { return };
    let schema = json!({ "type": "object", "properties": { "yes": { "type": "boolean" } }, "required": ["yes"],
        "additionalProperties": false });
    for path in DIALECTS {
        let (name, value) = form(path, &schema);
        let more =
            |choice: Value| json!({ "tools": [tool(path, "place", &place())], name: value, "tool_choice": choice });
        let (mut calls, mut forms) = (0, 0);
        for seed in 0..40 {
            let stream = seed % 2 == 1;
            let reply = ask(&server, path, seed, 200, stream, more(Value::Null));
            let answer = if stream { streamed(path, &reply) } else { whole(path, &reply) };
            match &answer.call {
                Some((name, arguments)) => {
                    let read = members(arguments);
                    assert!(name == "place" && read.len() == 2 && answer.text.is_empty(), "{path}: {answer:?}");
                    calls += 1;
                }
                None => {
                    assert!(!answer.is_cut(), "{path}: {answer:?}");
                    let read: Value =
                        serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{path} {answer:?}: {e}"));
                    assert!(read["yes"].is_boolean(), "{path}: {answer:?}");
                    forms += 1;
                }
            }
            if calls > 1 && forms > 1 {
                break;
            }
        }
        assert!(calls > 0 && forms > 0, "{path}: {calls} calls and {forms} forms");
        // With tool_choice "none" only the format is possible, with "required" only a call.
        let (none, any) = match path {
            "/api/chat" => continue,
            "/v1/messages" => (json!({ "type": "none" }), json!({ "type": "any" })),
            _ => (json!("none"), json!("required")),
        };
        for seed in 0..4 {
            assert_eq!(whole(path, &ask(&server, path, seed, 200, false, more(none.clone()))).call, None, "{path}");
            assert!(whole(path, &ask(&server, path, seed, 200, false, more(any.clone()))).call.is_some(), "{path}");
        }
    }
}

#[test]
fn a_truncated_call_is_the_same_streamed_and_whole() {
    let Some(server) = server() else { return };
    for path in &DIALECTS[..3] {
        let choice = match *path {
            "/v1/messages" => json!({ "type": "any" }),
            _ => json!("required"),
        };
        for tokens in [1, 4, 12, 20, 28, 32, 34, 36, 38, 200] {
            let more = || json!({ "tools": [tool(path, "place", &place())], "tool_choice": choice });
            let one = whole(path, &ask(&server, path, 3, tokens, false, more()));
            let other = streamed(path, &ask(&server, path, 3, tokens, true, more()));
            assert!(same(path, &one, &other), "{path}, {tokens} tokens: {one:?} {other:?}");
            assert!(one.text.is_empty(), "{path}, {tokens} tokens: {one:?}");
            assert_eq!(one.call.as_ref().map(|(name, _)| name.as_str()), Some("place"), "{path}, {tokens}: {one:?}");
            assert_eq!(one.is_cut(), tokens < 40, "{path}, {tokens} tokens: {one:?}");
        }
    }
    // After a stop string within the arguments, the finish reason is "stop".
    let more = json!({ "tools": [tool(DIALECTS[0], "place", &place())], "tool_choice": "required", "stop": ["\"b\""] });
    let one = whole(DIALECTS[0], &ask(&server, DIALECTS[0], 3, 200, false, more));
    assert_eq!(one.ended, "stop", "{one:?}");
}

#[test]
fn fields_of_other_servers_work_on_every_path() {
    let Some(server) = server() else { return };
    let schema = json!({ "type": "object", "properties": { "n": { "enum": [1, 2] } }, "required": ["n"], "additionalProperties": false });
    let one = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|v| v["n"] == 1 || v["n"] == 2);
    let word = |text: &str| ["yes", "no"].contains(&text);
    let digits = |text: &str| text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
    type Check<'a> = &'a dyn Fn(&str) -> bool;
    let rows: Vec<(Value, Check)> = vec![
        (json!({ "response_format": { "type": "json_object", "schema": schema } }), &one),
        (json!({ "response_format": { "type": "json_schema", "schema": schema } }), &one),
        (json!({ "json_schema": schema }), &one),
        (json!({ "guided_json": schema.to_string() }), &one),
        (json!({ "structured_outputs": { "json": schema } }), &one),
        (json!({ "output_format": { "type": "json_schema", "schema": schema } }), &one),
        (json!({ "guided_choice": ["yes", "no"] }), &word),
        (json!({ "structured_outputs": { "choice": ["yes", "no"] } }), &word),
        (json!({ "guided_regex": "[0-9]{4}" }), &digits),
        (json!({ "grammar": "start: \"yes\" | \"no\"" }), &word),
    ];
    let at = |path: &str| match path {
        "/v1/completions" => "/choices/0/text",
        "/api/generate" => "/response",
        "/v1/messages" => "/content/0/text",
        "/v1/responses" => "/output/0/content/0/text",
        "/api/chat" => "/message/content",
        _ => "/choices/0/message/content",
    };
    for (i, (more, check)) in rows.iter().enumerate() {
        for path in [&DIALECTS[..], &["/v1/completions", "/api/generate"]].concat() {
            let reply = ask(&server, path, i, 60, false, more.clone()).json();
            let text = reply.pointer(at(path)).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {reply}"));
            assert!(check(text), "{path} {more}: {text:?}");
        }
    }
    // Several choices, log-probabilities and stop strings together with a response format.
    let more = json!({ "n": 3, "logprobs": true, "top_logprobs": 2, "stop": ["o"], "guided_choice": ["yes", "no"] });
    let reply = ask(&server, DIALECTS[0], 1, 60, false, more).json();
    for choice in reply["choices"].as_array().unwrap() {
        assert!(["yes", "n"].contains(&choice["message"]["content"].as_str().unwrap()), "{choice}");
        let bytes: Vec<u8> = choice["logprobs"]["content"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|t| t["bytes"].as_array().unwrap())
            .map(|b| b.as_u64().unwrap() as u8)
            .collect();
        assert!(word(&String::from_utf8(bytes).unwrap()), "{choice}");
    }
    for (more, words) in [
        (json!({ "grammar": "root ::= \"a\"" }), "grammar: GBNF"),
        (json!({ "guided_regex": "(" }), "guided_regex: "),
        (json!({ "guided_regex": "(?=a)b" }), "guided_regex: "),
        (json!({ "structural_tag": { "structures": [] } }), "structural_tag"),
        (
            json!({ "structured_outputs": { "json": { "type": "strnig" } } }),
            "structured_outputs.json: the JSON schema cannot be enforced: #/type",
        ),
    ] {
        for path in DIALECTS {
            let mut body = json!({ "messages": [{ "role": "user", "content": "x" }], "input": "x", "max_tokens": 3 });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let reply = server.post(path, &body);
            assert!(
                reply.status == 400 && reply.json().to_string().contains(&words.replace('"', "\\\"")),
                "{path} {more}: {reply:?}"
            );
        }
    }
}

#[test]
fn unenforced_schema_keywords_are_reported() {
    let Some(server) = server() else { return };
    let schema = json!({ "type": "object", "properties": { "größe, x": { "type": "array", "items": { "enum": [1] }, "uniqueItems": true, "maxItems": 2 } },
        "required": ["größe, x"], "additionalProperties": false });
    let header = "x-firelight-not-held: #/properties/gr%C3%B6%C3%9Fe%2C%20x/uniqueItems".to_lowercase() + "\r\n";
    for path in [&DIALECTS[..], &["/v1/completions", "/api/generate"]].concat() {
        for stream in [false, true] {
            let (name, value) = form(path, &schema);
            let reply = ask(&server, path, 1, 80, stream, json!({ name: value }));
            assert!(reply.head.contains(&header), "{path}: {}", reply.head);
        }
        let (name, value) = form(path, &place());
        let reply = ask(&server, path, 1, 80, false, json!({ name: value }));
        assert!(!reply.head.contains("x-firelight-not-held"), "{path}: {}", reply.head);
    }
    // A tool with an invalid schema does not affect other tools; as the only tool it is an error.
    let odd = json!({ "type": "object", "properties": { "a": { "type": "strnig" } } });
    for path in &DIALECTS[..3] {
        let choice = if *path == "/v1/messages" { json!({ "type": "any" }) } else { json!("required") };
        let tools = [tool(path, "place", &place()), tool(path, "odd", &odd)];
        let reply = ask(&server, path, 1, 80, false, json!({ "tools": tools, "tool_choice": choice }));
        assert!(reply.head.contains("x-firelight-not-held: odd#\r\n"), "{path}: {}", reply.head);
        let body = json!({ "messages": [{ "role": "user", "content": "x" }], "input": "x", "max_tokens": 3, "tools": tools[1..], "tool_choice": choice });
        let reply = server.post(path, &body);
        assert!(reply.status == 400 && reply.body.contains("#/properties/a/type"), "{path}: {reply:?}");
    }
}

#[test]
fn an_answer_truncated_within_a_character_ends_before_it() {
    let Some(server) = server() else { return };
    let mut lengths = Vec::new();
    for tokens in 1..12 {
        for path in ["/v1/completions", "/api/generate"] {
            for stream in [false, true] {
                let reply = ask(&server, path, 1, tokens, stream, json!({ "guided_choice": ["日本👩‍👩‍👧"] }));
                assert!(!reply.body.contains('\u{FFFD}') && !reply.body.contains("\\ufffd"), "{path}: {reply:?}");
                if path == "/v1/completions" && !stream {
                    lengths.push(text(&reply.json()["choices"][0]["text"]).chars().count());
                }
            }
        }
    }
    assert!(lengths.windows(2).all(|pair| pair[0] <= pair[1]) && lengths[10] > lengths[0], "{lengths:?}");
}
