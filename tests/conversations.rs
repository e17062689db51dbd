//! Conversations over HTTP: every API continues an answer that the client has begun, and reports the changes that a
//! template required.

mod http;

use std::fs;

use http::{Served, serve, stories};
use serde_json::{Value, json};

/// The path of each API, and the JSON pointers to the text of its answers and of its stream events.
const DIALECTS: [(&str, &str, &str); 4] = [
    ("/v1/chat/completions", "/choices/0/message/content", "/choices/0/delta/content"),
    ("/v1/responses", "/output/0/content/0/text", "/delta"),
    ("/v1/messages", "/content/0/text", "/delta/text"),
    ("/api/chat", "/message/content", "/message/content"),
];

fn body(path: &str, messages: &Value, stream: bool) -> Value {
    let mut body = json!({ "temperature": 0, "max_tokens": 12, "max_output_tokens": 12, "stream": stream,
        "options": { "temperature": 0, "num_predict": 12 } });
    body[if path == "/v1/responses" { "input" } else { "messages" }] = messages.clone();
    body
}

/// A greedy answer of twelve tokens, whole or as a stream.
fn answer(server: &Served, dialect: (&str, &str, &str), messages: &Value, stream: bool) -> String {
    let (path, whole, piece) = dialect;
    let reply = server.post(path, &body(path, messages, stream));
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    if !stream {
        return reply.json().pointer(whole).and_then(Value::as_str).unwrap_or_else(|| panic!("{reply:?}")).to_string();
    }
    let lines = if path.starts_with("/api") { reply.lines() } else { reply.events() };
    lines.iter().filter_map(|line| line.pointer(piece)?.as_str()).collect()
}

#[test]
fn a_final_assistant_message_is_continued() {
    let Some(model) = stories() else { return };
    let server = serve(&[model.to_str().expect("UTF-8")]);
    let messages = json!([
        { "role": "user", "content": "Tell me" },
        { "role": "assistant", "content": "Once upon a time, there was a little" },
    ]);
    // The built-in template's rendering, up to the end of the last message.
    let prompt = "[INST] Tell me [/INST] Once upon a time, there was a little";
    let asked = json!({ "prompt": prompt, "max_tokens": 12, "temperature": 0 });
    let text =
        server.post("/v1/completions", &asked).json()["choices"][0]["text"].as_str().expect("a text").to_string();
    assert!(text.starts_with(' '), "the answer continues with a new word: {text:?}");
    for dialect in DIALECTS {
        for stream in [false, true] {
            assert_eq!(answer(&server, dialect, &messages, stream), text, "{}", dialect.0);
        }
    }

    let path = DIALECTS[0].0;
    let with = |fields: Value, messages: &Value| {
        let mut body = body(path, messages, false);
        fields.as_object().expect("fields").iter().for_each(|(key, value)| body[key] = value.clone());
        server.post(path, &body)
    };
    for fields in [json!({ "continue_final_message": true }), json!({ "add_generation_prompt": false })] {
        assert_eq!(with(fields.clone(), &messages).json()["choices"][0]["message"]["content"], text, "{fields}");
        let refused = with(fields.clone(), &json!([{ "role": "user", "content": "Tell me" }]));
        let name = fields.as_object().expect("fields").keys().next().expect("a field");
        assert!(refused.status == 400 && refused.body.contains(name.as_str()), "{refused:?}");
    }
    for fields in [json!({ "continue_final_message": false }), json!({ "add_generation_prompt": true })] {
        assert_ne!(with(fields.clone(), &messages).json()["choices"][0]["message"]["content"], text, "{fields}");
    }
    let both = with(json!({ "continue_final_message": true, "add_generation_prompt": true }), &messages);
    assert!(both.status == 400 && both.body.contains("excludes it"), "{both:?}");
}

/// The restrictions of Gemma 2's template: no system messages, and alternating roles.
const STRICT: &str = "{% for m in messages %}\
    {% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
    {% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}\
    <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn template_changes_are_reported() {
    const HEADER: &str = "x-firelight-template-changes";
    let folder = std::env::temp_dir().join(format!("firelight-conversations-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    firelight::synth::write_hf("tiny-llama", "F32", &folder).expect("a model");
    fs::write(folder.join("chat_template.jinja"), STRICT).expect("a template");
    let server = serve(&[folder.to_str().expect("UTF-8")]);
    let plain = json!([{ "role": "user", "content": "hi" }]);
    let rules = json!([
        { "role": "system", "content": "be kind" },
        { "role": "user", "content": "hi" },
        { "role": "user", "content": "again" },
    ]);
    for (path, ..) in DIALECTS {
        for stream in [false, true] {
            let reply = server.post(path, &body(path, &plain, stream));
            assert!(reply.status == 200 && !reply.head.contains(HEADER), "{path}: {reply:?}");
            let mut body = body(path, &rules, stream);
            if path == "/v1/messages" {
                body["system"] = "be kind".into();
                body["messages"] = json!([rules[1], rules[2]]);
            }
            let reply = server.post(path, &body);
            let changes = reply.head.lines().find_map(|line| line.strip_prefix(HEADER)?.strip_prefix(": "));
            assert_eq!(
                (reply.status, changes),
                (200, Some("neighbours-joined, system-in-user-turn")),
                "{path}: {reply:?}"
            );
        }
    }
    // The command line uses the same normal forms.
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_firelight"));
    run.arg("run")
        .arg(&folder)
        .args(["hi", "--system", "be kind", "--max-tokens", "2", "-v"])
        .env("NODEVICE_SELECT", "1");
    let run = run.stdin(std::process::Stdio::null()).output().expect("the program runs");
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && log.contains("with changes: system-in-user-turn"), "{log}");
    // If no normal form helps, the error contains the template's message.
    fs::write(folder.join("chat_template.jinja"), "{{ raise_exception('never') }}").expect("a template");
    let server = serve(&[folder.to_str().expect("UTF-8")]);
    let reply = server.post(DIALECTS[0].0, &body(DIALECTS[0].0, &plain, false));
    assert!(reply.status == 400 && reply.body.contains("the chat template refuses: never"), "{reply:?}");
    fs::remove_dir_all(&folder).expect("it exists");
}
