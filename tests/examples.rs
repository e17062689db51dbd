//! Every example runs with the demo model and prints the expected output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

const EXAMPLES: [&str; 9] = [
    "batch",
    "conversation",
    "custom_source",
    "embeddings",
    "generate",
    "json_schema",
    "own_device",
    "threads",
    "tools",
];

/// The programs, built once with the features of this test.
fn programs() -> &'static BTreeMap<String, PathBuf> {
    static PROGRAMS: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let features = if cfg!(feature = "chat-tests") { "chat-tests" } else { "cli" };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--message-format=json", "--features", features]);
        build.args(EXAMPLES.map(|name| format!("--example={name}"))).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = build.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).expect("text");
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let program = |message: Value| {
            let name = message["target"]["name"].as_str()?;
            Some((name.to_owned(), PathBuf::from(message["executable"].as_str()?)))
        };
        messages.filter_map(program).collect()
    })
}

/// Runs an example and returns what it prints.
fn run(example: &str, arguments: &[&str]) -> String {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/demo.gguf");
    let output = Command::new(&programs()[example]).arg(model).args(arguments).output().expect("the example runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{example}: {out}\n{err}");
    out.into_owned()
}

#[test]
fn generate_answers() {
    assert!(run("generate", &["What can you do?"]).len() > 10);
}

#[test]
fn own_device_answers() {
    let question = "What can you do?";
    assert!(run("own_device", &[question]).len() > 10);
}

#[test]
fn conversation_keeps_its_history() {
    let out = run("conversation", &["What is Firelight?", "What can you do?"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "> What is Firelight?");
    let second = lines.iter().position(|line| *line == "> What can you do?").expect("a second question");
    assert!(second > 1 && lines.len() > second + 1, "{out}");
}

#[test]
fn batch_finishes_every_text() {
    let texts = ["One", "Two", "Three", "Four", "Five", "Six"];
    let out = run("batch", &texts);
    assert_eq!(out.lines().count(), texts.len(), "{out}");
    for text in texts {
        assert!(out.contains(&format!("\"{text}")), "{out}");
    }
}

#[test]
fn threads_are_all_answered() {
    let questions = ["What is Firelight?", "What can you do?", "Which files do you read?"];
    let out = run("threads", &questions);
    assert_eq!(out.lines().count(), questions.len(), "{out}");
    for question in questions {
        let line = out.lines().find(|line| line.starts_with(&format!("{question:?}: "))).expect("an answer");
        assert!(line.len() > question.len() + 10, "{out}");
    }
}

#[test]
fn embeddings_are_nearest_to_themselves() {
    let out = run("embeddings", &["a cat", "a cat", "the price of steam engines"]);
    let similarity: Vec<f32> =
        out.lines().map(|line| line.split(' ').next().expect("a number").parse().expect("a number")).collect();
    assert!(similarity[0] > 0.999 && similarity[1] > 0.999 && similarity[2] < similarity[1], "{out}");
}

#[test]
fn custom_source_reads_the_file_once() {
    let out = run("custom_source", &[]);
    let numbers: Vec<u64> = out.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let [header, read, len, tokens] = numbers[..] else { panic!("{out}") };
    assert!(header < len && read <= header + len && read > len / 2 && tokens > 0, "{out}");
}

#[test]
fn json_schema_is_followed() {
    let answer: Value = serde_json::from_str(&run("json_schema", &["Describe Paris."])).expect("JSON");
    assert!(answer["name"].is_string() && answer["inhabitants"].is_u64(), "{answer}");
    assert!(["France", "Germany", "Italy"].iter().any(|country| answer["country"] == *country), "{answer}");
}

#[test]
fn tools_are_called() {
    let out = run("tools", &["What is the weather in Rome?"]);
    let (call, answer) = out.split_once('\n').expect("two lines");
    let arguments = call.strip_prefix("get_weather(").and_then(|rest| rest.strip_suffix(')')).expect("a call");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    assert!(arguments["city"].is_string() && !answer.trim().is_empty(), "{out}");
}
