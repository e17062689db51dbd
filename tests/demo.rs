//! The demo model in the repository: its answers to held-out questions, its file, and that the commands and options in
//! its training data exist.
//!
//! `assets/demo/train/evaluate.py` runs the first test with other files: FIRELIGHT_DEMO is the model, and
//! FIRELIGHT_DEMO_QUESTIONS the questions; the answers are written to FIRELIGHT_DEMO_ANSWERS.

mod engine;

use firelight::model::Model;
use firelight::session::{FinishReason, SessionOptions};
use firelight::template::TemplateInput;
use pollster::block_on;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Deserialize)]
struct Question {
    kind: String,
    messages: Vec<serde_json::Value>,
    facts: Vec<String>,
}

impl Question {
    /// Whether an answer contains every fact; a story must also be complete.
    fn judge(&self, answer: &str) -> bool {
        let lower = answer.to_lowercase();
        let ended = self.kind != "story" || answer.trim_end().ends_with("The end.");
        ended && self.facts.iter().all(|fact| lower.contains(&fact.to_lowercase()))
    }
}

/// The required percentage of good answers by kind. One answer less passes, because adapters round differently.
const BARS: [(&str, usize); 3] = [("guide", 90), ("add", 95), ("foreign", 80)];

/// A file in the demo's folder.
fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo").join(name)
}

/// The file that an environment variable names, or else one in the demo's folder.
fn path(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| own(name), PathBuf::from)
}

fn demo() -> Model {
    block_on(Model::open(&path("FIRELIGHT_DEMO", "demo.gguf"))).expect("the demo model")
}

fn questions() -> Vec<Question> {
    let path = path("FIRELIGHT_DEMO_QUESTIONS", "heldout.jsonl");
    let text = std::fs::read_to_string(&path).expect("questions");
    text.lines().map(|line| serde_json::from_str(line).expect("a question")).collect()
}

/// Greedy answers, eight at once.
fn ask(model: &Model, questions: &[Question]) -> Vec<String> {
    let options = SessionOptions::default().sequences(8).chunk(128);
    let mut session = engine::session(engine::gpu(), model, &options);
    let request = |question: &Question| {
        let messages = question.messages.clone();
        let input = TemplateInput::new(messages);
        let tokens = model.encode_chat(input).expect("a prompt");
        engine::greedy(&tokens, 160).ignore_end(false)
    };
    let answers = engine::answers(&mut session, questions.iter().map(request).collect());
    let text = |a: engine::Answer| if a.reason == Some(FinishReason::End) { a.text } else { a.text + "..." };
    answers.into_iter().map(text).collect()
}

#[test]
fn held_out_questions_are_answered() {
    let (questions, model) = (questions(), demo());
    let answers = ask(&model, &questions);
    if let Some(path) = std::env::var_os("FIRELIGHT_DEMO_ANSWERS") {
        let lines: Vec<String> = answers.iter().map(|a| serde_json::json!(a).to_string() + "\n").collect();
        std::fs::write(path, lines.concat()).expect("the answers are written");
    }
    // Good answers and all answers, by kind.
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (question, answer) in questions.iter().zip(&answers) {
        let good = question.judge(answer);
        let count = counts.entry(&question.kind).or_default();
        *count = (count.0 + usize::from(good), count.1 + 1);
        if !good {
            let asked = question.messages.last().map(|m| m["content"].to_string()).unwrap_or_default();
            println!("{}: {asked}\n    {answer:?}, expected {:?}", question.kind, question.facts);
        }
    }
    println!("good answers: {counts:?}");
    for (kind, required) in BARS {
        let (good, all) = counts[kind];
        assert!((good + 1) * 100 >= all * required, "{kind}: {good} of {all} answers are good, not {required} %");
    }
}

/// The judge of the test above distinguishes good and wrong answers.
#[test]
fn wrong_answers_are_detected() {
    let judge = |kind: &str, fact: &str, answer: &str| {
        Question { kind: kind.into(), messages: Vec::new(), facts: vec![fact.into()] }.judge(answer)
    };
    assert!(judge("add", "12 + 7 = 19.", "12 + 7 = 19."));
    assert!(!judge("add", "12 + 7 = 19.", "12 + 7 = 18."));
    assert!(judge("foreign", "I don't know", "Sorry, i don't know that."));
    assert!(judge("story", "Anna", "Anna slept. The end."));
    assert!(!judge("story", "Anna", "Anna slept. The end. And then"));
    assert!(!judge("story", "Anna", "Ben slept. The end."));
}

#[test]
fn the_file_is_small_and_complete() {
    let file = path("FIRELIGHT_DEMO", "demo.gguf");
    let bytes = std::fs::metadata(file).expect("the demo model").len();
    assert!(bytes <= 6_000_000, "{bytes} bytes");
    let model = demo();
    assert!(model.notices.is_empty(), "{:?}", model.notices);
    let metadata = &model.checkpoint.metadata;
    assert_eq!(metadata.get_str("general.license").unwrap(), Some("MIT OR Apache-2.0"));
    assert!(metadata.get_str("tokenizer.chat_template").unwrap().is_some());
    for (name, tensor) in &model.checkpoint.tensors {
        let row = tensor.dims[0];
        assert!(tensor.dims.len() == 1 || row % 256 == 0, "{name} has rows of {row}");
    }
    // Each digit is a token; the sums depend on it.
    let ids = model.tokenizer.encode("4711", firelight::tokenizer::Special::NONE).unwrap();
    assert_eq!(ids.len(), 4);
}

/// The chat window's command, which needs a feature.
const WINDOW: &str = "chat";

/// Every `firelight COMMAND` and every `--option` in the training answers exists.
#[test]
fn commands_and_options_in_its_answers_exist() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_firelight")).args(arguments).output().expect("the program runs");
        String::from_utf8(output.stdout).expect("text")
    };
    let listed = help(&["--help"]);
    let commands: Vec<&str> = listed
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .flat_map(|line| line.split_whitespace().next().into_iter().chain(alias(line)))
        .collect();
    assert!(commands.contains(&"run"), "{listed}");
    let manual: String = commands.iter().map(|command| help(&[command, "--help"])).collect();
    let guide = std::fs::read_to_string(own("train/guide.txt")).expect("the guide");
    let mut options = 0;
    for answer in guide.lines().filter_map(|line| line.strip_prefix("= ")) {
        let named = answer.split("`firelight ").skip(1).filter_map(|rest| word(rest));
        for command in named.filter(|word| !word.starts_with('-') && *word != "COMMAND") {
            let known = commands.contains(&command) || command == WINDOW;
            assert!(known, "there is no command {command:?}: {answer}");
        }
        for option in answer.split("--").skip(1).filter_map(|rest| word(rest)) {
            assert!(manual.contains(&format!("--{option}")), "there is no option --{option}: {answer}");
            options += 1;
        }
    }
    assert!(options > 30, "only {options} options are in the guide");
}

/// The command's alias in a line of the list.
fn alias(line: &str) -> Option<&str> {
    Some(line.split_once("[alias: ")?.1.trim_end_matches(']'))
}

/// The leading word of letters, digits and hyphens, if there is one.
fn word(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
    Some(&text[..end]).filter(|word| !word.is_empty())
}
