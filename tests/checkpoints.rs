//! Published checkpoints compared with llama.cpp, which ran the same weights in F32: greedy tokens of the library, the
//! program and the server, and perplexity. `checkpoints/oracle.py` recorded the numbers, `scripts/checkpoints.sh`
//! downloads the files.

mod engine;
mod http;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine::{answer, gpu, session};
use firelight::model::Model;
use firelight::sampler::Sampling;
use firelight::session::{FinishReason, Request, SessionOptions};
use firelight::template::TemplateInput;
use firelight::tokenizer::Special;
use http::{read, serve};
use pollster::block_on;
use serde::Deserialize;
use serde_json::{Value, json};

const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";

#[derive(Deserialize)]
struct Oracle {
    /// The maximum number of greedy tokens per prompt.
    steps: usize,
    files: BTreeMap<String, Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    prompts: Vec<Prompt>,
    /// Perplexities of the first 1, 2, ... chunks of `checkpoints/text.txt`, by chunk size.
    perplexity: BTreeMap<usize, Vec<f64>>,
}

#[derive(Deserialize)]
struct Prompt {
    /// Whether the prompt is the user's turn of a conversation; else it is a text to continue.
    chat: bool,
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    text: String,
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn oracle() -> Oracle {
    serde_json::from_slice(&std::fs::read(here("tests/checkpoints/oracle.json")).expect("a file")).expect("JSON")
}

/// llama.cpp's results for a checkpoint, and the path of the file, if it exists. In CI it must exist.
fn checkpoint(name: &str) -> Option<(Checkpoint, String)> {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let folder = set("FIRELIGHT_CHECKPOINTS").or_else(|| Some(cache()?.join("firelight/checkpoints")));
    let path = folder.expect("a home folder").join(name);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: run scripts/checkpoints.sh", path.display());
        eprintln!("skipped: {} is missing: scripts/checkpoints.sh downloads it", path.display());
        return None;
    }
    let known = oracle().files.remove(name).expect("recorded results");
    Some((known, path.to_str().expect("UTF-8").to_owned()))
}

/// The program's stdout; it must succeed.
fn firelight(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firelight"));
    let output = command.args(args).env("NODEVICE_SELECT", "1").stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn the_library_answers_as_llama_cpp_does(name: &str) {
    let Some((known, path)) = checkpoint(name) else { return };
    let steps = oracle().steps;
    let model = block_on(Model::open(Path::new(&path))).expect("a model");
    let mut session = session(gpu(), &model, &SessionOptions::default().context(512));
    for Prompt { chat, prompt, prompt_ids, greedy_ids, text } in known.prompts {
        let tokens = match chat {
            true => {
                let messages = vec![json!({ "role": "user", "content": prompt })];
                let input = TemplateInput::new(messages);
                model.tokenizer.encode(&model.render_chat(input).expect("a turn"), Special::PARSE)
            }
            false => model.tokenizer.encode(&prompt, Special::ADD),
        };
        let tokens = tokens.expect("tokens");
        assert_eq!(tokens, prompt_ids, "{name}: the tokens of {prompt:?}");
        let request = Request::new(tokens).sampling(Sampling::greedy()).max_tokens(steps);
        let got = answer(&mut session, request);
        assert_eq!(got.ids, greedy_ids, "{name}: {prompt:?} goes on {:?}", got.text);
        let cut = greedy_ids.len() == steps;
        let reason = if cut { FinishReason::MaxTokens } else { FinishReason::End };
        assert_eq!((got.text, got.reason), (text, Some(reason)), "{name}: {prompt:?}");
    }
}

#[test]
fn smollm2_answers_as_in_llama_cpp() {
    the_library_answers_as_llama_cpp_does(SMOLLM2);
}

#[test]
fn gemma_3_answers_as_in_llama_cpp() {
    the_library_answers_as_llama_cpp_does(GEMMA3);
}

/// The program continues the first text and answers the last conversation.
fn the_program_answers_as_llama_cpp_does(name: &str) {
    let Some((known, path)) = checkpoint(name) else { return };
    let steps = oracle().steps.to_string();
    let greedy = ["run", &path, "--greedy", "-n", &steps];
    let [text, .., turn] = &known.prompts[..] else { panic!("{name} has no prompts") };
    assert!(!text.chat && turn.chat, "{name} has a text first and a conversation last");
    assert_eq!(firelight(&[&greedy[..], &["--raw", &text.prompt]].concat()), text.text, "{name}");
    // The program ends an answer with a newline.
    let said = format!("{}\n", turn.text.strip_suffix('\n').unwrap_or(&turn.text));
    assert_eq!(firelight(&[&greedy[..], &[&turn.prompt]].concat()), said, "{name}");
}

#[test]
fn smollm2_answers_on_the_command_line_as_in_llama_cpp() {
    the_program_answers_as_llama_cpp_does(SMOLLM2);
}

#[test]
fn gemma_3_answers_on_the_command_line_as_in_llama_cpp() {
    the_program_answers_as_llama_cpp_does(GEMMA3);
}

/// One server with both checkpoints, and concurrent requests in each API for the first tokens of a text and of a
/// conversation.
#[test]
fn both_answer_in_every_api_as_in_llama_cpp() {
    const STEPS: usize = 24;
    let (Some(smollm2), Some(gemma)) = (checkpoint(SMOLLM2), checkpoint(GEMMA3)) else { return };
    let server = serve(&[&smollm2.1, &gemma.1, "--context", "512"]);
    for (name, known) in [(SMOLLM2, smollm2.0), (GEMMA3, gemma.0)] {
        let [text, .., turn] = &known.prompts[..] else { panic!("{name} has no prompts") };
        let messages = json!([{ "role": "user", "content": turn.prompt }]);
        let options = json!({ "temperature": 0, "num_predict": STEPS });
        // The path, the prompt, the body, and pointers to the reply's text and token count.
        let ways = [
            ("/v1/completions", text, json!({ "prompt": text.prompt }), "/choices/0/text", "/usage/completion_tokens"),
            (
                "/v1/chat/completions",
                turn,
                json!({ "messages": messages }),
                "/choices/0/message/content",
                "/usage/completion_tokens",
            ),
            ("/v1/messages", turn, json!({ "messages": messages }), "/content/0/text", "/usage/output_tokens"),
            (
                "/api/chat",
                turn,
                json!({ "messages": messages, "options": options, "stream": false }),
                "/message/content",
                "/eval_count",
            ),
        ];
        let asked = ways.map(|(path, row, mut body, text, count)| {
            body["model"] = name.strip_suffix(".gguf").into();
            if !path.starts_with("/api") {
                (body["max_tokens"], body["temperature"]) = (STEPS.into(), 0.into());
            }
            let stream = server.send("POST", path, "Content-Type: application/json\r\n", &body.to_string());
            (path, row, text, count, stream)
        });
        for (path, row, text, count, stream) in asked {
            let reply = read(stream).json();
            let got = reply.pointer(text).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {path}: {reply}"));
            let cut = row.greedy_ids.len() > STEPS;
            let right = if cut { !got.is_empty() && row.text.starts_with(got) } else { got == row.text };
            assert!(right, "{name}: {path}: {reply}, llama.cpp says {:?}", row.text);
            // Some APIs count the end token.
            let counted = reply.pointer(count).and_then(Value::as_u64).expect("a count") as usize;
            let tokens = row.greedy_ids.len().min(STEPS);
            assert!(counted == tokens || !cut && counted == tokens + 1, "{name}: {path}: {reply}");
        }
    }
}

/// The perplexity of the first chunk, within 0.1 % of llama.cpp's.
fn perplexity_is_that_of_llama_cpp(name: &str, chunk: usize) {
    let Some((known, path)) = checkpoint(name) else { return };
    let (text, size) = (here("tests/checkpoints/text.txt"), chunk.to_string());
    let text = text.to_str().expect("UTF-8");
    let out = firelight(&["perplexity", &path, text, "--context", &size, "--chunks", "1"]);
    let got: f64 = out.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{out}"));
    let want = known.perplexity[&chunk][0];
    assert!((got / want - 1.0).abs() < 1e-3, "{name}: {out}, llama.cpp says {want}");
    assert!(out.contains(&format!(" {} tokens in 1 chunks", chunk / 2 - 1)), "{out}");
}

#[test]
fn perplexity_of_smollm2_is_that_of_llama_cpp() {
    perplexity_is_that_of_llama_cpp(SMOLLM2, 512);
}

/// The scored tokens come after more tokens than a sliding window sees.
#[test]
fn perplexity_of_gemma_3_is_that_of_llama_cpp() {
    perplexity_is_that_of_llama_cpp(GEMMA3, 1024);
}

/// The README's first conversation: a shell runs each command with an answer, in a folder with the named files, and
/// prints the same answer.
#[test]
fn the_readmes_first_conversation_is_reproducible() {
    let (Some((_, smollm2)), Some(stories)) = (checkpoint(SMOLLM2), http::stories()) else { return };
    let readme = std::fs::read_to_string(here("README.md")).expect("a file");
    let (_, section) = readme.split_once("\n## A first conversation\n").expect("the section");
    let (_, block) = section.split_once("```console\n").expect("a block of commands");
    let (block, _) = block.split_once("```").expect("its end");

    let folder = tempfile::tempdir().expect("a folder");
    for file in [Path::new(&smollm2), &stories] {
        std::fs::copy(file, folder.path().join(file.file_name().expect("a name"))).expect("a copy");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_firelight")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a path"));
    let mut answered = Vec::new();
    for turn in block.split("$ ").skip(1) {
        let (command, answer) = turn.split_once('\n').expect("lines");
        if answer.is_empty() {
            continue;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&folder).env("PATH", &path).env("NODEVICE_SELECT", "1");
        let output = shell.stdin(Stdio::null()).output().expect("a shell");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out.trim_end(), answer.trim_end(), "{command}: {err}");
        answered.push(command);
    }
    assert!(answered.iter().any(|command| command.contains(SMOLLM2)), "{answered:?}");
}
