//! The real binary: its output and exit codes, with a trained model, tiny synthetic models, and files that are not
//! models.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use firelight::checkpoint::{Checkpoint, GgufWriter, Metadata};
use firelight::dtype::DType;
use firelight::template::ChatTemplate;
use firelight::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The shared test data, or `None` (with a note; a failure in CI) where it is missing.
fn shared() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(default, PathBuf::from);
    if root.join("data").is_dir() {
        return Some(root.join("data"));
    }
    assert!(std::env::var_os("CI").is_none(), "no test data in {}: set FIRELIGHT_SHARED", root.display());
    eprintln!("skipped: no test data in {}", root.display());
    None
}

fn stories() -> Option<String> {
    Some(text_of(&shared()?.join("models/stories260K.gguf")))
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("paths in tests are UTF-8").to_owned()
}

/// The program, started as by cron or in a container: without a runtime directory, which would make Mesa's libraries
/// print warnings.
fn firelight(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firelight"));
    command.args(args).env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
    command
}

/// The beginning of the note that there is no GPU.
const SOFTWARE: &str = "note: no GPU found: computing";

/// The exit code and output of the program.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        // The note about a software adapter comes first; a separate test checks it.
        let err = text(output.stderr).split_inclusive('\n').filter(|line| !line.starts_with(SOFTWARE)).collect();
        let run = Run { code: output.status.code(), out: text(output.stdout), err };
        assert!(!run.out.contains('\u{1b}') && !run.err.contains('\u{1b}'), "colours in a pipe: {run:?}");
        assert!(!run.err.contains("XDG_RUNTIME_DIR"), "a library printed a warning: {run:?}");
        assert!(!run.err.contains("bug in Firelight") && !run.err.contains("panicked"), "a panic: {run:?}");
        run
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "code {:?}\nstdout: {}\nstderr: {}", self.code, self.out, self.err)
    }
}

fn run(args: &[&str]) -> Run {
    firelight(args).output().expect("the program starts").into()
}

/// Runs a command that must succeed. Returns its stdout.
fn good(args: &[&str]) -> String {
    let run = run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
    run.out
}

/// Runs a command that must fail with `code`, a message that contains each of `words`, and nothing on stdout.
fn bad(args: &[&str], code: i32, words: &[&str]) {
    let run = run(args);
    assert_eq!(run.code, Some(code), "{args:?}: {run:?}");
    assert!(run.err.contains("error: ") && words.iter().all(|w| run.err.contains(w)), "{args:?}: {words:?} {run:?}");
    assert_eq!(run.out, "", "{args:?}");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Writes a file. Returns its path.
fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = dir.path().join(name);
    fs::write(&path, bytes).expect("a file");
    text_of(&path)
}

#[test]
fn a_software_adapter_is_named_once_on_stderr() {
    let devices = good(&["devices"]);
    let software = devices.lines().nth(1).is_some_and(|line| line.contains(", software, "));
    for (args, notes) in [(&["run", "demo", "-n", "1", "Hello"][..], 1), (&["tokenize", "demo", "Hello"], 0)] {
        let output = firelight(args).output().expect("the program starts");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(err.matches(SOFTWARE).count(), if software { notes } else { 0 }, "{args:?}: {err}");
    }
}

/// A report has what an issue needs, and nothing that names a person or a machine.
#[test]
fn devices_prints_a_report_to_paste() {
    let report = good(&["devices", "--report"]);
    let name = report.lines().nth(3).and_then(|line| line.strip_prefix("0  ")).expect("the first adapter");
    for part in [
        concat!("### Firelight ", env!("CARGO_PKG_VERSION"), " on "),
        &format!("#### {name}"),
        "driver",
        "tier",
        "largest binding",
        "* kernels: ok: ",
        "* model: ok: ",
        " GB/s, arithmetic in f32 ",
        "difference",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
    assert_eq!(report.matches("```").count(), 4);
    for secret in ["HOME", "USER", "HOSTNAME"].into_iter().filter_map(|key| std::env::var(key).ok()) {
        assert!(secret.len() < 2 || !report.contains(&secret), "{secret} is in {report}");
    }
    bad(&["devices", "--report=nosuch"], 1, &["nosuch"]);
}

/// Without a runtime directory, Mesa's libraries would write to stderr.
#[test]
fn libraries_do_not_warn_about_a_missing_runtime_directory() {
    for directory in [None, Some(""), Some("relative")] {
        let mut command = firelight(&["devices"]);
        if let Some(directory) = directory {
            command.env("XDG_RUNTIME_DIR", directory);
        }
        let run = Run::from(command.output().expect("the program starts"));
        assert!(run.code == Some(0) && run.err.is_empty(), "{directory:?}: {run:?}");
    }
}

#[test]
fn wrong_calls_get_usage_and_code_2() {
    for (args, words) in [
        (&["frobnicate"][..], &["frobnicate", "Usage"][..]),
        (&["run", "x.gguf", "hi", "--tier", "best"], &["baseline, subgroups"]),
        (&["run", "x.gguf", "hi", "--context", "0"], &["--context"]),
        (&["run", "x.gguf", "hi", "--kv", "q8"], &["f16, q8_0, f32"]),
        (&["run", "x.gguf", "hi", "--logit-bias", "12"], &["42=-1.5"]),
        (&["run", "x.gguf", "hi", "--greedy", "--temperature", "1"], &["cannot be used with"]),
        (&["run", "x.gguf", "hi", "--raw", "--system", "x"], &["cannot be used with"]),
        (&["tokenize", "x.gguf"], &["TEXT or --file"]),
        (&["logits", "x.gguf", "--out", "x.npy"], &["--tokens"]),
        (&["logits", "x.gguf", "--tokens", "1,x", "--out", "x.npy"], &["--tokens"]),
        (&["synth", "tiny-llama"], &["TYPE"]),
    ] {
        bad(args, 2, words);
    }
    let nothing = run(&[]);
    assert!(nothing.code == Some(2) && nothing.err.contains("Examples:"), "{nothing:?}");
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "bench"]] {
        assert!(good(args).contains("firelight"), "{args:?}");
    }
}

#[test]
fn mistyped_commands_get_a_suggestion() {
    for (typed, meant) in
        [("rnu", "run"), ("models", "list"), ("ps", "list"), ("quantise", "quantize"), ("dev", "devices")]
    {
        bad(&[typed], 2, &[&format!("'{typed}'"), &format!("'{meant}'")]);
        bad(&["help", typed], 2, &[&format!("'{typed}'"), &format!("'{meant}'")]);
    }
    bad(&["model.gguf"], 2, &["firelight run model.gguf"]);
    bad(&["ORG/REPO"], 2, &["firelight run ORG/REPO"]);
    bad(&["Why is the sky blue?"], 2, &["firelight run demo \"Why is the sky blue?\""]);
    assert!(!run(&["frobnicate"]).err.contains("similar"));
}

#[test]
fn mistyped_models_get_a_suggestion() {
    let dir = folder();
    file(&dir, "model.gguf", b"");
    let path = |name: &str| dir.path().join(name).display().to_string();
    bad(&["run", "dmeo", "hi"], 1, &["dmeo: no such file. Did you mean demo?"]);
    bad(&["info", &path("modle.gguf")], 1, &[&format!("Did you mean {}?", path("model.gguf"))]);
    bad(&["run", "nonsense", "hi"], 1, &["nonsense: no such file. Give a GGUF file", "`demo`"]);
}

#[cfg(not(feature = "chat"))]
#[test]
fn a_build_without_the_window_says_so() {
    for args in [&["chat"][..], &["chat", "model.gguf", "--context", "5"]] {
        bad(args, 1, &["this build has no chat window", "--features cli,chat", "`firelight run`"]);
    }
    assert!(!good(&["--help"]).contains("\n  chat "));
}

#[test]
fn completions_and_manual_pages_describe_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = good(&["completions", shell]);
        assert!(script.contains("quantize") && script.contains("repeat-penalty"), "{shell}: {script}");
    }
    bad(&["completions", "tcsh"], 2, &["bash"]);
    let page = good(&["man"]);
    assert!(page.starts_with(".ie") && page.contains(".TH") && page.contains("quantize"), "{page}");
    assert!(good(&["man", "run"]).contains("repeat\\-penalty"));
    bad(&["man", "nonsense"], 1, &["nonsense"]);
    assert!(!good(&["--help"]).contains("\n  man "));
}

#[test]
fn doctor_checks_the_machine() {
    let report = good(&["doctor"]);
    for check in ["adapters", "device", "limits", "tier", "tuning", "kernels", "model", "cache", "downloads", "disk"] {
        let line = report.lines().find(|line| line.split_whitespace().nth(1) == Some(check)).expect(check);
        assert!(line.starts_with("ok ") || line.starts_with("note "), "{report}");
    }
    assert!(report.contains("prefill and decode differ by") && report.ends_with("Everything works.\n"), "{report}");
    // Without a driver it says what to install, and without a place for models what to set.
    let mut command = firelight(&["doctor"]);
    command.env("WGPU_BACKEND", "vulkan").env("VK_DRIVER_FILES", "/nonexistent").env_remove("WGPU_ADAPTER_NAME");
    command.env("VK_ICD_FILENAMES", "/nonexistent").env("HF_HUB_CACHE", "/proc/hub");
    let run: Run = command.output().expect("the program starts").into();
    assert!(run.code == Some(1) && run.out.contains("FAULT  adapters     no GPU adapter found: install"), "{run:?}");
    assert!(run.out.contains("FAULT  downloads    /proc/hub is not writable"), "{run:?}");
    assert!(run.err.contains("2 checks failed"), "{run:?}");
}

#[test]
fn answers_are_json_of_a_schema() {
    let dir = folder();
    let ask = |format: &str| -> Value {
        let answer = good(&["run", "demo", "--greedy", "--format", format, "-n", "200", "What is 2 + 2?"]);
        serde_json::from_str(&answer).expect("JSON")
    };
    let schema = r#"{"type": "object", "properties": {"sum": {"enum": [4, 5]}}, "required": ["sum"], "additionalProperties": false}"#;
    assert!(ask(schema)["sum"].is_number());
    assert!(ask(&format!("@{}", file(&dir, "schema.json", schema.as_bytes())))["sum"].is_number());
}

#[test]
fn an_answer_in_json_is_an_object() {
    // This model does not end it.
    let args = ["run", "demo", "--greedy", "--format", "json", "-n", "8"];
    assert!(good(&[&args[..], &["What is 2 + 2?"]].concat()).starts_with('{'));
    assert!(good(&[&args[..], &["--raw", "The sum of 2 and 2 is"]].concat()).starts_with('{'));
}

#[test]
fn a_switch_that_the_model_does_not_have_is_named() {
    let run = run(&["run", "demo", "--think", "on", "-n", "1", "Hello"]);
    assert!(run.code == Some(0) && run.err.contains("no switch for reasoning"), "{run:?}");
}

#[test]
fn every_command_is_in_the_help() {
    let help = good(&["--help"]);
    for command in [
        "run",
        "info",
        "devices",
        "doctor",
        "bench",
        "plan",
        "logits",
        "perplexity",
        "tokenize",
        "template",
        "shaders",
        "synth",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        assert!(good(&[command, "--help"]).contains("Usage: firelight"), "{command}");
    }
}

#[test]
fn every_command_refuses_files_that_are_not_models() {
    let dir = folder();
    let mut huge = b"GGUF\x03\0\0\0".to_vec();
    huge.extend([0xff; 16]);
    let mut shape = Vec::new();
    firelight::synth::write("tiny-llama", "Q4_0", &mut shape).expect("a model");
    let files = [
        ("no such file", text_of(&dir.path().join("missing.gguf"))),
        ("folder", text_of(dir.path())),
        ("the file is empty", file(&dir, "empty.gguf", b"")),
        ("GGUF", file(&dir, "magic.gguf", b"PK\x03\x04 this is a zip file, or pretends to be one")),
        ("", file(&dir, "huge.gguf", &huge)),
        ("", file(&dir, "head.gguf", &shape[..500])),
        ("", file(&dir, "half.gguf", &shape[..shape.len() / 2])),
    ];
    for (word, path) in &files {
        let out = text_of(&dir.path().join("out.npy"));
        for args in [
            &["info", path][..],
            &["run", path, "hi"],
            &["plan", path],
            &["bench", path],
            &["tokenize", path, "hi"],
            &["logits", path, "--tokens", "1", "--out", &out],
        ] {
            bad(args, 1, &[word]);
        }
        assert!(!Path::new(&out).exists(), "{path}");
    }
}

#[test]
fn errors_name_other_kinds_of_gguf_files() {
    let dir = folder();
    let write = |name: &str, keys: &[(&str, &str)], tensors: &[&str]| {
        let mut metadata = Metadata::new();
        keys.iter().for_each(|(key, value)| drop(metadata.insert(*key, *value)));
        let mut writer = GgufWriter::new(metadata).expect("keys");
        tensors.iter().for_each(|name| writer.tensor(*name, &[4], DType::F32).expect("a tensor"));
        let mut bytes = Vec::new();
        writer.write(&mut bytes, |_, out| out.write_all(&[0; 16])).expect("a file");
        file(&dir, name, &bytes)
    };
    let kind = |name| [("general.architecture", "llama"), ("general.type", name)];
    let projector = [("general.architecture", "clip"), ("general.type", "mmproj")];
    let files = [
        (
            write("mmproj.gguf", &projector, &["v.patch_embd.weight"]),
            "a projector",
            "open the language model's GGUF file",
        ),
        (write("lora.gguf", &kind("adapter"), &["blk.0.attn_q.weight.lora_a"]), "an adapter", "was merged"),
        (
            write("imatrix.gguf", &[("general.type", "imatrix")], &["a.in_sum2"]),
            "an importance matrix",
            "open the model",
        ),
        (write("vocab.gguf", &kind("model"), &[]), "a vocabulary", "a file with weights"),
    ];
    for (path, what, step) in &files {
        for args in [&["run", path, "hi"][..], &["plan", path], &["bench", path], &["serve", path, "--port", "0"]] {
            bad(args, 1, &[what, step]);
        }
        let info = good(&["info", path]);
        assert!(info.contains(what) && info.contains(path.as_str()), "{info}");
    }
    // With several files, the message names the file.
    bad(&["serve", "demo", &files[0].0, "--port", "0"], 1, &["mmproj.gguf", "a projector"]);
}

#[test]
fn invalid_arguments_are_errors_with_a_next_step() {
    let Some(model) = stories() else { return };
    let dir = folder();
    let long = "once upon a time ".repeat(100);
    let (empty, bytes) = (file(&dir, "empty.txt", b""), file(&dir, "bytes.txt", b"\xff\xff"));
    let nowhere = text_of(&dir.path().join("no/such/place.npy"));
    for (args, words) in [
        (&["run", &model, "--context", "16", &long][..], &["16", "larger context"][..]),
        (&["run", &model, "--context", "4000000000", "hi"], &["--context"]),
        (&["run", &model], &["no prompt: pass one as an argument or on stdin"]),
        (&["run", &model, "--format", "yaml", "hi"], &["yaml is not a JSON schema", "@FILE"]),
        (&["run", &model, "--format", "[]", "hi"], &["[] is not a JSON object", "@FILE"]),
        (&["run", &model, "--format", "@/nonexistent", "hi"], &["cannot read /nonexistent"]),
        (&["run", &model, "--format", r#"{"type": 5}"#, "hi"], &["--format: ", "#/type: 5 is not a type"]),
        (&["run", &model, "--format", r#"{"pattern": "("}"#, "--raw", "hi"], &["not a regular expression"]),
        (&["run", &model, "--device", "99", "hi"], &["\"99\"", "there are 0:"]),
        (&["run", &model, "--device", "no such GPU", "hi"], &["no such GPU"]),
        (&["run", &model, "--temperature", "-1", "hi"], &["temperature is -1"]),
        (&["run", &model, "--temperature", "nan", "hi"], &["temperature is NaN"]),
        (&["logits", &model, "--tokens", "1,512", "--out", "/dev/null"], &["token 512"]),
        (&["logits", &model, "--text", "", "--out", "/dev/null"], &["no tokens"]),
        (&["logits", &model, "--tokens", "1", "--out", &nowhere], &["cannot write"]),
        (&["perplexity", &model, &empty], &["longer text"]),
        (&["perplexity", &model, &bytes], &["UTF-8"]),
        (&["perplexity", &model, &nowhere], &["cannot read"]),
        (&["tokenize", &model, "--file", &nowhere], &["cannot read"]),
        (&["template", &model, "--input", &empty], &["not an input for a template"]),
        (&["bench", &model, "-p", "0", "-n", "0"], &["nothing to measure"]),
        (&["plan", &model, "--rows", "8", "--position", "510"], &["larger --context"]),
        (&["synth", "gpt-9", "F16", &nowhere], &["gpt-9", "smollm2-135m"]),
        (&["synth", "tiny-llama", "Q9", &nowhere], &["cannot write"]),
        (&["shaders", &text_of(dir.path()), "--only", "nonsense"], &["nonsense"]),
    ] {
        bad(args, 1, words);
    }
}

/// Greedy continuations of the trained model by an independent engine: prompt, ids of the prompt, following text.
fn greedy() -> Option<Vec<(String, Vec<u32>, String)>> {
    let data = shared()?;
    let model = pollster::block_on(Checkpoint::open(&data.join("models/stories260K.gguf"))).expect("the model opens");
    let tokenizer = Tokenizer::from_checkpoint(&model).expect("it has a tokenizer");
    let json = fs::read_to_string(data.join("models/stories260K.greedy.json")).expect("the goldens");
    let json: Value = serde_json::from_str(&json).expect("they are JSON");
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).expect("ids") };
    let case = |p: &Value| {
        let mut stream = tokenizer.stream().continuing();
        let text: String = ids(&p["greedy_ids"]).iter().map(|id| stream.push(*id)).collect();
        (p["prompt"].as_str().expect("a text").to_owned(), ids(&p["prompt_ids"]), text + &stream.finish())
    };
    Some(json["prompts"].as_array().expect("a list").iter().map(case).collect())
}

#[test]
fn a_raw_run_prints_exactly_the_continuation() {
    let (Some(model), Some(cases)) = (stories(), greedy()) else { return };
    assert!(cases.len() >= 4);
    for (prompt, ids, text) in &cases {
        let run = run(&["run", &model, "--raw", "--greedy", "--stats", "-n", "200", prompt]);
        assert!(run.code == Some(0) && run.out == *text, "{prompt:?}: want {text:?}\n{run:?}");
        let stats = format!("prompt {} token", ids.len());
        assert!(run.err.starts_with(&stats) && run.err.contains("answer 200 tokens at "), "{run:?}");
    }
    // Equivalent options; only the beginning is compared, because rounding differs.
    let (prompt, _, text) = &cases[1];
    let start: String = text.chars().take(40).collect();
    for args in [&["--greedy", "--kv", "f32"][..], &["--greedy", "--tier", "baseline"], &["--temperature", "0"]] {
        let args = [&["run", &model, "--raw", "--run-ahead", "1", "-n", "64", prompt][..], args].concat();
        assert!(good(&args).starts_with(&start), "{args:?}");
    }
}

#[test]
fn sampling_options_reach_the_sampler() {
    let Some(model) = stories() else { return };
    let say = |more: &[&str]| good(&[&["run", &model, "--raw", "-n", "24", "Once upon a time"], more].concat());
    let greedy = say(&["--greedy"]);
    assert_eq!(say(&["--seed", "7"]), say(&["--seed", "7"]));
    assert_eq!(say(&["--seed", "7", "--top-k", "1"]), greedy);
    assert_eq!(say(&["--seed", "7", "--min-p", "1"]), greedy);
    let hot = ["--temperature", "5", "--top-k", "0", "--top-p", "1", "--min-p", "0"];
    let texts: Vec<String> = ["1", "2", "3"].map(|seed| say(&[&["--seed", seed][..], &hot].concat())).into();
    assert!(texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != greedy, "{texts:?}");
    // 426 is ".": never, or always.
    assert!(greedy.contains('.') && !say(&["--greedy", "--logit-bias", "426=-1000"]).contains('.'));
    assert_eq!(say(&["--greedy", "--stop", " named"]), greedy[..greedy.find(" named").expect("the stop text")]);
    assert_ne!(say(&["--greedy", "--repeat-penalty", "2"]), greedy);
    let run = run(&["run", &model, "--raw", "--greedy", "--stats", "-n", "2", "--logprobs", "3", "Once upon a time"]);
    let lines: Vec<&str> = run.err.lines().collect();
    assert!(lines.len() == 3 && lines[0].matches(", ").count() == 2 && lines[0].contains("-0."), "{run:?}");
}

#[test]
fn a_prompt_comes_from_the_arguments_or_from_stdin() {
    let (Some(model), Some(cases)) = (stories(), greedy()) else { return };
    let (prompt, _, text) = &cases[3];
    let args = ["run", &model, "--raw", "--greedy", "-n", "200"];
    let mut child = spawn(&mut firelight(&args));
    child.stdin.take().expect("a pipe").write_all(prompt.as_bytes()).expect("it reads");
    assert_eq!(Run::from(child.wait_with_output().expect("it ends")).out, *text);
}

/// Runs the program with these bytes on stdin.
fn piped(args: &[&str], bytes: &[u8]) -> Run {
    let mut child = spawn(&mut firelight(args));
    child.stdin.take().expect("a pipe").write_all(bytes).expect("it reads");
    child.wait_with_output().expect("it ends").into()
}

/// Text from stdin precedes the argument, for every command that takes both.
#[test]
fn text_from_stdin_precedes_the_argument() {
    let Some(model) = stories() else { return };
    let dir = folder();
    let raw = ["run", &model, "--raw", "--greedy", "-n", "8"];
    let with = |prompt: &str| good(&[&raw[..], &[prompt]].concat());
    let both = with("Once upon\n\na time");
    assert_ne!(both, with("a time"));
    for text in [&b"Once upon"[..], b"Once upon\n", b"Once upon\r\n\r\n", b"\xef\xbb\xbfOnce upon\n"] {
        let run = piped(&[&raw[..], &["a time"]].concat(), text);
        assert_eq!((run.code, &run.out), (Some(0), &both), "{text:?}: {run:?}");
    }
    // stdin may be a file.
    let text = file(&dir, "text.txt", b"Once upon\n");
    let stdin = fs::File::open(text).expect("the file");
    let run: Run = firelight(&raw).arg("a time").stdin(stdin).output().expect("it starts").into();
    assert_eq!(run.out, both, "{run:?}");
    // stdin without text has no effect.
    for nothing in [&b""[..], b"\n", b" \r\n", b"\xef\xbb\xbf"] {
        assert_eq!(piped(&[&raw[..], &["a time"]].concat(), nothing).out, with("a time"), "{nothing:?}");
    }
    assert_eq!(piped(&[&raw[..], &[""]].concat(), b"a time").out, with("a time"));
    let tokens = |text: &str| good(&["tokenize", &model, text]);
    assert_eq!(piped(&["tokenize", &model, "b"], b"a\n").out, tokens("a\n\nb"));
    assert_eq!(piped(&["tokenize", &model], b"a\n").out, tokens("a\n"));
    let npy = |name: &str| text_of(&dir.path().join(name));
    let (one, two) = (npy("one.npy"), npy("two.npy"));
    assert_eq!(piped(&["logits", &model, "--text", "b", "--out", &one], b"a").code, Some(0));
    good(&["logits", &model, "--text", "a\n\nb", "--out", &two]);
    assert!(fs::read(one).expect("a file") == fs::read(two).expect("a file"));
    let run = piped(&[&raw[..], &["a time"]].concat(), b"\xff\xff");
    assert!(run.code == Some(1) && run.err.contains("stdin is not UTF-8"), "{run:?}");
}

/// A chat message from stdin does not include the final newline.
#[test]
fn a_piped_message_is_the_same_as_an_argument() {
    let dir = folder();
    let model = synth(&dir, "tiny-qwen3", "Q8_0");
    let args = ["run", &model, "--greedy", "--stats", "-n", "5"];
    let tokens = |run: &Run| {
        let line = run.err.lines().find(|line| line.starts_with("prompt ")).expect("the tokens of the prompt");
        line.split(" at ").next().map(str::to_string)
    };
    let want = run(&[&args[..], &["the"]].concat());
    for text in [&b"the"[..], b"the\n", b"the\r\n", b"\xef\xbb\xbfthe\n", b"\xff\xfet\0h\0e\0\r\0\n\0"] {
        let run = piped(&args, text);
        assert_eq!((&run.out, tokens(&run)), (&want.out, tokens(&want)), "{text:?}: {run:?}");
    }
    let run = piped(&[&args[..], &["the"]].concat(), b"he\n");
    assert_eq!(tokens(&run), tokens(&piped(&args, b"he\n\nthe")), "{run:?}");
}

/// The program waits for slow text, but not forever for an open pipe without data; text that arrives too late is an
/// error.
#[test]
fn waiting_for_stdin_has_a_limit() {
    let Some(model) = stories() else { return };
    let mut child = spawn(&mut firelight(&["tokenize", &model, "b"]));
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::sleep(std::time::Duration::from_secs(3));
    stdin.write_all(b"a").expect("it reads");
    drop(stdin);
    let run: Run = child.wait_with_output().expect("it ends").into();
    assert_eq!(run.out, good(&["tokenize", &model, "a\n\nb"]), "{run:?}");
    assert!(run.err.contains("waiting for text on stdin"), "{run:?}");

    let mut child = spawn(&mut firelight(&["tokenize", &model, "b"]));
    let stdin = child.stdin.take();
    let run: Run = child.wait_with_output().expect("it ends").into();
    assert_eq!(run.out, good(&["tokenize", &model, "b"]), "{run:?}");
    assert!(run.err.contains("nothing arrived on stdin"), "{run:?}");
    drop(stdin);

    let mut child = spawn(&mut firelight(&["run", &model, "--raw", "--greedy", "-n", "400", "Once"]));
    let mut stdin = child.stdin.take().expect("a pipe");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("an answer");
    stdin.write_all(b"late").expect("it is open");
    let run: Run = child.wait_with_output().expect("it ends").into();
    assert!(run.code == Some(1) && run.err.contains("too late and was ignored"), "{run:?}");
}

/// Everywhere that text is read, a byte order mark is not part of it, and UTF-16 is decoded.
#[test]
fn byte_order_marks_are_not_text() {
    let Some(model) = stories() else { return };
    let dir = folder();
    let utf16 = |text: &str| -> Vec<u8> {
        [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    let marked = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let want = good(&["tokenize", &model, "Zoë"]);
    for bytes in [marked("Zoë"), utf16("Zoë")] {
        let path = file(&dir, "text.txt", &bytes);
        assert_eq!(good(&["tokenize", &model, "--file", &path]), want);
        assert_eq!(piped(&["tokenize", &model, "--file", "-"], &bytes).out, want);
        assert_eq!(piped(&["tokenize", &model], &bytes).out, want);
    }
    assert_eq!(good(&["tokenize", &model, "\u{feff}Zoë"]), want);
    let (case, jinja) = (r#"{"messages": [{"role": "user", "content": "hi"}]}"#, "{{ messages[0].content }}!");
    for write in [marked, utf16] {
        let (case, jinja) = (file(&dir, "case.json", &write(case)), file(&dir, "t.jinja", &write(jinja)));
        assert_eq!(good(&["template", &model, "--input", &case, "--template", &jinja]), "hi!");
    }
    // In the template of a model, too.
    let marked_template = ChatTemplate::new("\u{feff}{{ messages[0].content }}").expect("a template");
    let input = serde_json::from_str(case).expect("a case");
    assert_eq!(marked_template.render(&input).expect("a prompt"), "hi");
    // Every text file of a Hugging Face folder.
    let hf = text_of(dir.path()) + "/hf/";
    good(&["synth", "tiny-qwen3", "F32", &hf]);
    let outputs = |hf: &str| {
        let case = file(&dir, "case.json", case.as_bytes());
        let text = "Once upon a time";
        (good(&["info", hf]), good(&["tokenize", hf, text]), good(&["template", hf, "--input", &case]))
    };
    let want = outputs(&hf);
    for write in [marked, utf16] {
        for entry in fs::read_dir(&hf).expect("the folder").flatten().map(|entry| entry.path()) {
            if entry.extension().is_some_and(|end| end == "json" || end == "jinja") {
                let text = firelight::text::decode(fs::read(&entry).expect("a file"), "it").expect("text");
                fs::write(&entry, write(&text)).expect("a file");
            }
        }
        assert_eq!(outputs(&hf), want);
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

#[test]
fn without_raw_the_chat_template_is_used_and_output_ends_with_a_newline() {
    let dir = folder();
    let model = synth(&dir, "tiny-qwen3", "Q8_0");
    let run = run(&["run", &model, "the", "--system", "in", "--greedy", "-n", "5", "--stats", "--profile"]);
    // S system \n in E \n S user \n " the" E \n S assistant \n: one token per letter, except for "in" and "he".
    assert!(run.err.contains("prompt 32 tokens") && run.err.contains("note: stopped at 5 tokens\n"), "{run:?}");
    assert!(run.code == Some(0) && run.out.ends_with('\n'), "{run:?}");
    assert!(run.err.contains("attention") && run.err.contains("% of copy"), "{run:?}");
}

/// Writes a synthetic model with the program. Returns its path.
fn synth(dir: &TempDir, shape: &str, types: &str) -> String {
    let path = text_of(&dir.path().join(format!("{shape}.{types}.gguf")));
    good(&["synth", shape, types, &path]);
    path
}

#[test]
fn quantize_writes_a_smaller_model_that_runs() {
    let dir = folder();
    let (model, out) = (synth(&dir, "tiny-qwen3", "F16"), text_of(&dir.path().join("out.gguf")));
    let run = run(&["quantize", &model, &out, "q4_k_m"]);
    assert!(run.code == Some(0) && run.err.contains("Q4_K ") && run.err.contains("Q6_K "), "{run:?}");
    let error = run.err.lines().find(|line| line.starts_with("Q4_K ")).and_then(|line| line.split_whitespace().nth(4));
    assert!(error.and_then(|e| e.parse::<f64>().ok()).is_some_and(|e| e > 1.0 && e < 10.0), "{run:?}");
    assert!(fs::metadata(&out).expect("a file").len() < fs::metadata(&model).expect("a file").len() / 2);
    let info = good(&["info", &out]);
    assert!(info.contains("architecture    qwen3") && info.contains("Q6_K"), "{info}");
    good(&["run", &out, "--raw", "-n", "4", "Once"]);
    bad(&["quantize", &out, &model, "Q8_0"], 1, &["already", "--requantize"]);
    good(&["quantize", &out, &model, "Q8_0", "--requantize"]);
    bad(&["quantize", &model, &out, "Q9"], 1, &["Q9", "Q4_K_M"]);
    bad(&["quantize", &model, "/nonexistent/out.gguf", "Q8_0", "--requantize"], 1, &["/nonexistent/out.gguf"]);
    let left: Vec<_> = fs::read_dir(dir.path()).expect("the folder").collect();
    assert_eq!(left.len(), 2, "partial files remain: {left:?}");
}

/// An output must not overwrite an input under any of its names.
#[test]
fn outputs_do_not_overwrite_inputs() {
    let dir = folder();
    let inside = |name: &str| text_of(&dir.path().join(name));
    let model = synth(&dir, "tiny-llama", "F16");
    let bytes = fs::read(&model).expect("the model");
    let mut names = vec![model.clone(), inside("./tiny-llama.F16.gguf"), inside("sub/../tiny-llama.F16.gguf")];
    fs::create_dir(inside("sub")).expect("a folder");
    fs::hard_link(&model, inside("hard.gguf")).expect("a link");
    names.push(inside("hard.gguf"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&model, inside("soft.gguf")).expect("a link");
        std::os::unix::fs::symlink("soft.gguf", inside("softer.gguf")).expect("a link");
        std::os::unix::fs::symlink(dir.path(), inside("here")).expect("a link");
        names.extend(["soft.gguf", "softer.gguf", "here/tiny-llama.F16.gguf"].map(inside));
    }
    for name in &names {
        bad(&["quantize", &model, name, "Q8_0"], 1, &["it is read", "another file"]);
        bad(&["quantize", name, &model, "Q8_0"], 1, &["it is read", "another file"]);
        bad(&["logits", &model, "--tokens", "1", "--out", name], 1, &["it is read"]);
        assert!(fs::read(&model).expect("the model") == bytes, "{name}");
    }
    // The input may have the name of the partial output file.
    let (input, out) = (inside("out.gguf.partial"), inside("out.gguf"));
    fs::copy(&model, &input).expect("a copy");
    good(&["quantize", &input, &out, "Q8_0"]);
    assert!(fs::read(&input).expect("the input") == bytes);
    // The files of a folder.
    let hf = inside("hf") + "/";
    good(&["synth", "tiny-qwen3", "F32", &hf]);
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let before = fs::read(hf.clone() + name).expect("a file");
        bad(&["quantize", &hf, &(hf.clone() + name), "Q8_0"], 1, &["it is read"]);
        assert!(fs::read(hf.clone() + name).expect("a file") == before);
    }
    bad(&["quantize", &model, &hf, "Q8_0"], 1, &["folder"]);
    bad(&["synth", "tiny-qwen3", "F32", &hf], 1, &["not empty"]);
}

/// An existing file is replaced only once the new one is complete, with a note; a model only by a model.
#[test]
fn replacing_a_file_prints_a_note() {
    let dir = folder();
    let model = synth(&dir, "tiny-llama", "F16");
    let inside = |name: &str| text_of(&dir.path().join(name));
    let replaced = |args: &[&str]| {
        let run = run(args);
        assert!(run.code == Some(0) && run.err.contains("note: replacing "), "{args:?}: {run:?}");
    };
    let (gguf, npy) = (inside("other.gguf"), inside("x.npy"));
    for out in [&gguf, &npy] {
        fs::write(out, "old").expect("a file");
    }
    replaced(&["quantize", &model, &gguf, "Q8_0"]);
    replaced(&["synth", "tiny-llama", "Q8_0", &gguf]);
    replaced(&["logits", &model, "--tokens", "1", "--out", &npy]);
    assert!(!run(&["logits", &model, "--tokens", "1", "--out", &inside("new.npy")]).err.contains("replaced"));
    let before = fs::read(&gguf).expect("a model");
    bad(&["logits", &model, "--tokens", "1", "--out", &gguf], 1, &["it is a model"]);
    // A failed command leaves the existing file.
    bad(&["synth", "tiny-llama", "Q9", &gguf], 1, &["Q9"]);
    assert!(fs::read(&gguf).expect("a model") == before);
    let mut permissions = fs::metadata(&gguf).expect("a model").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&gguf, permissions).expect("permission");
    bad(&["quantize", &model, &gguf, "Q8_0"], 1, &["write-protected"]);
    let names: Vec<_> = fs::read_dir(dir.path()).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 4, "partial files remain: {names:?}");
}

/// An interrupt removes the partial file; a pipe is written to, not replaced.
#[cfg(unix)]
#[test]
fn interrupted_outputs_are_removed_and_pipes_are_kept() {
    let dir = folder();
    let out = text_of(&dir.path().join("large.gguf"));
    let child = spawn(&mut firelight(&["synth", "smollm2-135m", "F32", &out]));
    let begun = std::time::Instant::now();
    while fs::metadata(out.clone() + ".partial").map_or(0, |facts| facts.len()) == 0 {
        assert!(begun.elapsed().as_secs() < 300, "nothing is written");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let run: Run = child.wait_with_output().expect("it ends").into();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0);

    let model = synth(&dir, "tiny-llama", "F16");
    let pipe = text_of(&dir.path().join("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read(pipe))
    };
    good(&["logits", &model, "--tokens", "1", "--out", &pipe]);
    assert!(reader.join().expect("a reader").expect("bytes").starts_with(b"\x93NUMPY"));
}

/// Converting a Hugging Face folder gives the same tensors and keys as the model's GGUF file.
#[test]
fn quantize_converts_a_folder_to_gguf() {
    let dir = folder();
    for shape in ["tiny-llama3", "tiny-qwen2", "tiny-qwen3moe"] {
        let (hf, out) = (text_of(dir.path()) + "/hf/", text_of(&dir.path().join("out.gguf")));
        good(&["synth", shape, "F32", &hf]);
        good(&["quantize", &hf, &out, "F32"]);
        let open = |path: &str| pollster::block_on(Checkpoint::open(Path::new(path))).expect("a model");
        let (ours, want) = (open(&out), open(&synth(&dir, shape, "F32")));
        for t in want.tensors.values().filter(|t| t.name != "rope_freqs.weight") {
            let data = |c: &Checkpoint| pollster::block_on(c.read(c.tensor(&t.name).expect("it"), 0..t.bytes()));
            assert!(data(&ours).expect("bytes") == data(&want).expect("bytes"), "{shape}: {}", t.name);
        }
        for key in ["model", "pre", "tokens", "merges", "token_type", "eos_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            assert_eq!(ours.metadata.get(&key), want.metadata.get(&key), "{shape}: {key}");
        }
        let (text, flag) = ("Once upon a time, 1234 gnomes’ hats!", "--no-special");
        assert_eq!(good(&["tokenize", &out, text, flag]), good(&["tokenize", &hf, text, flag]));
        fs::remove_dir_all(&hf).expect("the folder is removed");
    }
}

#[test]
fn synth_writes_the_librarys_models() {
    let dir = folder();
    let path = synth(&dir, "tiny-mixtral", "Q4_0");
    let mut want = Vec::new();
    firelight::synth::write("tiny-mixtral", "Q4_0", &mut want).expect("a model");
    assert!(fs::read(path).expect("the file") == want);
    let hf = text_of(dir.path()) + "/hf/";
    good(&["synth", "tiny-qwen3", "F32", &hf]);
    assert!(good(&["info", &hf]).contains("architecture    qwen3"));
    assert!(good(&["synth", "--list"]).contains("qwen3-30b-a3b"));
    let wrong = text_of(&dir.path().join("wrong.gguf"));
    bad(&["synth", "tiny-llama", "Q9", &wrong], 1, &["Q9", "Q4_K_M"]);
    assert!(!Path::new(&wrong).exists());
}

#[test]
fn info_describes_models_and_vocabularies() {
    let (Some(model), Some(data)) = (stories(), shared()) else { return };
    let info = good(&["info", &model]);
    for line in
        ["parameters      260.0 K (260032)", "layers          5 of hidden size 64", "tokenizer       512 tokens", "on "]
    {
        assert!(info.contains(line), "{line}: {info}");
    }
    let metadata = good(&["info", &model, "--metadata"]);
    assert!(metadata.contains("\nllama.block_count = 5\n") && metadata.contains("... (512 values)]"), "{metadata}");
    let tensors = good(&["info", &model, "--tensors"]);
    assert!(tensors.contains("blk.4.ffn_down.weight") && tensors.lines().count() == 49, "{tensors}");
    let vocabulary = text_of(&data.join("tokenizers/ggml-vocab-gpt-2.gguf"));
    let info = good(&["info", &vocabulary]);
    assert!(info.contains("a vocabulary only") && info.contains("50257 tokens") && !info.contains("needs"), "{info}");
    bad(&["run", &vocabulary, "hi"], 1, &["vocabulary without weights"]);
    let vocabulary = text_of(&data.join("tokenizers/ggml-vocab-llama-spm.gguf"));
    bad(&["run", &vocabulary, "hi"], 1, &["vocabulary without weights"]);
}

#[test]
fn plan_lists_dispatches_for_decode_and_prefill() {
    let Some(model) = stories() else { return };
    let (decode, prefill) = (good(&["plan", &model]), good(&["plan", &model, "--rows", "40", "--position", "3"]));
    assert!(decode.contains(" matvec ") && !decode.contains(" matmul") && decode.contains("KV cache"), "{decode}");
    let fit = good(&["plan", &model, "--fit"]);
    assert!(fit.contains("take             --context 512 --kv f16") && fit.contains("KV cache"), "{fit}");
    assert!(prefill.contains(" matmul_rows ") && prefill.contains("prefill of 40 at position 3"), "{prefill}");
}

#[test]
fn devices_and_bench_report_measurements() {
    assert!(good(&["devices"]).starts_with("0  "));
    let absent = good(&["devices", "--on", "adreno740"]);
    assert!(absent.contains("tier f16 unavailable") && absent.contains("largest binding 128.0 MiB"), "{absent}");
    assert!(absent.contains("subgroup size 64 to 128") && absent.contains("shared with the CPU"), "{absent}");
    assert!(good(&["devices", "--on", "rtx4090"]).contains("memory 24.0 GiB"));
    let Some(model) = stories() else { return };
    let args = ["bench", &model, "-p", "32", "-n", "8", "-d", "0,40", "-r", "2"];
    let report: Value = serde_json::from_str(&good(&[&args[..], &["--json"]].concat())).expect("JSON");
    let tests = report["tests"].as_array().expect("a list");
    let names: Vec<&Value> = tests.iter().map(|t| &t["test"]).collect();
    assert_eq!(json!(names), json!(["pp32", "tg8", "pp32 @ 40", "tg8 @ 40"]));
    for test in tests {
        let rate = |key: &str| test["tok_s"][key].as_f64().expect("a number");
        assert!(0.0 < rate("min") && rate("min") <= rate("median") && rate("median") <= rate("max"), "{test}");
        assert!(test["gb_s"].as_f64() > Some(0.0), "{test}");
        let prefill = test["test"].as_str().is_some_and(|name| name.starts_with("pp"));
        assert!(!prefill || test["first_token_ms"].as_f64() > Some(0.0), "{test}");
    }
    for number in ["open_seconds", "weight_bytes", "plain_read_seconds", "dispatches", "recording_us_per_dispatch"] {
        assert!(report[number].as_f64() > Some(0.0), "{number} of {report}");
    }
    let table = good(&["bench", &model, "-p", "0", "-n", "4", "-r", "1", "-b", "1,3"]);
    assert!(table.contains("\ntg4 x 3 "), "{table}");
    assert!(table.contains("% of copy") && table.contains("\ntg4 ") && !table.contains("pp"), "{table}");
}

/// Runs the program with this cache folder. On other systems, no environment variable sets it.
#[cfg(target_os = "linux")]
fn with_cache(cache: &TempDir, args: &[&str], code: i32) -> Run {
    let run: Run = firelight(args).env("XDG_CACHE_HOME", cache.path()).output().expect("the program starts").into();
    assert_eq!(run.code, Some(code), "{args:?}: {run:?}");
    run
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_tuned_once() {
    let cache = folder();
    let with = |args: &[&str]| with_cache(&cache, args, 0).out;
    let kept = || fs::read_to_string(cache.path().join("firelight/devices.json"));
    assert!(with(&["devices"]).contains("(default)\n") && kept().is_err());
    let table = with(&["devices", "--tune=0"]);
    let of_one_row = |line: &&str| line.split_whitespace().nth(3) == Some("1");
    assert!(table.lines().filter(of_one_row).count() > 1, "{table}");
    assert!(table.contains("(tuned)\n") && table.contains("  kept\n"), "{table}");
    assert!(with(&["devices"]).contains("(tuned)\n"), "{:?}", kept());
    fs::write(cache.path().join("firelight/devices.json"), "{ broken").expect("a file");
    assert!(with(&["devices"]).contains("(default)\n"));
    bad(&["devices", "--tune=nothing"], 1, &["nothing"]);
}

/// The f16 tier is used by default if tuning found it faster, and never if its results were wrong.
#[cfg(target_os = "linux")]
#[test]
fn tuning_results_select_the_tier() {
    let cache = folder();
    let first = |args: &[&str]| with_cache(&cache, args, 0).out.split("\n1  ").next().unwrap_or_default().to_string();
    first(&["devices", "--tune=0"]);
    if !first(&["devices"]).contains("tier f16 on request only") {
        return eprintln!("skipped: this adapter has no f16 arithmetic");
    }
    let path = cache.path().join("firelight/devices.json");
    let measured = fs::read_to_string(&path).expect("it was kept");
    let found = |outcome: &str| {
        let key = "f16\\\":\\\"";
        let (before, after) = measured.split_once(key).expect("the outcome of f16");
        let after = &after[after.find('\\').expect("its end")..];
        fs::write(&path, format!("{before}{key}{outcome}{after}")).expect("a file");
    };
    found("Faster");
    assert!(first(&["devices"]).contains("tier f16 used for prefill unless a tier is requested"));
    assert!(first(&["plan", "demo", "--rows", "40"]).contains(", f16 tier\n"));
    found("Wrong");
    assert!(first(&["devices"]).contains("tier f16 disabled: its kernels computed wrong results"));
    assert!(!first(&["plan", "demo", "--rows", "40"]).contains(", f16 tier\n"));
    let refused = with_cache(&cache, &["plan", "demo", "--tier", "f16"], 1);
    assert!(refused.err.contains("computed wrong results on"), "{refused:?}");
}

#[test]
fn bench_measures_matmuls_and_attention() {
    let table = good(&["bench", "--ops=Q4_0,f16"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(table.contains("bare arithmetic") && lines.len() == 13, "{table}");
    for (at, name, cells) in [(4, "Q4_0", 8), (5, "F16", 8), (11, "f16", 7), (12, "q8_0", 7)] {
        let line = &lines[at];
        assert_eq!((line[0], line.len()), (name, cells), "{table}");
        let number = |text: &str| text.trim_end_matches('%').parse::<f64>().expect("a number");
        assert!(line[1..].iter().all(|cell| number(cell) >= 0.0) && number(line[1]) > 0.0, "{table}");
    }
    bad(&["bench", "--ops=Q4_7"], 2, &["there are F32, F16"]);
    bad(&["bench"], 2, &["MODEL"]);
}

/// A NumPy file's shape and values.
fn npy(path: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).expect("the file");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let head = std::str::from_utf8(&bytes[10..start]).expect("text");
    assert!(start % 64 == 0 && head.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': ("), "{head}");
    let shape = head.split(['(', ')']).nth(1).expect("a shape");
    let shape = shape.split(',').map(|n| n.trim().parse().expect("a number")).collect();
    let value = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    (shape, bytes[start..].chunks_exact(4).map(value).collect())
}

#[test]
fn logits_of_prefill_and_decode_agree_and_give_the_perplexity() {
    let (Some(model), Some(cases)) = (stories(), greedy()) else { return };
    let dir = folder();
    let (_, ids, _) = &cases[2];
    let list = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let path = |name: &str| text_of(&dir.path().join(name));
    let logits = |name: &str, more: &[&str]| {
        // With an f32 cache, because rounding a key to f16 may differ.
        good(&[&["logits", &model, "--kv", "f32", "--out", &path(name)], more].concat());
        npy(&path(name))
    };
    let (shape, all) = logits("all.npy", &["--tokens", &list]);
    let (_, steps) = logits("steps.npy", &["--tokens", &list, "--steps"]);
    assert_eq!(shape, [ids.len(), 512]);
    assert_eq!((all.len(), steps.len()), (ids.len() * 512, ids.len() * 512));
    let rms = (all.iter().map(|x| x * x).sum::<f32>() / all.len() as f32).sqrt();
    let worst = all.iter().zip(&steps).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4 * rms, "{worst} of {rms}");
    // A text has no BOS: one row less.
    let (shape, _) = logits("text.npy", &["--text", &cases[2].0]);
    assert_eq!(shape, [ids.len() - 1, 512]);

    // The perplexity of these tokens, from their logits.
    let text = file(&dir, "text.txt", cases[2].0.as_bytes());
    let surprise = |position: usize| -> f64 {
        let row = &all[position * 512..][..512];
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        sum.ln() - f64::from(row[ids[position + 1] as usize])
    };
    let scored: Vec<f64> = (ids.len() / 2..ids.len() - 1).map(surprise).collect();
    let want = (scored.iter().sum::<f64>() / scored.len() as f64).exp();
    let said = good(&["perplexity", &model, &text]);
    let got: f64 = said.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    assert!((got / want - 1.0).abs() < 1e-3, "want {want}: {said}");
    assert!(said.contains(&format!(" {} tokens in 1 chunk", scored.len())), "{said}");
}

#[test]
fn tokenize_gives_the_ids_of_llama_cpp() {
    let Some(data) = shared() else { return };
    let dir = folder();
    let read = |name: &str| fs::read_to_string(data.join("tokenizers").join(name)).expect("a file");
    let (inputs, outputs) = (read("ggml-vocab-llama-spm.gguf.inp"), read("ggml-vocab-llama-spm.gguf.out"));
    let model = text_of(&data.join("tokenizers/ggml-vocab-llama-spm.gguf"));
    let separator = "\n__ggml_vocab_test__\n";
    let cases = inputs.strip_suffix(separator).unwrap_or(&inputs).split(separator).zip(outputs.lines());
    let mut checked = 0;
    for (text, ids) in cases.step_by(3) {
        let want: Vec<u32> = ids.split_whitespace().map(|id| id.parse().expect("an id")).collect();
        let path = file(&dir, "text", text.as_bytes());
        let ids = |args: &[&str]| -> Vec<u32> { serde_json::from_str(&good(args)).expect("a JSON array") };
        assert_eq!(ids(&["tokenize", &model, "--no-special", "--file", &path]), want, "{text:?}");
        assert_eq!(ids(&["tokenize", &model, "--file", &path]), [&[1][..], &want].concat(), "{text:?}");
        if !text.starts_with('-') && !text.contains('\0') {
            assert_eq!(ids(&["tokenize", &model, "--no-special", text]), want, "{text:?}");
        }
        checked += 1;
    }
    assert!(checked > 12, "{checked}");
    assert_eq!(good(&["tokenize", &model, "", "--no-special"]), "[]\n");
    let newline = file(&dir, "newline", b"a\n");
    assert_ne!(good(&["tokenize", &model, "--file", &newline]), good(&["tokenize", &model, "a"]));
}

#[test]
fn templates_render_as_in_transformers() {
    let (Some(model), Some(data)) = (stories(), shared()) else { return };
    let dir = folder();
    let json = fs::read_to_string(data.join("templates/Qwen-Qwen3-0.6B.json")).expect("a file");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let template = file(&dir, "template.jinja", json["template"].as_str().expect("a text").as_bytes());
    let cases = json["cases"].as_array().expect("a list");
    for case in cases {
        let input = file(&dir, "case.json", case.to_string().as_bytes());
        let args = ["template", &model, "--input", &input, "--template", &template];
        assert_eq!(Some(good(&args).as_str()), case["rendered"].as_str(), "{}", case["case"]);
    }
    assert!(cases.len() >= 10);
    // The file has no template: a built-in one is used, with a note.
    let input = file(&dir, "own.json", br#"{"messages": [{"role": "user", "content": "Hi"}]}"#);
    let run = run(&["template", &model, "--input", &input]);
    assert!(run.code == Some(0) && run.out.contains("<s>[INST] Hi") && run.err.starts_with("note: "), "{run:?}");
}

#[test]
fn shaders_are_written_in_every_language() {
    let dir = folder();
    let out = text_of(dir.path());
    let said = good(&["shaders", &out, "--only", "rms_norm"]);
    assert!(said.contains("variants in"), "{said}");
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder");
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    };
    let files = names(&dir.path().join("baseline"));
    let count = |ending: &str| files.iter().filter(|name| name.ends_with(ending)).count();
    let all = count(".spv");
    assert!(all > 0, "{files:?}");
    for ending in [".web.wgsl", ".metal", ".hlsl", ".glsl"] {
        assert_eq!(count(ending), all, "{ending}: {files:?}");
    }
    let spv = files.iter().find(|name| name.ends_with(".spv")).expect("one");
    let spv = fs::read(dir.path().join("baseline").join(spv)).expect("the file");
    assert_eq!(spv[..4], 0x0723_0203u32.to_le_bytes());
}

#[test]
fn without_an_adapter_the_error_says_what_to_install() {
    let Some(model) = stories() else { return };
    let blind = |args: &[&str]| -> Run {
        let mut command = firelight(args);
        command.env("WGPU_BACKEND", "vulkan").env("VK_DRIVER_FILES", "/nonexistent").env_remove("WGPU_ADAPTER_NAME");
        command.env("VK_ICD_FILENAMES", "/nonexistent");
        command.output().expect("the program starts").into()
    };
    for args in [&["run", &model, "hi"][..], &["bench", &model], &["devices"]] {
        let run = blind(args);
        assert!(run.code == Some(1) && run.err.contains("error: no GPU adapter found: install"), "{run:?}");
        assert_eq!(run.out, "");
    }
    let info = blind(&["info", &model]);
    assert!(info.code == Some(0) && info.out.contains("no GPU found"), "{info:?}");
    let plan = blind(&["plan", &model]);
    assert!(plan.code == Some(0) && plan.err.starts_with("note: no GPU") && plan.out.contains("matvec"), "{plan:?}");
}

/// Sends SIGINT.
#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_exits_with_130_during_an_answer_and_before() {
    let Some(model) = stories() else { return };
    let mut child =
        spawn(&mut firelight(&["run", &model, "--raw", "--greedy", "--stats", "--context", "100000", "Once"]));
    let mut first = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("the answer begins");
    interrupt(&child);
    let run = Run::from(child.wait_with_output().expect("it ends"));
    assert!(run.code == Some(130) && run.err.contains("answer "), "{run:?}");
    // The same while it waits for stdin.
    let mut child = spawn(&mut firelight(&["run", &model]));
    let stdin = child.stdin.take();
    std::thread::sleep(std::time::Duration::from_millis(300));
    interrupt(&child);
    assert_eq!(Run::from(child.wait_with_output().expect("it ends")).code, Some(130));
    drop(stdin);
}

#[test]
fn a_closed_stdout_is_not_an_error() {
    let Some(model) = stories() else { return };
    for args in
        [&["run", &model, "--raw", "--greedy", "Once"][..], &["info", &model, "--tensors"], &["synth", "--list"]]
    {
        let mut child = spawn(&mut firelight(args));
        drop(child.stdout.take());
        let run = Run::from(child.wait_with_output().expect("it ends"));
        assert!(run.code == Some(0) && run.err.is_empty(), "{args:?}: {run:?}");
    }
}

/// Colours are used on terminals, unless NO_COLOR is set.
#[cfg(target_os = "linux")]
#[test]
fn colours_are_for_terminals_without_no_color() {
    let on_terminal = |set: &str| {
        let line = format!("{} --help", env!("CARGO_BIN_EXE_firelight"));
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        if !set.is_empty() {
            script.env("NO_COLOR", set);
        }
        String::from_utf8(script.output().expect("script runs").stdout).expect("UTF-8")
    };
    assert!(on_terminal("").contains('\u{1b}'));
    let plain = on_terminal("1");
    assert!(plain.contains("Usage: firelight") && !plain.contains('\u{1b}'), "{plain:?}");
}

/// A chat on a terminal, which util-linux's `script` provides.
#[cfg(target_os = "linux")]
#[test]
fn a_chat_answers_obeys_commands_and_survives_an_interrupt() {
    let Some(model) = stories() else { return };
    let dir = folder();
    let saved = text_of(&dir.path().join("chat.json"));
    let program = env!("CARGO_BIN_EXE_firelight");
    // `exec`, because a shell that waits for the program would receive Ctrl-C, too, and exit with 130.
    let line = format!("exec {program} run {model} --greedy --stats --context 4000 --system Brief.");
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-qec", &line, "/dev/null"]).env("TERM", "dumb").env("XDG_DATA_HOME", dir.path());
    let mut child = spawn(&mut script);
    let mut keys = child.stdin.take().expect("a pipe");
    let mut screen = child.stdout.take().expect("a pipe");
    let (mut seen, mut unread) = (String::new(), String::new());
    // Types, then reads until the screen shows `awaited`; the next step reads the rest.
    let mut step = |typed: &str, awaited: &str| {
        keys.write_all(typed.as_bytes()).expect("it reads");
        let end = loop {
            if let Some(at) = unread.find(awaited) {
                break at + awaited.len();
            }
            let mut bytes = [0; 1024];
            let n = screen.read(&mut bytes).expect("a screen");
            assert!(n > 0, "it ended before {awaited:?}: {seen}{unread}");
            unread += &String::from_utf8_lossy(&bytes[..n]);
        };
        seen.extend(unread.drain(..end));
    };
    step("", "> ");
    step("/help\r", "End a line with");
    step("/nonsense\r", "unknown command /nonsense");
    step("/system\r", "Brief.");
    step("Tell me a story\r", ". ");
    step("\u{3}", "[stopped]");
    step("", ", seed ");
    step("", "> ");
    step("/stats\r", "of 4000 tokens of the context are used");
    step(&format!("/save {model}\r"), "it is read");
    step(&format!("/save {saved}\r"), "Saved 3 messages to");
    step("\"\"\"two\r", "... ");
    step("lines\"\"\"\r", ". ");
    step("\u{3}", "[stopped]");
    step("", "from the cache");
    step("", "> ");
    step("/quit\r", "/quit");
    unread.clear();
    screen.read_to_string(&mut unread).expect("a screen");
    let ended = child.wait().expect("it ends");
    assert!(ended.success(), "{ended}: {seen}{unread}");
    let saved: Value = serde_json::from_str(&fs::read_to_string(saved).expect("the file")).expect("JSON");
    assert_eq!(saved["messages"][1], json!({ "role": "user", "content": "Tell me a story" }));
}
